package model

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Kind is the name of an object type as URLs and envelopes have it, with
// dashes: "virtual-network".
type Kind string

// Name is the kind with underscores, as JSON keys have it: "virtual_network".
func (k Kind) Name() string { return strings.ReplaceAll(string(k), "-", "_") }

// KindOfName is the kind of an underscored name.
func KindOfName(name string) Kind { return Kind(strings.ReplaceAll(name, "_", "-")) }

// Meta is what every object carries. Its JSON names are those of the wire.
// References, name and hrefs are not part of it: references are stored by
// themselves, the others follow from where and how the object is asked for.
type Meta struct {
	// UUID in lower case with dashes.
	UUID string `json:"uuid,omitempty"`
	// FQName from the topmost named ancestor to the object's own name.
	FQName []string `json:"fq_name,omitempty"`
	// ParentType is the parent's kind; "config-root" or empty for objects at the top.
	ParentType string `json:"parent_type,omitempty"`
	// ParentUUID is empty for objects at the top.
	ParentUUID  string         `json:"parent_uuid,omitempty"`
	IDPerms     *IdPermsType   `json:"id_perms,omitempty"`
	Perms2      *PermType2     `json:"perms2,omitempty"`
	DisplayName string         `json:"display_name,omitempty"`
	Annotations *KeyValuePairs `json:"annotations,omitempty"`
	// ConfigurationVersion counts the changes of the object.
	ConfigurationVersion *int64 `json:"configuration_version,omitempty"`

	// Unknown keeps, by property, what a newer version stored and this one
	// does not know. DecodeStored fills it and Encode writes it again.
	Unknown map[string]json.RawMessage `json:"-"`
}

// GetMeta returns m. Every object has it by embedding Meta.
func (m *Meta) GetMeta() *Meta { return m }

// Name is the last element of the fully qualified name.
func (m *Meta) Name() string {
	if len(m.FQName) == 0 {
		return ""
	}
	return m.FQName[len(m.FQName)-1]
}

// Object is one object of the configuration: a pointer to one of the
// generated types. Objects in a Graph are never changed.
type Object interface {
	Kind() Kind
	GetMeta() *Meta
}

// Entity names an object.
type Entity struct {
	Kind Kind
	UUID string
}

// EntityOf returns the entity that o is.
func EntityOf(o Object) Entity { return Entity{Kind: o.Kind(), UUID: o.GetMeta().UUID} }

// String is "kind/uuid".
func (e Entity) String() string { return string(e.Kind) + "/" + e.UUID }

// Edge names a reference by its two ends. There is at most one reference from
// one object to another.
type Edge struct {
	From, To Entity
}

// Reference is an object's reference to another one. Objects do not hold
// their references: each is one key in the store.
type Reference struct {
	From, To Entity
	// Attr is the JSON of the attribute, nil when there is none.
	Attr json.RawMessage
	// Relaxed references do not keep their target from being deleted.
	Relaxed bool
	// Number was given to the reference when it was made, and is its own as long as
	// it is there; 0 for none. Clients do not see it.
	Number uint32
}

// Edge returns the ends of r.
func (r Reference) Edge() Edge { return Edge{From: r.From, To: r.To} }

// RefAttr decodes the attribute of r, such as VnSubnetsType for the reference
// of a virtual-network to a network-ipam. Without an attribute the result is
// the zero value.
func RefAttr[T any](r Reference) (T, error) {
	var attr T
	if len(r.Attr) == 0 {
		return attr, nil
	}
	if err := json.Unmarshal(r.Attr, &attr); err != nil {
		return attr, fmt.Errorf("decode attribute of reference %s -> %s: %w", r.From, r.To, err)
	}
	return attr, nil
}

// Position says where in the life of the store something stands. Revisions of
// different epochs are not comparable; a higher epoch replaces a lower one.
type Position struct {
	Epoch, Revision uint64
}

// Before reports whether p is older than q.
func (p Position) Before(q Position) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch < q.Epoch
	}
	return p.Revision < q.Revision
}

// Node is a machine that runs containers. It is a record of its own beside
// the virtual-router object with the same UUID.
type Node struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// Address on the fabric, to which tunnels go.
	Address string `json:"address"`
	// FabricMTU in bytes, of the device that carries the tunnels.
	FabricMTU uint32 `json:"fabric_mtu"`
	BootID    string `json:"boot_id"`
	// Revision of the store at which the record was last written.
	Revision uint64 `json:"-"`
}

// Binding binds a virtual-machine-interface to a node. Attach makes it with
// everything filled in; the classic reference from a virtual-router to a
// virtual-machine makes it without container, namespace and boot.
type Binding struct {
	// Interface is the UUID of the virtual-machine-interface, Machine that of its virtual-machine.
	Interface string `json:"interface"`
	Machine   string `json:"machine"`
	// Node is the node's UUID.
	Node string `json:"node"`
	// Label is the MPLS label of the interface on the node, 16 to 1048575.
	Label uint32 `json:"label"`
	// ContainerID as the runtime gave it, IfName inside the container.
	ContainerID string `json:"container_id,omitempty"`
	IfName      string `json:"if_name,omitempty"`
	BootID      string `json:"boot_id,omitempty"`
	// Namespace is the network namespace as device:inode.
	Namespace string `json:"namespace,omitempty"`
	// Sequence of the request that attached it, in its node's own order within
	// one boot: nanoseconds of CLOCK_BOOTTIME; 0 is unknown.
	Sequence uint64 `json:"sequence,omitempty"`
	// Revision of the store at which the record was last written.
	Revision uint64 `json:"-"`
}

// ValueOr returns what p points to, or absent when p is nil.
func ValueOr[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}

// Annotation returns the annotation with this key.
func (m *Meta) Annotation(key string) (string, bool) {
	if m.Annotations == nil {
		return "", false
	}
	for _, kv := range m.Annotations.KeyValuePair {
		if kv.Key == key {
			return kv.Value, true
		}
	}
	return "", false
}
