package vrouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
)

// The classic port API on 9091, with the shapes and codes of old clients.

// classicPort is the body of POST /port.
type classicPort struct {
	ID          string `json:"id"`
	InstanceID  string `json:"instance-id"`
	NetworkID   string `json:"vn-id"`
	ProjectID   string `json:"vm-project-id"`
	DisplayName string `json:"display-name"`
	Address     string `json:"ip-address"`
	Address6    string `json:"ip6-address"`
	MAC         string `json:"mac-address"`
	SystemName  string `json:"system-name"`
	Type        int    `json:"type"`
}

// classicVM is the body of POST /vm.
type classicVM struct {
	ContainerID   string `json:"vm-id"`
	UUID          string `json:"vm-uuid"`
	Name          string `json:"vm-name"`
	HostInterface string `json:"host-ifname"`
	Interface     string `json:"vm-ifname"`
	Namespace     string `json:"vm-namespace"`
	InterfaceID   string `json:"vmi-uuid"`
}

var (
	classicID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	//lint:ignore ST1005 the text is the contract's
	errClassicGone = errors.New("Not Found")
)

func (a *Agent) portAPIHandler() http.Handler {
	mux := http.NewServeMux()
	byID := func(pattern string, do func(ctx context.Context, id string) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			id := r.PathValue("id")
			if !classicID.MatchString(id) {
				unknownRequest(w, r)
				return
			}
			answer, err := do(r.Context(), id)
			classicReply(w, answer, err)
		})
	}
	withBody := func(pattern string, do func(body []byte) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, portapi.MaxBody))
			if err == nil {
				err = do(body)
			}
			classicReply(w, struct{}{}, err)
		})
	}
	withBody("POST /port", a.postPorts)
	withBody("POST /vm", a.postVM)
	withBody("POST /syncports", func([]byte) error { a.checkLinks(context.Background()); a.ports.Resync(); return nil })
	byID("GET /port/{id}", a.getPort)
	byID("DELETE /port/{id}", a.deletePort)
	byID("GET /vm/{id}", a.getVM)
	byID("DELETE /vm/{id}", a.deleteVM)
	byID("GET /vm-cfg/{id}", a.getVMConfig)
	byID("PUT /enable-port/{id}", func(_ context.Context, id string) (any, error) { return a.setDisabled(id, false) })
	byID("PUT /disable-port/{id}", func(_ context.Context, id string) (any, error) { return a.setDisabled(id, true) })
	mux.HandleFunc("/", unknownRequest)
	return mux
}

func unknownRequest(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, "Unknown Request")
}

func classicReply(w http.ResponseWriter, answer any, err error) {
	code := http.StatusOK
	switch {
	case errors.Is(err, errClassicGone):
		code = http.StatusNotFound
	case err != nil:
		code = http.StatusInternalServerError
	}
	if err != nil {
		answer = map[string]string{"error": "{ " + err.Error() + " }"}
	}
	writeJSON(w, code, answer)
}

