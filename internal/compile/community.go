package compile

import "encoding/binary"

// Community is the target as the extended community that carries it in BGP
// (RFC 4360 section 4, RFC 5668); false for what is no route target.
func (t Target) Community() (uint64, bool) {
	kind, value, ok := t.parse()
	if !ok {
		return 0, false
	}
	community := [8]byte{kind, targetSubtype}
	copy(community[2:], value[:])
	return binary.BigEndian.Uint64(community[:]), true
}

// TargetOfCommunity reads a target from an extended community; false when it is
// none.
func TargetOfCommunity(community uint64) (Target, bool) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], community)
	if b[0] > fourOctets || b[1] != targetSubtype {
		return "", false
	}
	return targetOf(b[0], [6]byte(b[2:])), true
}

// targetSubtype is that of route targets among extended communities.
const targetSubtype = 2
