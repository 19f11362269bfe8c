package bgp

import (
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// md5Key sets the key for a peer on a socket (RFC 2385); an empty password
// takes it away.
func md5Key(raw syscall.RawConn, peer netip.Addr, password string) error {
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	// The address is a sockaddr: behind the family and the port, and the flow
	// of IPv6.
	family, at := uint16(unix.AF_INET), 2
	if peer.Is6() {
		family, at = unix.AF_INET6, 6
	}
	sig.Addr.Family = family
	for i, b := range peer.AsSlice() {
		sig.Addr.Data[at+i] = b
	}
	err := control(raw, func(fd int) error {
		return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
	})
	if err == unix.ENOENT && password == "" {
		err = nil // there was none
	}
	if err != nil {
		return fmt.Errorf("set TCP MD5 key for %s: %w", peer, err)
	}
	return nil
}

// hops are the time to live of packets sent, 0 for the kernel's, and the least
// of packets taken, 0 for any (RFC 5082).
type hops struct{ send, least int }

func (c *PeerConfig) hops(ebgp bool) hops {
	switch {
	case c.TTLSecurity > 0:
		return hops{255, 256 - int(c.TTLSecurity)}
	case c.Multihop > 0:
		return hops{int(c.Multihop), 0}
	case ebgp:
		return hops{1, 0}
	}
	return hops{}
}

func (h hops) set(raw syscall.RawConn, v6 bool) error {
	level, send, least := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
	if v6 {
		level, send, least = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	return control(raw, func(fd int) error {
		if h.send > 0 {
			if err := unix.SetsockoptInt(fd, level, send, h.send); err != nil {
				return fmt.Errorf("set TTL %d: %w", h.send, err)
			}
		}
		if h.least > 0 {
			if err := unix.SetsockoptInt(fd, level, least, h.least); err != nil {
				return fmt.Errorf("set least TTL %d: %w", h.least, err)
			}
		}
		return nil
	})
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}
