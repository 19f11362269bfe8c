package validate

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

func (c *checker) serviceTemplate(o *model.ServiceTemplate) {
	p := o.ServiceTemplateProperties
	if p == nil {
		return
	}
	const path = "service_template_properties"
	have := map[string]bool{}
	once(c, path+".interface_type", p.InterfaceType, func(t *model.ServiceTemplateInterfaceType) string { return t.ServiceInterfaceType }, "each interface once; number the others as other0, other1")
	for i, t := range p.InterfaceType {
		if t.ServiceInterfaceType == "" {
			c.bad(at("%s.interface_type[%d].service_interface_type", path, i), nil, "management, left, right or other with a number")
		}
		have[t.ServiceInterfaceType] = true
	}
	// Traffic goes in on one side and out on the other.
	if p.ServiceType == "" || p.ServiceType == "firewall" {
		for _, side := range []string{"left", "right"} {
			if p.ServiceMode != "" && len(p.InterfaceType) > 0 && !have[side] {
				c.bad(path+".interface_type", p.InterfaceType, "an interface %s, as service_mode is %s", side, p.ServiceMode)
			}
		}
	}
}

func (c *checker) serviceInstance(o *model.ServiceInstance) {
	const path = "service_instance_properties"
	templates := c.to(model.KindServiceTemplate)
	if len(templates) > 1 {
		c.bad("service_template_refs", c.nameOf(templates[1]), "one template")
	}
	p := o.ServiceInstanceProperties
	if p == nil {
		return
	}
	if p.ScaleOut != nil && p.ScaleOut.MaxInstances != nil && *p.ScaleOut.MaxInstances < 1 {
		c.bad(path+".scale_out.max_instances", *p.ScaleOut.MaxInstances, "at least 1")
	}
	for i, f := range p.InterfaceList {
		c.networkOf(at("%s.interface_list[%d].virtual_network", path, i), f.VirtualNetwork)
	}
	c.networkOf(path+".left_virtual_network", p.LeftVirtualNetwork)
	c.networkOf(path+".right_virtual_network", p.RightVirtualNetwork)
	c.networkOf(path+".management_virtual_network", p.ManagementVirtualNetwork)
	if len(templates) == 0 || len(p.InterfaceList) == 0 {
		return
	}
	found, _ := c.Neighbours.Find(model.KindServiceTemplate, templates[0].To.UUID)
	t, ok := found.(*model.ServiceTemplate)
	if ok && t.ServiceTemplateProperties != nil && len(t.ServiceTemplateProperties.InterfaceType) != len(p.InterfaceList) {
		c.bad(path+".interface_list", p.InterfaceList, "the %d interfaces of template %s, in its order", len(t.ServiceTemplateProperties.InterfaceType), t.Name())
	}
}

// networkOf checks the name of a network that an instance is put into; an
// empty one is chosen later.
func (c *checker) networkOf(path, name string) {
	if name == "" {
		return
	}
	if _, ok := c.Neighbours.ByName(model.KindVirtualNetwork, strings.Split(name, ":")); !ok {
		c.bad(path, name, "a network that exists, as domain:project:name")
	}
}

var (
	httpCodes = regexp.MustCompile(`^[1-5][0-9]{2}([-,][1-5][0-9]{2})*$`)
	tcpTarget = regexp.MustCompile(`^(tcp://)?(local-ip)?:[1-9][0-9]{0,4}$`)
	methods   = []string{"GET", "HEAD", "POST", "PUT", "OPTIONS"}
)

// probe is what all health checks have.
type probe struct {
	path                       string
	delay, timeout, retries    *int64
	usecs                      bool // delay and timeout may be in the smaller unit
	kind, method, codes, where string
}

func (c *checker) probe(p probe) {
	for _, n := range []struct {
		name  string
		value *int64
		least int64
	}{{"delay", p.delay, 1}, {"timeout", p.timeout, 1}, {"max_retries", p.retries, 1}} {
		if p.usecs && n.name != "max_retries" {
			continue
		}
		if n.value != nil && *n.value < n.least {
			c.bad(p.path+"."+n.name, *n.value, "at least %d", n.least)
		}
	}
	if p.kind == "" {
		c.bad(p.path+".monitor_type", nil, "how to check, such as PING")
	}
	if p.kind != "HTTP" && p.kind != "HTTPS" {
		return
	}
	if p.method != "" && !slices.Contains(methods, p.method) {
		c.bad(p.path+".http_method", p.method, "one of "+strings.Join(methods, ", "))
	}
	if p.codes != "" && !httpCodes.MatchString(p.codes) {
		c.bad(p.path+".expected_codes", p.codes, "codes such as 200, 200,202 or 200-204")
	}
	if p.where == "" || strings.HasPrefix(p.where, "/") {
		return
	}
	if u, err := url.Parse(p.where); err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "" || strings.ContainsAny(p.where, " \t\r\n") {
		c.bad(p.path+".url_path", p.where, "a path such as /health, or a URL of http or https")
	}
}

