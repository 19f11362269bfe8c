package box

import (
	"context"
	"errors"
	"net/http"
)

// bgpPort is where the controller listens for routers, on the fabric.
const bgpPort = 179

// controllerHost is the controller's name among controllers and BGP routers.
func (c *Config) controllerHost() string { return c.Name + "-controller" }

// ensureRouter makes the object that says that the controller is a BGP router,
// so that others only have to refer to it to be its peers. One that is there
// stays as it is: it may have been changed by hand.
func (c *Config) ensureRouter(ctx context.Context) error {
	api, err := socket(c.configSocket())
	if err != nil {
		return err
	}
	defer api.client.CloseIdleConnections()
	var system struct {
		Config struct {
			AS uint32 `json:"autonomous_system"`
		} `json:"global-system-config"`
	}
	if err := api.findByName(ctx, "global-system-config", []string{"default-global-system-config"}, &system); err != nil {
		return err
	}
	err = api.do(ctx, http.MethodPost, "/bgp-routers", map[string]any{"bgp-router": map[string]any{
		"parent_type": "routing-instance",
		"fq_name":     []string{"default-domain", "default-project", "ip-fabric", "__default__", c.controllerHost()},
		"bgp_router_parameters": map[string]any{
			"router_type": "control-node", "vendor": "contrail", "autonomous_system": system.Config.AS,
			"identifier": fabricAddress, "address": fabricAddress, "port": bgpPort,
			"address_families": map[string]any{"family": []string{"route-target", "inet-vpn", "inet6-vpn", "e-vpn"}},
		},
	}}, nil)
	if e := (*restError)(nil); errors.As(err, &e) && e.status == http.StatusConflict {
		return nil
	}
	return err
}

// findByName reads the object of a type with a name.
func (r rest) findByName(ctx context.Context, kind string, name []string, into any) error {
	var found struct {
		UUID string `json:"uuid"`
	}
	if err := r.do(ctx, http.MethodPost, "/fqname-to-id", map[string]any{"type": kind, "fq_name": name}, &found); err != nil {
		return err
	}
	return r.do(ctx, http.MethodGet, "/"+kind+"/"+found.UUID, nil, into)
}
