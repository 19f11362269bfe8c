package store

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Key is the place of one fact, without the store's prefix. Segments are
// escaped as in URL paths and separated by slashes; the first is the space.
type Key string

// Space is the first segment of a key: what kind of fact it holds.
type Space string

// The spaces, and the keys in them:
//
//	epoch                                        the epoch, decimal
//	obj/<type>/<uuid>                            an object, JSON without references
//	fq/<type>/<fq name joined by ":">            uuid of the object that has the name
//	child/<parent uuid>/<type>/<uuid>            empty; stands for "the parent has this child"
//	ref/<to type>/<to uuid>/<from type>/<from uuid>  a reference, JSON
//	node/<uuid>                                  a node, JSON
//	fabric/<address>                             uuid of the node that has the address on the fabric
//	binding/<interface uuid>                     where an interface is plugged, JSON
//	ip/<scope>/<address>                         uuid of the object that has the address
//	alloc/<network uuid>/<address>               scope of an address that the network has by ip-alloc
//	mac/<network uuid>/<MAC address>             uuid of the interface that has it in the network
//	prefix/<address>_<length>                    uuid of the network that has the prefix of the pool
//	number/<kind>/<number>                       uuid of the object that has the number
//	label/<node uuid>/<label>                    uuid of the interface that has the label
//	owned/<uuid>                                 type of an object that goes with its last attachment
//	position/<uuid>                              positions of the elements of an object's lists, JSON
//	agent/<key>                                  what a client keeps under /useragent-kv, JSON
//	tomb/<node>/<container>/<interface>/<boot>/<namespace>  tombstone, leased
//	fence/<writer>                               stops transactions in doubt, see Settle
//	mark/<writer>/<number>                       nonce of a transaction, see Settle
//	rest/<key>                                   rest of a released ip, prefix, number or label, leased
//	setting/<name>                               a setting of the cluster, such as aaa-mode
//	token/key/<id>                               key that signs users' tokens, base64, leased
//	token/signing                                id of the key that signs new tokens, leased
//	control/<address>                            a control node that serves there, leased
//	restore/state                                how far a restore is, JSON; see RestoreState
//	restore/quiet                                nothing is allocated while it is there, leased
//	restore/awaited/<node uuid>                  a node that has to report after a restore, JSON
//	restore/conflict/<interface uuid>            what runs and cannot be adopted, JSON
//
// Types are the dashed names of the configuration API. The scope of an address
// is the fq name of its network, or "network-ipam:" and that of the IPAM where
// networks share its subnets, so that rests survive both.
const (
	SpaceEpoch    Space = "epoch"
	SpaceObject   Space = "obj"
	SpaceName     Space = "fq"
	SpaceChild    Space = "child"
	SpaceRef      Space = "ref"
	SpaceNode     Space = "node"
	SpaceFabric   Space = "fabric"
	SpaceBinding  Space = "binding"
	SpaceAddress  Space = "ip"
	SpacePrefix   Space = "prefix"
	SpaceNumber   Space = "number"
	SpaceLabel    Space = "label"
	SpaceOwned    Space = "owned"
	SpacePosition Space = "position"
	SpaceAgent    Space = "agent"
	SpaceTomb     Space = "tomb"
	SpaceRest     Space = "rest"
	SpaceFence    Space = "fence"
	SpaceMark     Space = "mark"
	SpaceSetting  Space = "setting"
	SpaceToken    Space = "token"
	SpaceRestore  Space = "restore"
	SpaceControl  Space = "control"
)

// followed are the spaces that Follow loads and reports. Names, children, MAC
// addresses and those of nodes are guards of writes only; readers have them from the objects.
var followed = []Space{
	SpaceObject, SpaceRef, SpaceNode, SpaceBinding, SpaceAddress, SpaceAllocated, SpacePrefix,
	SpaceNumber, SpaceLabel, SpaceOwned, SpacePosition, SpaceTomb, SpaceRest,
	SpaceSetting, SpaceToken, SpaceRestore, SpaceControl,
}

// EpochKey holds the store's epoch.
const EpochKey Key = "epoch"

func key(space Space, segments ...string) Key {
	size := len(space) + len(segments)
	for _, s := range segments {
		size += len(s)
	}
	var b strings.Builder
	b.Grow(size) // most have nothing to escape
	b.WriteString(string(space))
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return Key(b.String())
}

// ControlKey is the key of a control node by the address that it serves at.
func ControlKey(address string) Key { return key(SpaceControl, address) }

// ObjectKey is the key of an object.
func ObjectKey(e model.Entity) Key { return key(SpaceObject, string(e.Kind), e.UUID) }

// NameKey is the key of a unique name.
func NameKey(kind model.Kind, fqName []string) Key {
	return key(SpaceName, string(kind), model.FQString(fqName))
}

// ChildKey is the key that stands for a parent's child.
func ChildKey(parent string, child model.Entity) Key {
	return key(SpaceChild, parent, string(child.Kind), child.UUID)
}