func (c *checker) serviceHealthCheck(o *model.ServiceHealthCheck) {
	p := o.ServiceHealthCheckProperties
	if p == nil {
		return
	}
	const path = "service_health_check_properties"
	c.probe(probe{
		path: path, delay: p.Delay, timeout: p.Timeout, retries: p.MaxRetries, kind: p.MonitorType,
		usecs:  value(p.DelayUsecs) > 0 || value(p.TimeoutUsecs) > 0,
		method: p.HTTPMethod, codes: p.ExpectedCodes, where: p.URLPath,
	})
	if p.MonitorType == "TCP" && !tcpTarget.MatchString(p.URLPath) {
		c.bad(path+".url_path", p.URLPath, "a port such as local-ip:8080, as monitor_type is TCP")
	}
	if p.MonitorType == "HTTP" && p.URLPath == "" {
		c.bad(path+".url_path", nil, "a path such as /health, as monitor_type is HTTP")
	}
	if p.HealthCheckType == "segment" && (p.MonitorType == "HTTP" || p.MonitorType == "TCP") {
		c.bad(path+".monitor_type", p.MonitorType, "PING or BFD, as health_check_type is segment")
	}
	before, ok := c.Before().(*model.ServiceHealthCheck)
	if ok && before.ServiceHealthCheckProperties != nil && before.ServiceHealthCheckProperties.HealthCheckType != p.HealthCheckType {
		c.bad(path+".health_check_type", p.HealthCheckType, "%s, as it was; create another health check", before.ServiceHealthCheckProperties.HealthCheckType)
	}
}

func (c *checker) healthMonitor(o *model.LoadbalancerHealthmonitor) {
	if p := o.LoadbalancerHealthmonitorProperties; p != nil {
		c.probe(probe{
			path: "loadbalancer_healthmonitor_properties", delay: p.Delay, timeout: p.Timeout, retries: p.MaxRetries,
			kind: p.MonitorType, method: p.HTTPMethod, codes: p.ExpectedCodes, where: p.URLPath,
		})
	}
}

func (c *checker) listener(o *model.LoadbalancerListener) {
	p := o.LoadbalancerListenerProperties
	if p == nil {
		return
	}
	const path = "loadbalancer_listener_properties"
	if p.Protocol == "" {
		c.bad(path+".protocol", nil, "HTTP, HTTPS, TCP, UDP or TERMINATED_HTTPS")
	}
	if p.ProtocolPort == nil {
		c.bad(path+".protocol_port", nil, "a port from 1 to 65535")
	}
	if p.Protocol == "TERMINATED_HTTPS" && p.DefaultTlsContainer == "" && len(p.SniContainers) == 0 {
		c.bad(path+".default_tls_container", nil, "where the certificate is, as protocol is TERMINATED_HTTPS")
	}
	if balancers := c.to(model.KindLoadbalancer); len(balancers) > 1 {
		c.bad("loadbalancer_refs", c.nameOf(balancers[1]), "one load balancer")
	}
}

func (c *checker) pool(o *model.LoadbalancerPool) {
	p := o.LoadbalancerPoolProperties
	if p == nil {
		return
	}
	const path = "loadbalancer_pool_properties"
	if p.Protocol == "" {
		c.bad(path+".protocol", nil, "HTTP, HTTPS, TCP or UDP")
	}
	c.persistence(path+".persistence_cookie_name", p.SessionPersistence, p.PersistenceCookieName)
}

func (c *checker) persistence(path, method, cookie string) {
	switch {
	case method == "APP_COOKIE" && cookie == "":
		c.bad(path, nil, "the name of the application's cookie, as sessions persist by APP_COOKIE")
	case method != "APP_COOKIE" && cookie != "":
		c.bad(path, cookie, "none, as sessions do not persist by APP_COOKIE")
	}
}

func (c *checker) member(o *model.LoadbalancerMember) {
	p := o.LoadbalancerMemberProperties
	if p == nil {
		return
	}
	const path = "loadbalancer_member_properties"
	if p.Address == "" {
		c.bad(path+".address", nil, "the address of the member")
	}
	if p.ProtocolPort == nil {
		c.bad(path+".protocol_port", nil, "a port from 1 to 65535")
	}
	for _, sibling := range c.Neighbours.Children(o.ParentUUID, model.KindLoadbalancerMember) {
		q := sibling.(*model.LoadbalancerMember).LoadbalancerMemberProperties
		if sibling.GetMeta().UUID != o.UUID && q != nil && q.Address == p.Address && value(q.ProtocolPort) == value(p.ProtocolPort) {
			c.bad(path+".address", p.Address, "an address and port that no other member of the pool has; %s has them", sibling.GetMeta().Name())
		}
	}
}

func (c *checker) virtualIP(o *model.VirtualIP) {
	p := o.VirtualIPProperties
	if p == nil {
		return
	}
	const path = "virtual_ip_properties"
	if p.Protocol == "" {
		c.bad(path+".protocol", nil, "HTTP, HTTPS, TCP or UDP")
	}
	if p.ProtocolPort == nil {
		c.bad(path+".protocol_port", nil, "a port from 1 to 65535")
	}
	c.persistence(path+".persistence_cookie_name", p.PersistenceType, p.PersistenceCookieName)
}
