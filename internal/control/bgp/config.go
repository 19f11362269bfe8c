package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Config is what holds for all peers.
type Config struct {
	AS       uint32
	RouterID netip.Addr // IPv4
	// ClusterID names the reflector's cluster; without it the router id does.
	ClusterID netip.Addr
	// Listen are the addresses on which peers may connect.
	Listen []netip.AddrPort
	// RestartTime is how long peers shall keep our routes after the connection
	// is lost (RFC 4724); 0 turns graceful restart off, for us and as helper.
	RestartTime time.Duration
	// LongLived is how long after that they shall keep them as a last resort
	// (RFC 9494); 0 turns it off.
	LongLived time.Duration
	// Restarting says that an earlier process had sessions and that forwarding
	// went on since. Routes are held back until Release, so that peers do not
	// drop what is not there yet.
	Restarting bool
	// AlwaysCompareMED compares MED between different neighbouring ASes.
	AlwaysCompareMED bool
	// Claim is asked first about each connection that somebody began, and takes it
	// over by returning true; nil takes none.
	Claim   func(net.Conn) bool
	Log     *slog.Logger
	Network Network
}

// Network is where sockets come from; tests have namespaces.
type Network interface {
	Listen(ctx context.Context, config *net.ListenConfig, network, addr string) (net.Listener, error)
	Dial(ctx context.Context, dialer *net.Dialer, network, addr string) (net.Conn, error)
}

type hostNetwork struct{}

func (hostNetwork) Listen(ctx context.Context, config *net.ListenConfig, network, addr string) (net.Listener, error) {
	return config.Listen(ctx, network, addr)
}

func (hostNetwork) Dial(ctx context.Context, dialer *net.Dialer, network, addr string) (net.Conn, error) {
	return dialer.DialContext(ctx, network, addr)
}

func (c *Config) check() error {
	switch {
	case c.AS == 0:
		return errors.New("autonomous system 0 cannot be one's own; set a number from 1")
	case !c.RouterID.Is4() || c.RouterID.IsUnspecified():
		return fmt.Errorf("router id %s is not an IPv4 address", c.RouterID)
	case c.ClusterID.IsValid() && !c.ClusterID.Is4():
		return fmt.Errorf("cluster id %s is not an IPv4 address", c.ClusterID)
	case c.RestartTime < 0 || c.RestartTime > 4095*time.Second:
		return fmt.Errorf("restart time %s is out of range; set 0 to 4095 seconds", c.RestartTime)
	case c.LongLived < 0 || c.LongLived > (1<<24-1)*time.Second:
		return fmt.Errorf("long-lived stale time %s is out of range; set 0 to 16777215 seconds", c.LongLived)
	case c.LongLived > 0 && c.RestartTime == 0:
		return errors.New("long-lived graceful restart needs a restart time")
	}
	return nil
}

// PeerConfig is one peer as it is wanted. Two configurations that are equal
// are the same session.
type PeerConfig struct {
	Addr netip.Addr
	// Port is where the peer listens, 179 if 0.
	Port uint16
	// LocalAddr is the address that the session has here; without it the
	// kernel chooses.
	LocalAddr netip.Addr
	AS        uint32
	// LocalAS is shown to this peer instead of the speaker's, if not 0.
	LocalAS  uint32
	Families []Family
	Passive  bool
	// Disabled keeps the peer down; Message tells it why (RFC 9003).
	Disabled bool
	Message  string
	// Hold is the hold time to propose, 90 s if 0; Retry is the time between
	// attempts to connect, 10 s if 0.
	Hold, Retry time.Duration
	// Password is for TCP MD5 (RFC 2385).
	Password string
	// Client makes an iBGP peer a client for reflection (RFC 4456).
	Client bool
	// TTLSecurity is the distance in hops that packets may have come, 1 for a
	// neighbour (RFC 5082); 0 turns the check off. Multihop is the TTL towards
	// an eBGP peer that is no neighbour; without both an eBGP peer has to be
	// one.
	TTLSecurity, Multihop uint8
	// AllowOwnAS is how often the own AS may be in a received path.
	AllowOwnAS uint8
	// Prepend is how often the own AS is put before paths to an eBGP peer, in
	// addition to the once that has to be.
	Prepend uint8
	// NextHopSelf puts the session's own address into all routes. Towards eBGP
	// peers inet and inet6 routes have it anyway, unless NextHopUnchanged.
	NextHopSelf, NextHopUnchanged bool
	// Self4 and Self6 stand for the session's own address in routes, by family,
	// where the peer knows the speaker by others, and may have one of the speaker's
	// for its own. IPv4 inside IPv6 is possible.
	Self4, Self6 netip.Addr
	// ASOverride puts the own AS in the place of an eBGP peer's in the paths that it
	// is told, so that sites of one AS take each other's routes.
	ASOverride bool
	// PrivateAS is what becomes of private AS numbers in the paths that an eBGP peer
	// is told.
	PrivateAS PrivateAS
	// Origin, if set, is put in the place of the origin of routes from the peer.
	Origin Optional
	// Trusted keeps the communities that say who a workload is (security
	// group, tag, origin network, mobility). From others they are stripped.
	Trusted bool
	// MaxPrefixes bounds the routes taken from the peer, 1,000,000 if 0. One
	// more ends the session; after RestartAfter it may come again, if that is
	// 0 only with another configuration or Reset. With WarnOnly it is logged.
	// So ends a session whose routes have attributes beyond all measure.
	MaxPrefixes  int
	RestartAfter time.Duration
	WarnOnly     bool
	// Pace is how many bytes a second are read of the peer, beside a megabyte that is
	// read as fast as it comes; 0 for no bound.
	Pace int
	// AddPaths asks the peer for several paths of a route, and is how many are
	// taken (RFC 7911), at most MaxAddPaths; with 0 it is not asked. Of more the
	// first that come are kept, and when one of them goes the peer is asked to tell
	// its routes again.
	AddPaths int
}

