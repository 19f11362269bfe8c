//go:build net

package cni

import (
	"os"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

// An interface has its addresses and ways out at once, also where the node has IPv6
// turned off by default.
func TestNetConfigureBothFamilies(t *testing.T) {
	node, container := nstest.New(t, "node"), nstest.New(t, "container")
	node.DisableIPv6()
	container.DisableIPv6()
	answer := answerOf()
	answer.Addresses = append(answer.Addresses, portapi.Address{Address: "2001:db8::3", PrefixLength: 64, Gateway: "2001:db8::1"})
	node.Must(func() error {
		f, err := os.Open(container.Path())
		if err != nil {
			return err
		}
		id, err := namespaceID(int(f.Fd()))
		if err != nil {
			return err
		}
		ns := &namespace{file: f, id: id}
		defer ns.close()
		l, err := openLinks(ns)
		if err != nil {
			return err
		}
		defer l.close()
		if _, _, err := l.createVeth("c1", "eth0"); err != nil {
			return err
		}
		for range 2 { // the runtime may ask again
			link, err := l.configure("eth0", answer)
			if err != nil {
				return err
			}
			if err := l.addDefaultRoutes(link, answer.Addresses); err != nil {
				return err
			}
		}
		return nil
	})
	for command, want := range map[string]string{
		"ip -4 address show dev eth0":              "10.32.0.3/20",
		"ip -6 address show dev eth0 scope global": "2001:db8::3/64 scope global nodad",
		"ip -4 route show default":                 "default via 10.32.0.1 dev eth0",
		"ip -6 route show default":                 "default via 2001:db8::1 dev eth0",
		"sysctl net.ipv6.conf.eth0.accept_ra":      "= 0",
	} {
		args := strings.Fields(command)
		out, err := container.Run(args[0], args[1:]...)
		if err != nil || !strings.Contains(out, want) || strings.Contains(out, "tentative") {
			t.Errorf("%s: %v, want %q: %s", command, err, want, out)
		}
	}
	// Only that interface has it.
	if out, err := container.Run("sysctl", "net.ipv6.conf.default.disable_ipv6"); err != nil || !strings.Contains(out, "= 1") {
		t.Errorf("the default is %s, %v", out, err)
	}
}
