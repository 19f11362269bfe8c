package model

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func isMAC(s string) bool {
	hw, err := net.ParseMAC(s)
	return err == nil && len(hw) == 6
}

func isPrefix(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}

var esi = regexp.MustCompile(`^([0-9a-fA-F]{2}:){9}[0-9a-fA-F]{2}$`)

// isESI knows the form of RFC 7432 section 5.
func isESI(s string) bool { return esi.MatchString(s) }

// wellKnownCommunities have names: RFC 1997, RFC 9494, RFC 7611.
var wellKnownCommunities = []string{
	"no-export", "no-advertise", "no-export-subconfed", "llgr-stale", "no-llgr", "accept-own", "accept-own-nexthop", "no-reoriginate",
}

var hexCommunity = regexp.MustCompile(`^0x[0-9a-fA-F]{1,8}$`)

// isCommunity knows the forms of RFC 1997: two numbers of 16 bits, one of 32,
// or a name.
func isCommunity(s string) bool {
	if slices.Contains(wellKnownCommunities, s) || hexCommunity.MatchString(s) {
		return true
	}
	high, low, two := strings.Cut(s, ":")
	if !two {
		_, err := strconv.ParseUint(s, 10, 32)
		return err == nil
	}
	_, err := strconv.ParseUint(high, 10, 16)
	_, err2 := strconv.ParseUint(low, 10, 16)
	return err == nil && err2 == nil
}
