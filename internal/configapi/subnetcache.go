package configapi

import (
	"slices"
	"sync"

	"github.com/contrail-mesos/contrail/internal/model"
)

// subnetCache keeps the subnets of those references of networks to IPAMs that
// addresses were lately given out of: each attachment to a network needs them.
// It goes by the text of the attribute, where that is in memory: nobody changes
// it, and another one is somewhere else for as long as this one is kept. Safe
// for concurrent use; the zero value is empty.
type subnetCache struct {
	mu    sync.Mutex
	known map[*byte]cachedSubnets
	size  int // bytes of attributes
}

type cachedSubnets struct {
	scope string
	list  []subnet
}

// maxCached bounds the attributes whose subnets are kept, in bytes; the subnets
// have about as many. They are some 200 for most networks.
const maxCached = 4 << 20

// read returns the subnets of a reference, with their spans. The list is the
// caller's.
func (s *subnetCache) read(r model.Reference, scope string) ([]subnet, error) {
	if len(r.Attr) == 0 {
		return nil, nil
	}
	at := &r.Attr[0]
	s.mu.Lock()
	kept, ok := s.known[at]
	s.mu.Unlock()
	if ok && kept.scope == scope {
		return slices.Clone(kept.list), nil
	}
	list, err := readAttribute(r, scope)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].known = list[i].spans()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size += len(r.Attr); s.known == nil || s.size > maxCached {
		s.known, s.size = map[*byte]cachedSubnets{}, len(r.Attr)
	}
	s.known[at] = cachedSubnets{scope, list}
	return slices.Clone(list), nil
}