// parsePorts reads one port or several; one that is wrong spoils all.
func parsePorts(body []byte) ([]classicPort, error) {
	var ports []classicPort
	if json.Unmarshal(body, &ports) != nil {
		var one classicPort
		if err := json.Unmarshal(body, &one); err != nil {
			return nil, fmt.Errorf("body is neither a port nor a list of ports: %w", err)
		}
		ports = []classicPort{one}
	}
	for _, p := range ports {
		if err := p.validate(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

func (p classicPort) validate() error {
	for field, id := range map[string]string{"id": p.ID, "instance-id": p.InstanceID, "vn-id": p.NetworkID} {
		if !classicID.MatchString(id) {
			return fmt.Errorf("%s %q is no UUID in lower case", field, id)
		}
	}
	if p.SystemName == "" || len(p.SystemName) > 15 {
		return fmt.Errorf("system-name %q is no interface name of 1 to 15 characters", p.SystemName)
	}
	mac, err := net.ParseMAC(p.MAC)
	if err != nil || len(mac) != 6 || mac.String() == "00:00:00:00:00:00" {
		return fmt.Errorf("mac-address %q is none", p.MAC)
	}
	if _, err := netip.ParseAddr(p.Address); p.Address != "" && err != nil {
		return fmt.Errorf("ip-address %q is none", p.Address)
	}
	if p.Type != 0 && p.Type != 1 {
		return fmt.Errorf("type %d is not supported; 0 and 1 are", p.Type)
	}
	return nil
}

func (a *Agent) postPorts(body []byte) error {
	ports, err := parsePorts(body)
	if err != nil {
		return err
	}
	for _, p := range ports {
		r := &record{
			ID: p.ID, BootID: a.bootID, HostInterface: p.SystemName, VirtualMachineID: p.InstanceID,
			NetworkID: p.NetworkID, MAC: p.MAC, DisplayName: p.DisplayName,
			Classic: map[string]any{"vm-project-id": p.ProjectID, "type": p.Type, "author": a.config.Name, "time": time.Now().UTC().Format(time.RFC3339)},
		}
		if p.Address != "" {
			r.Addresses = []portapi.Address{{Address: p.Address}}
		}
		if err := a.addClassic(r); err != nil {
			return err
		}
	}
	return nil
}

// addClassic remembers a port and plugs it when the graph says where it
// belongs. One that is known already stays as it is.
func (a *Agent) addClassic(r *record) error {
	ctx, cancel := context.WithTimeout(context.Background(), portapi.DetachTimeout)
	defer cancel()
	_, end, err := a.registry.begin(ctx, r.key(), nil)
	if err != nil {
		return err
	}
	defer end()
	if a.registry.get(r.ID) != nil {
		return nil
	}
	if r.HostIndex, err = a.links.find(r.HostInterface); err != nil {
		return err
	}
	if err := a.files.write(r); err != nil {
		return err
	}
	a.registry.put(r)
	return nil
}

func (a *Agent) postVM(body []byte) error {
	var vm classicVM
	if err := json.Unmarshal(body, &vm); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if !classicID.MatchString(vm.UUID) {
		return fmt.Errorf("vm-uuid %q is no UUID in lower case", vm.UUID)
	}
	if vm.HostInterface == "" || len(vm.HostInterface) > 15 {
		return fmt.Errorf("host-ifname %q is no interface name of 1 to 15 characters", vm.HostInterface)
	}
	port := a.graphPortOf(vm.UUID, vm.InterfaceID)
	if port == nil {
		return errClassicGone
	}
	return a.addClassic(&record{
		ID: port.GetInterfaceId(), BootID: a.bootID, HostInterface: vm.HostInterface, NetnsPath: vm.Namespace,
		VirtualMachineID: vm.UUID, NetworkID: port.GetNetworkId(), MAC: port.GetMac(), DisplayName: vm.Name,
		Classic: map[string]any{"vm-id": vm.ContainerID, "vm-ifname": vm.Interface, "author": a.config.Name, "time": time.Now().UTC().Format(time.RFC3339)},
	})
}

// graphPortOf is the first interface of a virtual machine, or the one named.
func (a *Agent) graphPortOf(vm, interfaceID string) *controlv1.Port {
	var found *controlv1.Port
	for _, p := range a.routing.graphPorts() {
		if p.GetVirtualMachineId() != vm || interfaceID != "" && p.GetInterfaceId() != interfaceID {
			continue
		}
		if found == nil || p.GetInterfaceId() < found.GetInterfaceId() {
			found = p
		}
	}
	return found
}

func (a *Agent) getPort(_ context.Context, id string) (any, error) {
	r := a.registry.get(id)
	if r == nil {
		return nil, errClassicGone
	}
	return classicForm(r), nil
}

// classicForm has the fields of both /port and /vm.
func classicForm(r *record) map[string]any {
	form := map[string]any{
		"id": r.ID, "instance-id": r.VirtualMachineID, "display-name": r.DisplayName, "ip-address": "0.0.0.0", "plen": 0,
		"ip6-address": "::", "vn-id": r.NetworkID, "vm-project-id": "", "mac-address": r.MAC, "system-name": r.HostInterface,
		"type": 0, "rx-vlan-id": -1, "tx-vlan-id": -1, "vhostuser-mode": 0, "dns-server": "", "gateway": "", "author": "", "time": "",
	}
	// The first of each family; prefix and gateway are IPv4's where there is one.
	for _, a := range slices.Backward(r.Addresses) {
		if six := strings.Contains(a.Address, ":"); six {
			form["ip6-address"] = a.Address
		} else {
			form["ip-address"] = a.Address
		}
	}
	for _, a := range slices.Backward(r.Addresses) {
		if form["ip-address"] == a.Address || form["ip-address"] == "0.0.0.0" {
			form["plen"], form["dns-server"], form["gateway"] = a.PrefixLength, a.DNSServer, a.Gateway
		}
	}
	for _, field := range []string{"vm-project-id", "type", "author", "time"} {
		if v, ok := r.Classic[field]; ok {
			form[field] = v
		}
	}
	return form
}

func (a *Agent) deletePort(ctx context.Context, id string) (any, error) {
	r := a.registry.get(id)
	if r == nil {
		return struct{}{}, nil
	}
	if !r.isClassic() {
		return struct{}{}, a.detach(ctx, portapi.DetachRequest{
			ContainerID: r.ContainerID, Interface: r.Interface, Namespace: r.Namespace, Reason: "DELETE /port",
		})
	}
	_, end, err := a.registry.begin(ctx, r.key(), nil)
	if err != nil {
		return nil, err
	}
	defer end()
	if r := a.registry.get(id); r != nil {
		a.unplug(r)
	}
	return struct{}{}, nil
}

func (a *Agent) ofVM(id string) []*record {
	records, _ := a.registry.all()
	var mine []*record
	for _, r := range records {
		if r.VirtualMachineID == id {
			mine = append(mine, r)
		}
	}
	return mine
}

// getVM answers once the interface's address is known with its prefix.
func (a *Agent) getVM(_ context.Context, id string) (any, error) {
	for _, r := range a.ofVM(id) {
		if len(r.Addresses) > 0 && r.Addresses[0].PrefixLength != 0 {
			return classicForm(r), nil
		}
	}
	return nil, errClassicGone
}

func (a *Agent) deleteVM(ctx context.Context, id string) (any, error) {
	var failed error
	for _, r := range a.ofVM(id) {
		_, err := a.deletePort(ctx, r.ID)
		failed = errors.Join(failed, err)
	}
	return struct{}{}, failed
}

func (a *Agent) getVMConfig(_ context.Context, id string) (any, error) {
	p := a.graphPortOf(id, "")
	if p == nil {
		return nil, errClassicGone
	}
	return map[string]any{
		"id": p.GetInterfaceId(), "instance-id": id, "vn-id": p.GetNetworkId(), "mac-address": p.GetMac(),
		"sub-interface": false, "vlan-id": 0,
	}, nil
}

func (a *Agent) setDisabled(id string, disabled bool) (any, error) {
	r := a.registry.get(id)
	if r == nil {
		return nil, errClassicGone
	}
	end, free := a.registry.tryBegin(r.key())
	if !free {
		return nil, errors.New("the port is being changed; try again")
	}
	defer end()
	if a.registry.get(id) != r {
		return nil, errors.New("the port has been changed; try again")
	}
	next := *r
	next.Disabled = disabled
	a.update(r, &next)
	return struct{}{}, nil
}
