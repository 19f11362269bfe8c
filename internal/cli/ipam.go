package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/api/usageapi"
	"github.com/contrail-mesos/contrail/internal/model"
)

func (c *Client) usage(ctx context.Context, q url.Values) ([]usageapi.Network, error) {
	var out usageapi.Answer
	err := c.getJSON(ctx, "/ipam", q, &out)
	return out.Networks, err
}

// IPAMShow says how full the subnets of networks are, and with addresses set
// which addresses are not free.
func (c *Client) IPAMShow(ctx context.Context, w io.Writer, s Scope, names []string, addresses bool, output Output) error {
	q := url.Values{}
	if addresses {
		q.Set("addresses", "true")
	}
	t, _ := model.TypeOf(string(model.KindVirtualNetwork))
	list := []usageapi.Network{}
	for _, name := range names {
		id, err := c.resolve(ctx, t, s, name)
		if err != nil {
			return err
		}
		q.Set("network", id)
		one, err := c.usage(ctx, q)
		if err != nil {
			return err
		}
		list = append(list, one...)
	}
	if len(names) == 0 {
		all, err := c.usage(ctx, q)
		if err != nil {
			return err
		}
		for _, n := range all {
			if s.All || slices.Equal(projectOf(t, n.FQName), s.project()) {
				list = append(list, n)
			}
		}
	}
	if output == JSON {
		return writeJSON(w, list)
	}
	if addresses {
		return showAddresses(w, t, s, list)
	}
	rows := [][]string{s.networkTitles("SUBNET", "GATEWAY", "SIZE", "USED", "FREE", "RESTING")}
	for _, n := range list {
		for _, u := range n.Subnets {
			rows = append(rows, s.networkRow(t, n.FQName, u.Prefix, u.Gateway, number(u.Size), number(u.Used), number(u.Free), number(u.Resting)))
		}
	}
	return table(w, rows)
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func showAddresses(w io.Writer, t *model.Type, s Scope, list []usageapi.Network) error {
	rows := [][]string{s.networkTitles("ADDRESS", "STATE", "OWNER")}
	for _, n := range list {
		for _, a := range n.Addresses {
			rows = append(rows, s.networkRow(t, n.FQName, a.Address, a.State, ownerOf(a)))
		}
	}
	return table(w, rows)
}

// networkTitles are those of a table of networks, which may be of many projects.
func (s Scope) networkTitles(more ...string) []string {
	titles := append([]string{"NETWORK"}, more...)
	if s.All {
		titles = append([]string{"PROJECT"}, titles...)
	}
	return titles
}

// networkRow is a row below networkTitles.
func (s Scope) networkRow(t *model.Type, name []string, more ...string) []string {
	row := append([]string{s.display(t, name)}, more...)
	if s.All {
		row = append([]string{s.projectText(t, name)}, row...)
	}
	return row
}

// ownerOf is who has the address, as a person knows it.
func ownerOf(a usageapi.Address) string {
	if a.Type == "" {
		return a.Owner
	}
	return a.Type + " " + model.FQString(a.Name)
}

// holder is who has an address in one network.
type holder struct {
	Network string `json:"network"`
	usageapi.Address
	Interfaces []string `json:"interfaces,omitempty"`
	Machines   []string `json:"machines,omitempty"`
	Nodes      []string `json:"nodes,omitempty"`
}

// IPAMWho says who has an address, in whatever network. The error is set when
// nobody has it.
func (c *Client) IPAMWho(ctx context.Context, w io.Writer, text string, output Output) error {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("%q is no IPv4 or IPv6 address", text)
	}
	networks, err := c.usage(ctx, url.Values{"address": {address.String()}})
	if err != nil {
		return err
	}
	holders := []holder{}
	for _, n := range networks {
		for _, a := range n.Addresses {
			h := holder{Network: model.FQString(n.FQName), Address: a}
			if err := c.locate(ctx, &h); err != nil {
				return err
			}
			holders = append(holders, h)
		}
	}
	if output == JSON {
		err = writeJSON(w, holders)
	} else if len(holders) > 0 {
		rows := [][]string{{"NETWORK", "STATE", "OWNER", "INTERFACE", "MACHINE", "NODE"}}
		for _, h := range holders {
			rows = append(rows, []string{
				h.Network, h.State, ownerOf(h.Address), or(strings.Join(h.Interfaces, ",")), or(strings.Join(h.Machines, ",")), or(strings.Join(h.Nodes, ",")),
			})
		}
		err = table(w, rows)
	}
	if err == nil && len(holders) == 0 {
		err = fmt.Errorf("nobody has %s, and it is not at rest; `contrail ipam show -A` lists the subnets", address)
	}
	return err
}

