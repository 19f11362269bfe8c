package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// TraceQuery is the connection that a trace is about.
type TraceQuery struct {
	// Source and Destination are names that vRouter agents know ports by, or
	// addresses; the destination may be anybody's address.
	Source, Destination string
	// Protocol is a name or number, Port the destination's; of ICMP the type.
	// Empty ports are those that the agent takes.
	Protocol, Port, SourcePort string
	// Size of the IP packet in bytes; empty for one that fits.
	Size string
	// Family is inet or inet6, for ends that have addresses of both; empty for the
	// first that both have.
	Family string
}

// TraceResult is what becomes of a connection's first packet, and of the answer.
type TraceResult struct {
	// Verdict is that of the last node that was asked.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	// Hops are the nodes on the way, and Answer those on the way back.
	Hops   []vrouterapi.Trace `json:"hops"`
	Answer []vrouterapi.Trace `json:"answer,omitempty"`
	// AnswerVerdict is empty where nothing is answered by a container.
	AnswerVerdict string `json:"answer_verdict,omitempty"`
	AnswerReason  string `json:"answer_reason,omitempty"`
	// Beyond is the end of the tunnel whose agent was not asked, or said nothing.
	Beyond string `json:"beyond,omitempty"`
}

// traceEnd is a port that was found by a name.
type traceEnd struct {
	agent int
	vif   vrouterapi.Vif
}

// Trace tells which way a connection would take.
func (v *VRouter) Trace(ctx context.Context, w io.Writer, q TraceQuery, output Output) error {
	result, err := v.trace(ctx, q)
	if err != nil {
		return err
	}
	if output == JSON {
		return writeIndented(w, result)
	}
	return writeTrace(w, result)
}

func (v *VRouter) trace(ctx context.Context, q TraceQuery) (*TraceResult, error) {
	src, err := v.findEnd(ctx, q.Source)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	source, destination, err := v.traceAddresses(ctx, q, src)
	if err != nil {
		return nil, err
	}
	ask := url.Values{
		vrouterapi.ParamVif: {strconv.Itoa(src.vif.Vif)}, vrouterapi.ParamSource: {source.String()}, vrouterapi.ParamDestination: {destination.String()},
		vrouterapi.ParamProtocol: {q.Protocol},
	}
	for param, value := range map[string]string{vrouterapi.ParamPort: q.Port, vrouterapi.ParamSourcePort: q.SourcePort, vrouterapi.ParamSize: q.Size} {
		if value != "" {
			ask.Set(param, value)
		}
	}
	result := &TraceResult{}
	var last *vrouterapi.Trace
	end := src.agent
	if last, end, result.Beyond, err = v.follow(ctx, src.agent, ask, &result.Hops); err != nil {
		return nil, err
	}
	result.Verdict, result.Reason = last.Verdict, last.Reason
	if last.Verdict != vrouterapi.VerdictDelivered {
		return result, nil
	}
	back := answerTo(&result.Hops[0], last)
	if back == nil {
		return result, nil
	}
	answer, _, _, err := v.follow(ctx, end, back, &result.Answer)
	if err != nil {
		return nil, err
	}
	result.AnswerVerdict, result.AnswerReason = answer.Verdict, answer.Reason
	return result, nil
}

// follow asks the agent at one end, and where the packet leaves by tunnel the one
// at the other end. It returns what the last one said, who that is, and the node
// that could not be asked.
func (v *VRouter) follow(ctx context.Context, agent int, ask url.Values, hops *[]vrouterapi.Trace) (last *vrouterapi.Trace, at int, beyond string, err error) {
	var first vrouterapi.Trace
	if err := v.askOne(ctx, agent, vrouterapi.PathTrace, ask, &first); err != nil {
		return nil, 0, "", err
	}
	*hops = append(*hops, first)
	if first.Verdict != vrouterapi.VerdictTunnel || first.NextHop == nil {
		return &first, agent, "", nil
	}
	n := first.NextHop
	arrival := url.Values{
		vrouterapi.ParamNode: {n.Remote}, vrouterapi.ParamOuter: {first.NodeAddress}, vrouterapi.ParamEncapsulation: {n.Encapsulation},
		vrouterapi.ParamLabel: {strconv.Itoa(int(n.Label))}, vrouterapi.ParamVNI: {strconv.Itoa(int(n.VNI))}, vrouterapi.ParamMAC: {n.MAC},
		vrouterapi.ParamSource: {first.SourceAs}, vrouterapi.ParamDestination: {first.DestinationAs}, vrouterapi.ParamProtocol: {first.Protocol},
		vrouterapi.ParamSourcePort: {strconv.Itoa(int(first.SourcePort))}, vrouterapi.ParamPort: {strconv.Itoa(int(first.DestinationPort))},
	}
	if asked := ask.Get(vrouterapi.ParamAsked); asked != "" {
		arrival.Set(vrouterapi.ParamAsked, asked)
	}
	for i, a := range v.askAll(ctx, vrouterapi.PathTraceArrival, arrival) {
		if a.err != nil {
			if err := agentError(a.err); isMissing(err) || len(v.agents) > 1 {
				continue // it is another node, or away
			}
			return nil, 0, "", agentError(a.err)
		}
		var second vrouterapi.Trace
		if err := json.Unmarshal(a.data, &second); err != nil {
			return nil, 0, "", agentForm(v.agents[i], err)
		}
		*hops = append(*hops, second)
		return &second, i, "", nil
	}
	return &first, agent, n.Remote, nil
}

