package cni

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

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
	answer, err := a.ask(ctx)
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

// ask has the agent attach the container. The interface pair is made while the
// manager is asked; without it the agent takes back what it got.
func (a *attachment) ask(ctx context.Context) (*portapi.AttachResponse, error) {
	request, err := post(portapi.PathAttach, portapi.AttachRequest{
		ContainerID:          a.args.ContainerID,
		Interface:            a.args.IfName,
		NetnsPath:            a.args.Netns,
		Namespace:            a.namespace.id,
		NetworkConfiguration: a.args.StdinData,
		Sequence:             a.sequence,
	}, len(ready("")))
	if err != nil {
		return nil, err
	}
	to := agent{a.config.options.AgentSocket}
	conn, err := to.send(ctx, request)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if a.hostName, a.created, err = a.links.createVeth(a.args.ContainerID, a.args.IfName); err != nil {
		return nil, err
	}
	// An agent that refuses does not listen to the end: its answer says more
	// than the failure to write.
	_, unheard := conn.Write(ready(a.hostName))
	answer := &portapi.AttachResponse{}
	err = to.receive(conn, answer)
	var refusal *portapi.Error
	if unheard != nil && !errors.As(err, &refusal) {
		err = &awayError{socket: to.socket, err: unheard, sent: true}
	}
	return answer, err
}

// ready is the second part of the request. Its length is always the same, as
// the head of the request names it before the interface has its name.
func ready(hostName string) []byte {
	return fmt.Appendf(nil, "{\"host_interface\":%-*q}", unix.IFNAMSIZ+1, hostName)
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
