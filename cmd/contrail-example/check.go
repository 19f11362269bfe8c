package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// check asks one address in one or more ways; none given means all.
type check struct {
	icmp, tcp, udp bool
	timeout        time.Duration
}

func (c check) run(ctx context.Context, address string) error {
	ip := net.ParseIP(address)
	if ip == nil {
		return fmt.Errorf("%q is no address", address)
	}
	all := !c.icmp && !c.tcp && !c.udp
	var errs []error
	for _, way := range []struct {
		name   string
		wanted bool
		ask    func(context.Context, net.IP) error
	}{{"icmp", c.icmp, askICMP}, {"tcp", c.tcp, askTCP}, {"udp", c.udp, askUDP}} {
		if !all && !way.wanted {
			continue
		}
		limit, cancel := context.WithTimeout(ctx, c.timeout)
		began := time.Now()
		err := way.ask(limit, ip)
		cancel()
		if err != nil {
			fmt.Printf("%s %s failed: %v\n", way.name, address, err)
			errs = append(errs, fmt.Errorf("%s to %s: %w", way.name, address, err))
			continue
		}
		fmt.Printf("%s %s ok %s\n", way.name, address, time.Since(began).Round(time.Microsecond))
	}
	return errors.Join(errs...)
}

// resend is how often a datagram without an answer is sent again.
const resend = 200 * time.Millisecond

// echo is how a family asks for one and is answered.
type echo struct {
	network, from string
	asks, answers icmp.Type
}

var (
	echo4 = echo{"ip4:icmp", "0.0.0.0", ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	echo6 = echo{"ip6:ipv6-icmp", "::", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

func askICMP(ctx context.Context, ip net.IP) error {
	kind := echo6
	if ip.To4() != nil {
		kind = echo4
	}
	conn, err := icmp.ListenPacket(kind.network, kind.from)
	if err != nil {
		return err
	}
	defer conn.Close()
	payload := nonce()
	id := os.Getpid() & 0xffff
	request, err := (&icmp.Message{
		Type: kind.asks, Body: &icmp.Echo{ID: id, Seq: 1, Data: payload},
	}).Marshal(nil)
	if err != nil {
		return err
	}
	to := &net.IPAddr{IP: ip}
	return exchange(ctx, conn, func() error { _, err := conn.WriteTo(request, to); return err }, func(data []byte, from net.Addr) bool {
		answer, err := icmp.ParseMessage(kind.asks.Protocol(), data)
		if err != nil || answer.Type != kind.answers || from.String() != ip.String() {
			return false
		}
		echo, ok := answer.Body.(*icmp.Echo)
		return ok && echo.ID == id && bytes.Equal(echo.Data, payload)
	})
}

func askUDP(ctx context.Context, ip net.IP) error {
	conn, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return err
	}
	defer conn.Close()
	payload := nonce()
	to := &net.UDPAddr{IP: ip, Port: echoPort}
	return exchange(ctx, conn, func() error { _, err := conn.WriteTo(payload, to); return err }, func(data []byte, from net.Addr) bool {
		return bytes.Equal(data, payload) && from.String() == to.String()
	})
}

// exchange sends until the answer comes or ctx ends.
func exchange(ctx context.Context, conn net.PacketConn, send func() error, isAnswer func([]byte, net.Addr) bool) error {
	buf := make([]byte, 64<<10)
	for {
		if err := send(); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(resend)); err != nil {
			return err
		}
		for {
			n, from, err := conn.ReadFrom(buf)
			if err == nil && isAnswer(buf[:n], from) {
				return nil
			}
			if ctx.Err() != nil {
				return errors.New("no answer")
			}
			if err != nil {
				break
			}
		}
	}
}

func askTCP(ctx context.Context, ip net.IP) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(echoPort)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	payload := nonce()
	if _, err := conn.Write(payload); err != nil {
		return err
	}
	answer := make([]byte, len(payload))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, payload) {
		return errors.New("answered something else")
	}
	return nil
}

func nonce() []byte { return []byte(rand.Text()) }
