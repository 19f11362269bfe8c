// Package usageapi is what the configuration API says of addresses:
//
//	GET /ipam[?network=N][&addresses=true][&address=A] -> 200 Answer
//
// With addresses=true the networks have their addresses that are not free; with
// address=A only those networks are there in which that one is not.
package usageapi

// Answer of GET /ipam.
type Answer struct {
	Networks []Network `json:"networks"`
}

// Network is what of a network's addresses is in use.
type Network struct {
	UUID    string   `json:"uuid"`
	FQName  []string `json:"fq_name"`
	Subnets []Subnet `json:"subnets"`
	// Addresses are listed where they are asked for.
	Addresses []Address `json:"addresses,omitempty"`
}

// Subnet counts the addresses that a subnet can give out.
type Subnet struct {
	UUID    string `json:"uuid"`
	Prefix  string `json:"prefix"`
	Gateway string `json:"gateway"`
	Size    uint64 `json:"size"`
	Used    uint64 `json:"used"`
	Free    uint64 `json:"free"`
	Resting uint64 `json:"resting"`
}

// States of an address that is not free.
const (
	Used    = "used"
	Resting = "resting"
)

// Address is one that is not free.
type Address struct {
	Address string `json:"address"`
	// State is Used or Resting.
	State string `json:"state"`
	// Owner is the UUID of what has the address, or had it; Type and Name are
	// those of the object while it exists.
	Owner string   `json:"owner"`
	Type  string   `json:"type,omitempty"`
	Name  []string `json:"name,omitempty"`
}
