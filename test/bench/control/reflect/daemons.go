package reflect

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	as   = 64512
	port = 179
	ours = "contrail"
)

var serverAddr = netip.MustParseAddr("10.88.0.1")

// clientAddr is the address of a sender (0) or receiver (from 1).
func clientAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, 0, byte(10 + n)}) }

// A variant is a speaker: command makes its process, with files in dir, for
// clients that will connect and are clients of reflection.
type variant struct {
	name    string
	command func(dir string, clients []netip.Addr) (*exec.Cmd, error)
}

func variants() []variant {
	return []variant{{ours, contrail}, {"frr", frr}, {"bird", bird}, {"gobgpd", gobgpd}}
}

func contrail(_ string, clients []netip.Addr) (*exec.Cmd, error) {
	args := []string{speakerCommand}
	for _, c := range clients {
		args = append(args, c.String())
	}
	return exec.Command("/proc/self/exe", args...), nil
}

func frr(dir string, clients []netip.Addr) (*exec.Cmd, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp default ipv4-unicast\n", as, serverAddr)
	for _, c := range clients {
		fmt.Fprintf(&b, " neighbor %s remote-as %d\n neighbor %s passive\n neighbor %s timers %d %d\n", c, as, c, c, holdSeconds/3, holdSeconds)
	}
	b.WriteString(" address-family ipv4 vpn\n")
	for _, c := range clients {
		fmt.Fprintf(&b, "  neighbor %s activate\n  neighbor %s route-reflector-client\n", c, c)
	}
	conf, err := file(dir, "bgpd.conf", b.String())
	return exec.Command("/usr/lib/frr/bgpd", "-f", conf, "-Z", "-n", "-S", "-l", serverAddr.String(), "--vty_socket", dir,
		"-i", filepath.Join(dir, "pid"), "-A", "127.0.0.1", "-u", "root", "-g", "root"), err
}

func bird(dir string, clients []netip.Addr) (*exec.Cmd, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "router id %s;\nvpn4 table vt;\nprotocol device {}\n", serverAddr)
	for i, c := range clients {
		fmt.Fprintf(&b, "protocol bgp client%d { local %s as %d; neighbor %s as %d; rr client; passive yes; "+
			"hold time %d; vpn4 mpls { table vt; import all; export all; }; }\n", i, serverAddr, as, c, as, holdSeconds)
	}
	conf, err := file(dir, "bird.conf", b.String())
	return exec.Command("/usr/sbin/bird", "-f", "-c", conf, "-s", filepath.Join(dir, "ctl")), err
}

func gobgpd(dir string, clients []netip.Addr) (*exec.Cmd, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "[global.config]\nas = %d\nrouter-id = %q\n", as, serverAddr)
	for _, c := range clients {
		fmt.Fprintf(&b, "[[neighbors]]\n[neighbors.config]\nneighbor-address = %q\npeer-as = %d\n"+
			"[neighbors.transport.config]\npassive-mode = true\n[neighbors.timers.config]\nhold-time = %d\nkeepalive-interval = %d\n"+
			"[neighbors.route-reflector.config]\nroute-reflector-client = true\nroute-reflector-cluster-id = %q\n"+
			"[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"l3vpn-ipv4-unicast\"\n", c, as, holdSeconds, holdSeconds/3, serverAddr)
	}
	conf, err := file(dir, "gobgpd.toml", b.String())
	return exec.Command("/usr/bin/gobgpd", "-f", conf, "--api-hosts", "127.0.0.1:50051"), err
}

func file(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}