// ChildPrefix is the range of a parent's children.
func ChildPrefix(parent string) Key { return key(SpaceChild, parent) + "/" }

// RefKey is the key of the reference from one object to another.
func RefKey(e model.Edge) Key {
	return key(SpaceRef, string(e.To.Kind), e.To.UUID, string(e.From.Kind), e.From.UUID)
}

// RefPrefix is the range of the references to an object.
func RefPrefix(to model.Entity) Key { return key(SpaceRef, string(to.Kind), to.UUID) + "/" }

// RefPrefixFrom is the range of the references to an object from one kind.
func RefPrefixFrom(to model.Entity, from model.Kind) Key {
	return key(SpaceRef, string(to.Kind), to.UUID, string(from)) + "/"
}

// NodeKey is the key of a node.
func NodeKey(uuid string) Key { return key(SpaceNode, uuid) }

// FabricKey is the key of a node's address.
func FabricKey(address string) Key { return key(SpaceFabric, address) }

// BindingKey is the key of an interface's binding.
func BindingKey(vmi string) Key { return key(SpaceBinding, vmi) }

// AddressKey is the key of an address in a scope, a joined fq name.
func AddressKey(scope string, a netip.Addr) Key { return key(SpaceAddress, scope, a.String()) }

// AddressPrefix is the range of a scope's addresses.
func AddressPrefix(scope string) Key { return key(SpaceAddress, scope) + "/" }

// PrefixKey is the key of a prefix of the cluster's pool.
func PrefixKey(p netip.Prefix) Key {
	return key(SpacePrefix, p.Addr().String()+"_"+strconv.Itoa(p.Bits()))
}

// NumberKey is the key of a number; kind says which numbers.
func NumberKey(kind string, n uint32) Key {
	return key(SpaceNumber, kind, strconv.FormatUint(uint64(n), 10))
}

// LabelKey is the key of an MPLS label on a node.
func LabelKey(node string, label uint32) Key {
	return key(SpaceLabel, node, strconv.FormatUint(uint64(label), 10))
}

// LabelPrefix is the range of a node's labels.
func LabelPrefix(node string) Key { return key(SpaceLabel, node) + "/" }

// OwnedKey marks an object that goes with its last attachment.
func OwnedKey(uuid string) Key { return key(SpaceOwned, uuid) }

// PositionKey holds where the elements of an object's lists stand.
func PositionKey(uuid string) Key { return key(SpacePosition, uuid) }

// AgentKey is the key of what a client keeps for itself.
func AgentKey(name string) Key { return key(SpaceAgent, name) }

// TombKey is the key of a tombstone. Empty boot and namespace stand for any.
func TombKey(node, container, ifname, boot, namespace string) Key {
	return key(SpaceTomb, node, container, ifname, boot, namespace)
}

// SettingKey is the key of a setting of the cluster.
func SettingKey(name string) Key { return key(SpaceSetting, name) }

// TokenKey is the key that keeps a secret by which users' tokens are signed.
func TokenKey(id string) Key { return key(SpaceToken, "key", id) }

// SigningKey names the secret by which new tokens are signed.
const SigningKey Key = "token/signing"

// RestKey is the rest of a released key.
func RestKey(k Key) Key { return Key(SpaceRest) + "/" + k }

// Space of a key.
func (k Key) Space() Space {
	space, _, _ := strings.Cut(string(k), "/")
	return Space(space)
}

// private tells whether a key is the writers' own affair, shown to nobody.
func (k Key) private() bool { return k.Space() == SpaceFence || k.Space() == SpaceMark }

// Rested is the key that a key of the space rest is the rest of.
func (k Key) Rested() (Key, bool) {
	rest, ok := strings.CutPrefix(string(k), string(SpaceRest)+"/")
	return Key(rest), ok
}

// Split returns the segments after the space, n of them.
func (k Key) Split(n int) ([]string, error) {
	parts := strings.Split(string(k), "/")[1:]
	if len(parts) != n {
		return nil, fmt.Errorf("key %q: want %d segments", k, n)
	}
	for i, p := range parts {
		s, err := url.PathUnescape(p)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		parts[i] = s
	}
	return parts, nil
}

// ParseAddress reads a key of the spaces ip and alloc: whose, and which.
func (k Key) ParseAddress() (whose string, a netip.Addr, err error) {
	s, err := k.Split(2)
	if err != nil {
		return "", netip.Addr{}, err
	}
	a, err = netip.ParseAddr(s[1])
	return s[0], a, err
}

// ParsePrefix reads a key of the space prefix.
func (k Key) ParsePrefix() (netip.Prefix, error) {
	s, err := k.Split(1)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.ParsePrefix(strings.Replace(s[0], "_", "/", 1))
}

// ParseNumber reads a key of the spaces number and label: whose, and which.
func (k Key) ParseNumber() (whose string, n uint32, err error) {
	s, err := k.Split(2)
	if err != nil {
		return "", 0, err
	}
	v, err := strconv.ParseUint(s[1], 10, 32)
	return s[0], uint32(v), err
}
