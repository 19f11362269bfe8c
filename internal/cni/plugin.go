package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// Versions of the CNI specification that the plugin speaks.
var versions = version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

const about = "contrail-cni: the CNI plugin of Contrail for Mesos"

// Run executes the command that the environment names and returns the exit
// code. It ends within 20 s (ADD) or 10 s (DEL), whatever hangs. It is called
// once per process.
func Run(stdout, stderr io.Writer) int {
	// skel compares the container's namespace with the plugin's only after the
	// command has run, and then fails a DEL whose path leads to a recycled
	// process. openNamespace does it before.
	if err := os.Setenv("CNI_NETNS_OVERRIDE", "true"); err != nil {
		return printError(stdout, "", types.NewError(types.ErrInternal, err.Error(), ""))
	}
	p := &plugin{stdout: stdout, stderr: stderr}
	bound := addBound
	if os.Getenv("CNI_COMMAND") == "DEL" {
		bound = delBound
	}
	done := make(chan *types.Error, 1)
	go func() {
		done <- skel.PluginMainFuncsWithError(skel.CNIFuncs{
			Add:    p.add,
			Del:    p.del,
			Check:  p.unsupported,
			GC:     p.unsupported,
			Status: p.status,
		}, versions, about)
	}()
	select {
	case err := <-done:
		if err == nil {
			return 0
		}
		return printError(stdout, p.version, err)
	case <-time.After(bound):
		return printError(stdout, "", types.NewError(types.ErrTryAgainLater,
			fmt.Sprintf("gave up after %v: the node does not answer in time; see the vRouter agent's log", bound), ""))
	}
}

// printError writes an error in the form of the specification, with the
// version that was asked for, which the library's own form lacks.
func printError(w io.Writer, cniVersion string, e *types.Error) int {
	if cniVersion == "" {
		cniVersion = version.Current()
	}
	form := struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
		Details    string `json:"details,omitempty"`
	}{cniVersion, e.Code, e.Msg, e.Details}
	if data, err := json.Marshal(form); err == nil {
		fmt.Fprintf(w, "%s\n", data)
	}
	return 1
}

type plugin struct {
	stdout, stderr io.Writer
	// version of the specification that the configuration asks for.
	version string
}

func (p *plugin) config(args *skel.CmdArgs) (*config, error) {
	c, err := parseConfig(args.StdinData)
	if c != nil {
		p.version = c.CNIVersion
	}
	return c, err
}

func (p *plugin) unsupported(args *skel.CmdArgs) error {
	if _, err := p.config(args); err != nil {
		return err
	}
	return types.NewError(types.ErrInvalidEnvironmentVariables,
		"CNI_COMMAND "+os.Getenv("CNI_COMMAND")+" is not implemented; ADD, DEL, STATUS and VERSION are", "")
}

func (p *plugin) status(args *skel.CmdArgs) error {
	c, err := p.config(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), delBound/2)
	defer cancel()
	var status portapi.Status
	if err := (agent{c.options.AgentSocket}).call(ctx, portapi.PathStatus, nil, &status); err != nil {
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
	}
	if !status.Ready {
		return types.NewError(types.ErrPluginNotAvailable, status.Message, "")
	}
	return nil
}

func (p *plugin) add(args *skel.CmdArgs) error {
	c, err := p.config(args)
	if err != nil {
		return err
	}
	sequence, err := portapi.Sequence()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.addTimeout()-rollBackWait)
	defer cancel()
	ns, err := openNamespace(args.Netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS: "+err.Error(), "")
	}
	defer ns.close()
	a := &attachment{config: c, args: args, namespace: ns, sequence: sequence}
	if a.links, err = openLinks(ns); err != nil {
		return err
	}
	defer a.links.close()
	data, err := a.add(ctx)
	if err != nil {
		if undo := a.rollBack(); undo != nil {
			fmt.Fprintf(p.stderr, "contrail-cni: roll back: %v\n", undo)
		}
		return cniError(err)
	}
	return printResult(p.stdout, c, data)
}

// del always succeeds once it has understood what to delete: a runtime does
// not call again. What the agent could not be told, it finds in
// its queue.
func (p *plugin) del(args *skel.CmdArgs) error {
	c, err := p.config(args)
	if err != nil {
		return err
	}
	request := portapi.DetachRequest{ContainerID: args.ContainerID, Interface: args.IfName, Reason: "CNI DEL"}
	// Without a clock the order is unknown, and DEL goes on.
	if request.Sequence, err = portapi.Sequence(); err != nil {
		fmt.Fprintf(p.stderr, "contrail-cni: %v\n", err)
	}
	// A path that leads nowhere, or to the node's own namespace, names none.
	ns, err := openNamespace(args.Netns)
	if err == nil {
		defer ns.close()
		request.Namespace = ns.id
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachWait)
	defer cancel()
	err = agent{c.options.AgentSocket}.call(ctx, portapi.PathDetach, request, &struct{}{})
	if err == nil {
		// The agent removes the pairs it knows; one of an ADD that was killed
		// on its way it does not.
		if err := deleteOwnPair(ns, request); err != nil {
			fmt.Fprintf(p.stderr, "contrail-cni: %v\n", err)
		}
		return nil
	}
	fmt.Fprintf(p.stderr, "contrail-cni: %v; the interface is removed here, and the agent is left a note in %s\n",
		err, c.options.DetachQueue)
	if err := detachAlone(c, ns, request); err != nil {
		fmt.Fprintf(p.stderr, "contrail-cni: %v\n", err)
	}
	return nil
}

// detachAlone does what it can without the agent: no packet passes any more,
// and the agent learns of it when it is back. ns is nil if the container's
// namespace is gone or unknown.
func detachAlone(c *config, ns *namespace, request portapi.DetachRequest) error {
	return errors.Join(queueDetach(c, request), deleteOwnPair(ns, request))
}

// deleteOwnPair leaves a pair alone that leads to another namespace than the
// one that DEL names: the same container has been added anew there.
func deleteOwnPair(ns *namespace, request portapi.DetachRequest) error {
	names := hostInterfaces(request.ContainerID, request.Interface)
	if ns == nil {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer handle.Close()
		var failed error
		for _, name := range names {
			failed = errors.Join(failed, deleteHostLink(handle, name))
		}
		return failed
	}
	l, err := openLinks(ns)
	if err != nil {
		return err
	}
	defer l.close()
	for _, name := range names {
		if host, err := l.host.LinkByName(name); err == nil && l.isPair(host, request.Interface) {
			return deleteHostLink(l.host, name)
		}
	}
	return nil
}

func queueDetach(c *config, request portapi.DetachRequest) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	request.BootID = string(boot[:max(0, len(boot)-1)])
	request.QueuedAt = time.Now().UTC()
	return portapi.WriteQueueFile(c.options.DetachQueue, request)
}