func (v *VRouter) askOne(ctx context.Context, agent int, path string, q url.Values, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	data, _, err := v.agents[agent].send(ctx, "GET", path, q, nil, nil)
	if err != nil {
		return agentError(err)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return agentForm(v.agents[agent], err)
	}
	return nil
}

// answerTo is what the receiver sends back; nil for what has no answer.
func answerTo(first, last *vrouterapi.Trace) url.Values {
	sport, dport := last.DestinationPort, last.SourcePort
	if strings.HasPrefix(last.Protocol, "icmp") {
		reply, ok := map[string]map[uint16]uint16{"icmp": {8: 0, 13: 14}, "icmp6": {128: 129}}[last.Protocol][last.DestinationPort]
		if !ok {
			return nil
		}
		sport, dport = last.SourcePort, reply
	}
	return url.Values{
		vrouterapi.ParamVif: {strconv.Itoa(last.NextHop.Vif)}, vrouterapi.ParamSource: {last.DestinationAs},
		vrouterapi.ParamDestination: {last.SourceAs}, vrouterapi.ParamProtocol: {last.Protocol},
		vrouterapi.ParamSourcePort: {strconv.Itoa(int(sport))}, vrouterapi.ParamPort: {strconv.Itoa(int(dport))},
		vrouterapi.ParamAsked: {first.Destination},
	}
}

// findEnd finds the port that somebody calls by a name.
func (v *VRouter) findEnd(ctx context.Context, name string) (traceEnd, error) {
	var found []traceEnd
	var nodes []string
	var errs []error
	for i, a := range v.askAll(ctx, vrouterapi.PathVifs, url.Values{vrouterapi.ParamVif: {name}}) {
		var vifs vrouterapi.Vifs
		switch {
		case a.err != nil:
			errs = append(errs, agentError(a.err))
		case json.Unmarshal(a.data, &vifs) == nil:
			for _, f := range vifs.Vifs {
				if f.Type == "virtual" {
					found, nodes = append(found, traceEnd{i, f}), append(nodes, fmt.Sprintf("%s vif %d", a.node, f.Vif))
				}
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if len(errs) > 0 {
			return traceEnd{}, errs[0] // the others say the same
		}
		return traceEnd{}, fmt.Errorf("no container is called %s", name)
	}
	return traceEnd{}, fmt.Errorf("%s is at %s; name the container or the UUID of the port", name, strings.Join(nodes, " and at "))
}

// traceAddresses are those of the two ends, of one family.
func (v *VRouter) traceAddresses(ctx context.Context, q TraceQuery, src traceEnd) (source, destination netip.Addr, err error) {
	var to []netip.Addr
	if a, err := netip.ParseAddr(q.Destination); err == nil {
		to = []netip.Addr{a.Unmap()}
	} else {
		dst, err := v.findEnd(ctx, q.Destination)
		if err != nil {
			return source, destination, fmt.Errorf("destination: %w", err)
		}
		to = parsed(dst.vif.Addresses)
	}
	from := parsed(src.vif.Addresses)
	if a, err := netip.ParseAddr(q.Source); err == nil {
		from = []netip.Addr{a.Unmap()}
	}
	wanted := func(a netip.Addr) bool { return q.Family == "" || (q.Family == "inet") == a.Is4() }
	for _, d := range to {
		for _, s := range from {
			if s.Is4() == d.Is4() && wanted(s) {
				return s, d, nil
			}
		}
	}
	return source, destination, fmt.Errorf("%s and %s have no addresses of the same family%s", q.Source, q.Destination, strings.TrimSuffix(" "+q.Family, " "))
}

func parsed(texts []string) (list []netip.Addr) {
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}

// writeTrace writes the steps of each node, and what comes of it.
func writeTrace(w io.Writer, r *TraceResult) error {
	rows := [][]string{{"NODE", "STEP", "WHAT"}}
	for _, way := range []struct {
		hops []vrouterapi.Trace
		mark string
	}{{r.Hops, ""}, {r.Answer, " (answer)"}} {
		for _, h := range way.hops {
			for _, s := range h.Steps {
				rows = append(rows, []string{h.Node + way.mark, s.Step, s.Text})
			}
		}
	}
	first := r.Hops[0]
	_, err := fmt.Fprintf(w, "%s %s -> %s\n", first.Protocol, flowEnd(first.Protocol, first.Source, first.SourcePort, "id"), flowEnd(first.Protocol, first.Destination, first.DestinationPort, "type"))
	if err := errors.Join(err, table(w, rows)); err != nil {
		return err
	}
	text := verdictText(r.Verdict, r.Reason)
	switch {
	case r.Beyond != "":
		text = fmt.Sprintf("leaves for %s, whose agent was not asked or does not answer", r.Beyond)
	case r.AnswerVerdict != "":
		text += "; its answer " + verdictText(r.AnswerVerdict, r.AnswerReason)
	}
	_, err = fmt.Fprintln(w, text)
	last := r.Hops[len(r.Hops)-1]
	if len(r.Answer) > 0 && r.AnswerReason != "" {
		last = r.Answer[len(r.Answer)-1]
	}
	if last.Advice != "" && err == nil {
		_, err = fmt.Fprintln(w, last.Advice)
	}
	return err
}

func verdictText(verdict, reason string) string {
	switch verdict {
	case vrouterapi.VerdictDelivered:
		return "is delivered"
	case vrouterapi.VerdictTunnel:
		return "leaves by tunnel"
	case vrouterapi.VerdictRouter:
		return "is answered by the router"
	case vrouterapi.VerdictFabric:
		return "leaves as the node's own"
	case vrouterapi.VerdictDropped:
		return "is dropped: " + reason
	}
	return "cannot be told"
}
