//go:build net

package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/model"
)

// attributes are those of what the router was told of a prefix.
func (g *gateway) attributes(prefix string) string {
	if g.hears(prefix) == "none" {
		return "none"
	}
	for _, c := range g.routes {
		if p, ok := c.NLRI.Prefix(); ok && p.String() == prefix && len(c.Paths) > 0 {
			a := c.Paths[0].Attrs
			return fmt.Sprintf("as path %s med %d preference %d communities %x", a.ASPath, a.MED.Value, a.LocalPref.Value, a.Communities)
		}
	}
	return "none"
}

// TestNetBorderPolicy: routing policies decide what of a network is known outside,
// with which attributes, and what of a router gets into it.
func TestNetBorderPolicy(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 64512)
	mine := []string{"target:64500:1"}
	g.node("n1", "172.31.0.11", 1500)
	g.network("blue", 1, mine, nil)
	g.attach("b1", "blue", "n1", "10.0.0.3", 16)
	g.attach("b2", "blue", "n1", "10.0.0.4", 17)
	g.want("blue seen outside", "none", func() string { return g.hears("10.0.0.3/32") })

	// A policy that gives one route a target, and more, makes that one known.
	give := term("10.0.0.3/32", "exact", "accept")
	give.TermActionList.Update = &model.ActionUpdateType{
		LocalPref: new(int64(300)), MED: new(int64(7)), AsPath: &model.ActionAsPathType{Expand: &model.AsListType{ASNList: []int64{64600, 64601}}},
		Community:    &model.ActionCommunityType{Add: &model.CommunityListType{Community: []string{"64512:9"}}},
		Extcommunity: &model.ActionExtCommunityType{Add: &model.ExtCommunityListType{Community: mine}},
	}
	g.routingPolicy("p", give)
	g.filter("blue", "p", "1.0")
	g.want("the route seen outside", "as path 64600 64601 med 7 preference 300 communities [fc000009]", func() string { return g.attributes("10.0.0.3/32") })
	g.want("its targets", "true", func() string { return fmt.Sprint(strings.Contains(g.hears("10.0.0.3/32"), mine[0])) })
	g.want("the other", "none", func() string { return g.hears("10.0.0.4/32") })

	// What came from a router is known by its communities.
	announce := func(prefix string, community uint32) {
		attrs := &bgp.Attrs{NextHop: g.speaker.Peers()[0].Local, Communities: []uint32{community}, ExtCommunities: []bgp.ExtCommunity{bgp.ExtCommunity(bgp.NewRouteTarget(64500, 1)), 0x000200090000000b}}
		if err := g.speaker.Put(bgp.Route{NLRI: g.nlri(prefix), Label: 99, Attrs: attrs}); err != nil {
			t.Fatal(err)
		}
	}
	announce("10.7.0.0/24", 0xfc000001)
	announce("10.8.0.0/24", 0xfc000002)
	g.want("a way out", "bgp 10.99.0.2 label 99", func() string { return g.reaches(1, "10.7.0.0/24") })
	reject := term("", "", "reject")
	reject.TermMatchCondition = &model.TermMatchConditionType{Protocol: []string{"bgp"}, CommunityList: []string{"64512:1"}}
	g.routingPolicy("p", reject)
	g.want("the way out", "none", func() string { return g.reaches(1, "10.7.0.0/24") })
	g.want("the other way out", "bgp 10.99.0.2 label 99", func() string { return g.reaches(1, "10.8.0.0/24") })
	g.want("the route seen outside", "none", func() string { return g.hears("10.0.0.3/32") })
	reject.TermMatchCondition = &model.TermMatchConditionType{ExtcommunityList: []string{"target:9:11"}} // under which nobody imports
	g.routingPolicy("p", reject)
	g.want("the other way out", "none", func() string { return g.reaches(1, "10.8.0.0/24") })
	g.want("a container", "attachment 172.31.0.11 label 16", func() string { return g.reaches(1, "10.0.0.3/32") })
	g.unfilter("blue", "p")
	g.want("the way out", "bgp 10.99.0.2 label 99", func() string { return g.reaches(1, "10.7.0.0/24") })
}
