package reflect

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
)

// speakerCommand is the first argument with which the benchmark runs itself as
// the process that is measured.
const speakerCommand = "bgp-speaker"

// Main runs the speaker if that is what the process was started for, and
// reports whether it was. Arguments are the peers' addresses.
func Main(args []string) bool {
	if len(args) < 2 || args[0] != speakerCommand {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := speak(ctx, args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func speak(ctx context.Context, addrs []string) error {
	s, err := bgp.New(bgp.Config{
		AS: as, RouterID: serverAddr, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Listen: []netip.AddrPort{netip.AddrPortFrom(serverAddr, port)},
	})
	if err != nil {
		return err
	}
	peers := map[string]bgp.PeerConfig{}
	for _, a := range addrs {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return err
		}
		peers[a] = bgp.PeerConfig{
			Addr: addr, AS: as, Passive: true, Client: true, Families: []bgp.Family{bgp.VPNv4}, MaxPrefixes: 10_000_000,
		}
	}
	for _, err := range s.SetPeers(peers) {
		return err
	}
	return s.Run(ctx)
}