// PrivateAS is what becomes of private AS numbers (RFC 6996) in paths. The peer's own
// number stays, so that the peer can see a loop.
type PrivateAS uint8

const (
	// KeepPrivate leaves them.
	KeepPrivate PrivateAS = iota
	// RemovePrivate takes out those in front of the first other number.
	RemovePrivate
	// RemoveAllPrivate takes out all.
	RemoveAllPrivate
	// ReplaceAllPrivate puts the own number in the place of all.
	ReplaceAllPrivate
)

// MaxAddPaths is the most paths of a route that are taken from a peer.
const MaxAddPaths = 64

// Defaults of a peer.
const (
	defaultPort        = 179
	defaultHold        = 90 * time.Second
	defaultRetry       = 10 * time.Second
	defaultMaxPrefixes = 1_000_000
)

// normal returns the configuration with its defaults filled in.
func (c PeerConfig) normal() PeerConfig {
	c.Addr = c.Addr.Unmap()
	c.Families = slices.Sorted(slices.Values(c.Families))
	if c.Port == 0 {
		c.Port = defaultPort
	}
	if c.Hold == 0 {
		c.Hold = defaultHold
	}
	if c.Retry == 0 {
		c.Retry = defaultRetry
	}
	if c.MaxPrefixes == 0 {
		c.MaxPrefixes = defaultMaxPrefixes
	}
	return c
}

// maxSetBytes bounds the attributes of a peer's routes: on average a route may
// have this many for itself alone, though many have theirs in common.
func (c *PeerConfig) maxSetBytes() int { return 1<<20 + 256*c.MaxPrefixes }

func (c *PeerConfig) equal(o *PeerConfig) bool { return reflect.DeepEqual(c, o) }

const maxPassword = 80 // TCP_MD5SIG_MAXKEYLEN

// check refuses what cannot work, given the speaker's own configuration.
func (c *PeerConfig) check(own *Config) error {
	ebgp := c.AS != own.AS
	if c.LocalAS != 0 {
		ebgp = c.AS != c.LocalAS
	}
	switch {
	case !c.Addr.IsValid() || c.Addr.IsUnspecified() || c.Addr.IsMulticast():
		return fmt.Errorf("address %s is no host's; set the peer's address", c.Addr)
	case slices.ContainsFunc(own.Listen, func(a netip.AddrPort) bool { return a.Addr().Unmap() == c.Addr }) ||
		c.Addr == own.RouterID && !c.Self4.IsValid() || c.LocalAddr.IsValid() && c.Addr == c.LocalAddr.Unmap():
		return fmt.Errorf("address %s is this speaker's own; set the peer's address", c.Addr)
	case c.LocalAddr.IsValid() && c.LocalAddr.Unmap().Is4() != c.Addr.Is4():
		return fmt.Errorf("local address %s and peer's address %s are of different kinds", c.LocalAddr, c.Addr)
	case c.AS == 0:
		return errors.New("autonomous system 0 is reserved; set the peer's number")
	case len(c.Families) == 0:
		return errors.New("no address families; list at least one")
	case c.Hold < 3*time.Second || c.Hold > 65535*time.Second:
		return fmt.Errorf("hold time %s is out of range; set 3 to 65535 seconds", c.Hold)
	case c.Hold%time.Second != 0:
		return fmt.Errorf("hold time %s is not in whole seconds", c.Hold)
	case c.Retry < 0 || c.RestartAfter < 0 || c.MaxPrefixes < 0 || c.Pace < 0:
		return errors.New("retry time, restart time, maximum of prefixes and pace cannot be negative")
	case c.Origin.Value > uint32(OriginIncomplete):
		return fmt.Errorf("origin %d is none; set %d to %d", c.Origin.Value, OriginIGP, OriginIncomplete)
	case c.PrivateAS > ReplaceAllPrivate:
		return fmt.Errorf("action %d for private AS numbers is not known", c.PrivateAS)
	case c.AddPaths < 0 || c.AddPaths > MaxAddPaths:
		return fmt.Errorf("%d paths of a route are out of range; set 0 to %d", c.AddPaths, MaxAddPaths)
	case len(c.Password) > maxPassword:
		return fmt.Errorf("password of %d bytes is too long; at most %d", len(c.Password), maxPassword)
	case c.Client && ebgp:
		return fmt.Errorf("reflection client of AS %d; clients are of the own AS", c.AS)
	case c.TTLSecurity != 0 && c.Multihop != 0:
		return errors.New("TTL security and multihop exclude each other; set one of them")
	}
	for i, f := range c.Families {
		if f.index() < 0 {
			return fmt.Errorf("address family %s cannot be exchanged", f)
		}
		if slices.Contains(c.Families[:i], f) {
			return fmt.Errorf("address family %s is listed twice", f)
		}
	}
	return nil
}