// locate finds interfaces, machines and nodes of who has an address. What went
// away meanwhile is left out.
func (c *Client) locate(ctx context.Context, h *holder) error {
	if h.State != usageapi.Used || h.Type == "" {
		return nil
	}
	owner, err := c.readFields(ctx, model.Kind(h.Type), h.Owner, "virtual_machine_interface_refs")
	if err != nil {
		return err
	}
	for _, i := range owner.links("virtual_machine_interface_refs") {
		h.Interfaces = append(h.Interfaces, i.name())
		port, err := c.readFields(ctx, model.KindVirtualMachineInterface, i.UUID, "virtual_machine_refs")
		if err != nil {
			return err
		}
		for _, m := range port.links("virtual_machine_refs") {
			h.Machines = append(h.Machines, m.name())
			machine, err := c.readFields(ctx, model.KindVirtualMachine, m.UUID, "virtual_router_back_refs")
			if err != nil {
				return err
			}
			if nodes := machine.shorts("virtual_router_back_refs"); nodes != "" {
				h.Nodes = append(h.Nodes, nodes)
			}
		}
	}
	return nil
}

// readFields reads some fields of an object; an object that is gone has none.
func (c *Client) readFields(ctx context.Context, kind model.Kind, id, fields string) (object, error) {
	t, ok := model.TypeOf(string(kind))
	if !ok {
		return nil, nil
	}
	o, _, err := c.read(ctx, t, id, url.Values{"fields": {fields}})
	if isNotFound(err) {
		return nil, nil
	}
	return o, err
}

// Finding is something that does not fit together.
type Finding struct {
	Network string `json:"network,omitempty"`
	Address string `json:"address"`
	Owner   string `json:"owner"`
	Problem string `json:"problem"`
}

// ErrFindings is the error of IPAMCheck when something does not fit together.
var ErrFindings = errors.New("addresses do not fit to the objects; see the problems above")

// IPAMCheck compares what is given out with the objects that have addresses and
// with what is attached. Objects change while it reads: only what is found
// twice is a finding.
func (c *Client) IPAMCheck(ctx context.Context, w io.Writer, output Output) error {
	first, checked, err := c.findings(ctx)
	if err != nil {
		return err
	}
	both := []Finding{}
	if len(first) > 0 {
		again, _, err := c.findings(ctx)
		if err != nil {
			return err
		}
		for _, f := range first {
			if slices.Contains(again, f) {
				both = append(both, f)
			}
		}
	}
	if output == JSON {
		err = writeJSON(w, struct {
			Checked  int       `json:"checked"`
			Findings []Finding `json:"findings"`
		}{checked, both})
	} else {
		err = showFindings(w, both, checked)
	}
	if err == nil && len(both) > 0 {
		err = ErrFindings
	}
	return err
}

func showFindings(w io.Writer, list []Finding, checked int) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(w, "%d addresses are in use, and each has its owner\n", checked)
		return err
	}
	rows := [][]string{{"NETWORK", "ADDRESS", "OWNER", "PROBLEM"}}
	for _, f := range list {
		rows = append(rows, []string{or(f.Network), f.Address, f.Owner, f.Problem})
	}
	return table(w, rows)
}

// claim is an address that an object or an attachment says it has.
type claim struct{ owner, address string }

// findings reads everything once. checked is how many addresses are in use.
func (c *Client) findings(ctx context.Context) (list []Finding, checked int, err error) {
	networks, err := c.usage(ctx, url.Values{"addresses": {"true"}})
	if err != nil {
		return nil, 0, err
	}
	given := map[claim]bool{}
	for _, n := range networks {
		for _, a := range n.Addresses {
			if a.State != usageapi.Used || given[claim{a.Owner, a.Address}] {
				continue // networks of one flat IPAM show the same addresses
			}
			given[claim{a.Owner, a.Address}] = true
			if a.Type == "" {
				list = append(list, Finding{model.FQString(n.FQName), a.Address, a.Owner, "it is in use by an object that does not exist: a leak"})
			}
		}
	}
	claims, err := c.claims(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range claims {
		if !given[claim{f.Owner, f.Address}] {
			list = append(list, f)
		}
	}
	return list, len(given), nil
}

// claims are the addresses that objects and attachments say they have, each as
// the finding that it is if it is not given out to them.
func (c *Client) claims(ctx context.Context) ([]Finding, error) {
	var list []Finding
	for kind, field := range map[model.Kind]string{
		model.KindInstanceIP: "instance_ip_address", model.KindFloatingIP: "floating_ip_address", model.KindAliasIP: "alias_ip_address",
	} {
		t, _ := model.TypeOf(string(kind))
		err := c.list(ctx, t, url.Values{"fields": {field + ",virtual_network_refs"}}, func(o object) error {
			if address := o.text(field); address != "" {
				list = append(list, Finding{o.shorts("virtual_network_refs"), canonicalAddress(address), o.uuid(), string(kind) + " has it, and it is not given out to it: others may get it"})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var inventory struct {
		Attachments []struct {
			NetworkFQName []string `json:"networkFqName"`
			Addresses     []struct {
				Address      string `json:"address"`
				InstanceIPID string `json:"instanceIpId"`
			} `json:"addresses"`
		} `json:"attachments"`
	}
	if err := c.getJSON(ctx, "/inventory", nil, &inventory); err != nil {
		return nil, err
	}
	for _, a := range inventory.Attachments {
		for _, address := range a.Addresses {
			list = append(list, Finding{model.FQString(a.NetworkFQName), canonicalAddress(address.Address), address.InstanceIPID, "a container has it, and it is not given out to it: others may get it"})
		}
	}
	return list, nil
}

func canonicalAddress(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String()
	}
	return text
}
