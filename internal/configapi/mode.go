package configapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
)

// modeSetting is the name of the setting that keeps the mode.
const modeSetting = "aaa-mode"

// Demanded tells whether the caller of an open listener has to show a token. It
// waits until the mode is known; only whether the API lives is told to anybody.
func (a *API) Demanded(r *http.Request) bool {
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return false
	}
	return a.waitReady(r.Context()) != nil || a.tenancy.Mode() != NoAuth
}

func (a *API) readMode(_ *http.Request) (*answer, error) {
	return &answer{at: a.graph.Position(), body: map[string]Mode{modeSetting: a.tenancy.Mode()}}, nil
}

// setMode sets the mode of the whole cluster. Root on the unix socket may
// always, so that nobody can lock himself out.
func (a *API) setMode(r *http.Request) (*answer, error) {
	if err := mayAdminister(r.Context()); err != nil {
		return nil, denied("Permission denied: the mode is set by a cloud-admin, and %s is none", serve.CallerOf(r.Context()))
	}
	var q map[string]Mode
	if err := body(r, &q); err != nil {
		return nil, err
	}
	mode, ok := q[modeSetting]
	if !ok || !mode.valid() {
		return nil, invalid("Bad Request, aaa-mode %q; want %s, %s or %s", brief(string(mode)), NoAuth, AdminOnly, RBAC)
	}
	at, err := a.write(r.Context(), audit{"set " + modeSetting, string(mode)}, func(c *change) error {
		if a.tenancy.Mode() != mode {
			c.Put(store.SettingKey(modeSetting), []byte(mode))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: map[string]Mode{modeSetting: mode}}, nil
}

// keepMode writes down the mode of a new cluster, so that all controllers have
// the same from then on, and its list of rules.
func (a *API) keepMode(ctx context.Context) error {
	_, err := a.write(ctx, audit{"set " + modeSetting, string(a.cfg.Mode)}, func(c *change) error {
		if a.tenancy.isSet() {
			return nil
		}
		c.Create(store.SettingKey(modeSetting), []byte(a.cfg.Mode))
		return nil
	})
	return err
}

// isSet tells whether somebody has set the mode.
func (t *tenancy) isSet() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mode != ""
}

// ruleSpec is a rule of the default list: who may do what with an object.
type ruleSpec struct {
	objects []string
	fields  []string
	perms   []model.RbacPermType
}

// defaultRules are what a new cluster's default-api-access-list says. Rights
// on one object still need its perms2. Fields that reach beyond a project, such
// as route targets, are the administrator's.
func defaultRules() *model.RbacRuleEntriesType {
	role := func(name, crud string) model.RbacPermType { return model.RbacPermType{RoleName: name, RoleCrud: crud} }
	cloud, admin, everyone := role(serve.CloudAdmin, "CRUD"), role("admin", "CRUD"), role(anything, "R")
	specs := []ruleSpec{
		{[]string{anything}, nil, []model.RbacPermType{cloud, admin, role("member", "R")}},
		{[]string{"fqname-to-id", "id-to-fqname"}, nil, []model.RbacPermType{role(anything, "CRUD")}},
		{[]string{
			"virtual-network", "network-ipam", "network-policy", "security-group", "virtual-machine-interface",
			"virtual-machine", "instance-ip", "floating-ip", "alias-ip", "route-table", "interface-route-table",
			"service-health-check", "port-tuple", "service-instance", "logical-router", "tag", "address-group",
			"service-group", "firewall-rule", "firewall-policy", "application-policy-set", "loadbalancer",
			"loadbalancer-listener", "loadbalancer-pool", "loadbalancer-member", "loadbalancer-healthmonitor",
			"security-logging-object",
		}, nil, []model.RbacPermType{cloud, admin, role("member", "CRUD")}},
		{[]string{"project", "domain"}, nil, []model.RbacPermType{cloud, role("admin", "RU"), everyone}},
		{[]string{"api-access-list"}, nil, []model.RbacPermType{cloud, everyone}},
		{[]string{anything}, []string{"perms2"}, []model.RbacPermType{cloud, admin, everyone}},
		{[]string{"project"}, []string{"quota"}, []model.RbacPermType{cloud, everyone}},
		{[]string{"virtual-network"}, []string{
			"route_target_list", "import_route_target_list", "export_route_target_list", "is_provider_network",
			"provider_properties", "virtual_network_network_id",
		}, []model.RbacPermType{cloud, everyone}},
		{[]string{"logical-router"}, []string{"configured_route_target_list"}, []model.RbacPermType{cloud, everyone}},
		{[]string{"bgpvpn"}, []string{"route_target_list", "import_route_target_list", "export_route_target_list"}, []model.RbacPermType{cloud, everyone}},
	}
	out := &model.RbacRuleEntriesType{}
	for _, s := range specs {
		for _, object := range s.objects {
			for _, field := range append(slices.Clone(s.fields), "")[:max(len(s.fields), 1)] {
				out.RbacRule = append(out.RbacRule, model.RbacRuleType{RuleObject: object, RuleField: field, RulePerms: s.perms})
			}
		}
	}
	return out
}

// defaultAccessList are the properties of the default list.
func defaultAccessList() string {
	data, err := json.Marshal(map[string]any{"api_access_list_entries": defaultRules()})
	if err != nil {
		return "{}" // it has no value that JSON lacks
	}
	return string(data)
}
