package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// attachment is one ADD on its way.
type attachment struct {
	config    *config
	args      *skel.CmdArgs
	namespace *namespace
	links     *links
	hostName  string
	// sequence as of the beginning of the ADD.
	sequence uint64

	// created: the interface pair was made by this call.
	created bool
	// asked: the agent may have attached the container.
	asked bool
}

func (a *attachment) add(ctx context.Context) (*current.Result, error) {
	var err error
	if a.hostName, a.created, err = a.links.createVeth(a.args.ContainerID, a.args.IfName); err != nil {
		return nil, err
	}
	answer := &portapi.AttachResponse{}
	err = agent{a.config.options.AgentSocket}.call(ctx, portapi.PathAttach, portapi.AttachRequest{
		ContainerID:          a.args.ContainerID,
		Interface:            a.args.IfName,
		NetnsPath:            a.args.Netns,
		Namespace:            a.namespace.id,
		HostInterface:        a.hostName,
		NetworkConfiguration: a.args.StdinData,
		Sequence:             a.sequence,
	}, answer)
	var away *awayError
	a.asked = err == nil || errors.As(err, &away) && away.sent
	if err != nil {
		return nil, err
	}
	link, err := a.links.configure(a.args.IfName, answer)
	if err != nil {
		return nil, err
	}
	// Several networks of one container are added at the same time; the way
	// out is the first one's.
	isFirst := a.args.IfName == "eth0"
	if isFirst {
		if err := a.links.addDefaultRoutes(link, answer.Addresses); err != nil {
			return nil, err
		}
	}
	host, err := a.links.host.LinkByName(a.hostName)
	if err != nil {
		return nil, err
	}
	return newResult(a.config, answer, a.hostName, host.Attrs().HardwareAddr.String(), a.args.IfName, a.args.Netns, isFirst)
}

// rollBack undoes what this call did, and only that: a pair that was there
// before belongs to an ADD that succeeded. The runtime's DEL may follow or not.
func (a *attachment) rollBack() error {
	if !a.created {
		return nil
	}
	var told error
	if a.asked {
		ctx, cancel := context.WithTimeout(context.Background(), rollBackWait)
		defer cancel()
		request := portapi.DetachRequest{
			ContainerID: a.args.ContainerID,
			Interface:   a.args.IfName,
			Namespace:   a.namespace.id,
			Sequence:    a.sequence,
			Reason:      "ADD failed",
		}
		told = agent{a.config.options.AgentSocket}.call(ctx, portapi.PathDetach, request, &struct{}{})
		if told != nil {
			told = errors.Join(told, queueDetach(a.config, request))
		}
	}
	return errors.Join(told, deleteHostLink(a.links.host, a.hostName))
}
