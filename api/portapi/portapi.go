// Package portapi is the contract of the vRouter agent's unix socket: JSON over
// HTTP, between the agent and the CNI plugin (and whoever is root on the node).
//
//	POST /v1/attach  AttachRequest  -> 200 AttachResponse | Error
//	POST /v1/detach  DetachRequest  -> 200 {}             | Error
//	GET  /v1/ports                  -> 200 PortList
//	GET  /v1/status                 -> 200 Status
//
// It also defines the detach queue: a directory in which each file is one
// interface whose release the manager has not confirmed yet. The agent writes
// it, and the plugin does while the agent is away.
//
// The package has next to no dependencies, so that the plugin starts quickly.
package portapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Defaults of a node.
const (
	DefaultSocket      = "/run/contrail/agent.sock"
	DefaultDetachQueue = "/var/lib/contrail/detach-queue"
)

// Paths of the socket's requests.
const (
	PathAttach = "/v1/attach"
	PathDetach = "/v1/detach"
	PathPorts  = "/v1/ports"
	PathStatus = "/v1/status"
)

// Bounds of the agent's answers. A caller waits a little longer.
const (
	AttachTimeout = 15 * time.Second
	DetachTimeout = 6 * time.Second
)

// MaxBody bounds a request's body in bytes.
const MaxBody = 1 << 20

// AttachRequest asks for a container's interface. The body of the request is
// this document and then an AttachReady: the agent asks the manager while the
// caller makes the veth pair. A body that ends without the second takes the
// first back.
type AttachRequest struct {
	// ContainerID as the runtime gave it: a UUID, `parent.child` or 64 hex digits.
	ContainerID string `json:"container_id"`
	// Interface is the name inside the container.
	Interface string `json:"interface"`
	// NetnsPath is where the runtime keeps the namespace, for display.
	NetnsPath string `json:"netns_path,omitempty"`
	// Namespace identifies the network namespace as `device:inode`.
	Namespace string `json:"namespace"`
	// NetworkConfiguration is what the runtime gave on stdin, byte for byte.
	NetworkConfiguration []byte `json:"network_configuration"`
	// Sequence as of when the runtime's request began; 0 when it is not known,
	// and the agent takes one.
	Sequence uint64 `json:"sequence,omitempty"`
}

// AttachReady says that the veth pair is there; its host side is down.
type AttachReady struct {
	// HostInterface is the name of the veth's host side.
	HostInterface string `json:"host_interface"`
}

// AttachResponse is what the container's side of the interface is set to.
type AttachResponse struct {
	InterfaceID string    `json:"interface_id"`
	MAC         string    `json:"mac"`
	Addresses   []Address `json:"addresses"`
	// MTU in bytes, for both sides of the veth.
	MTU         uint32   `json:"mtu"`
	NetworkName []string `json:"network_name"`
}

// Address of an interface; all but PrefixLength in text form, without prefix.
type Address struct {
	Address      string `json:"address"`
	PrefixLength int    `json:"prefix_length"`
	Gateway      string `json:"gateway,omitempty"`
	DNSServer    string `json:"dns_server,omitempty"`
}

// DetachRequest gives an interface back. It is also the content of a file of
// the detach queue.
type DetachRequest struct {
	ContainerID string `json:"container_id"`
	Interface   string `json:"interface"`
	// Namespace may be empty: whichever namespace the interface is in.
	Namespace string `json:"namespace,omitempty"`
	// BootID of the kernel that the interface lived on; empty for the running one.
	BootID string `json:"boot_id,omitempty"`
	// Sequence as of when the runtime's request began: what was attached by a
	// newer request of the same boot stays. 0 when it is not known: the agent
	// takes one for a request, and a file without it means whatever is attached.
	Sequence uint64 `json:"sequence,omitempty"`
	// Reason is for people: who asked for it.
	Reason string `json:"reason,omitempty"`
	// QueuedAt is set in queue files only.
	QueuedAt time.Time `json:"queued_at,omitzero"`
}

// Sequence is the present place in the order of this node's requests: the
// nanoseconds of CLOCK_BOOTTIME, which plugin and agent share. It has a meaning
// within one boot only.
func Sequence() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return uint64(now.Nano()), nil
}

// Kinds of errors.
const (
	// KindInvalid: the request or a label cannot be right; the same again fails.
	KindInvalid = "invalid"
	// KindConflict: another owner, or the interface was detached meanwhile.
	KindConflict = "conflict"
	// KindNotFound: what a question is about is not there.
	KindNotFound = "not-found"
	// KindExhausted: no address is left.
	KindExhausted = "exhausted"
	// KindUnavailable: something is away; the same may succeed later.
	KindUnavailable = "unavailable"
	// KindInternal: everything else.
	KindInternal = "internal"
)

// Error is the body of every answer that is not 200.
type Error struct {
	Kind string `json:"kind"`
	// Message is for a person: what failed, with which value, and what to do.
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// State of a programmed object: pending, applied or failed.
type State struct {
	State string    `json:"state"`
	Error string    `json:"error,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// Port is one interface of this node.
type Port struct {
	ID            string    `json:"id"`
	ContainerID   string    `json:"container_id,omitempty"`
	Interface     string    `json:"interface,omitempty"`
	Namespace     string    `json:"namespace,omitempty"`
	HostInterface string    `json:"host_interface"`
	HostIndex     int       `json:"host_index,omitempty"`
	Network       string    `json:"network,omitempty"`
	VRF           uint32    `json:"vrf"`
	Label         uint32    `json:"label"`
	MAC           string    `json:"mac"`
	Addresses     []Address `json:"addresses"`
	DisplayName   string    `json:"display_name,omitempty"`
	Revision      uint64    `json:"revision,omitempty"`
	Status        State     `json:"status"`
}

// PortList answers GET /v1/ports.
type PortList struct {
	Ports []Port `json:"ports"`
}

// Status answers GET /v1/status.
type Status struct {
	// Ready: the node has joined and can attach containers now.
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
	Node    string `json:"node"`
	Name    string `json:"name"`
	Address string `json:"address"`
	BootID  string `json:"boot_id"`
	MTU     uint32 `json:"mtu"`
	// Ports plugged, and detaches that the manager has not confirmed.
	Ports          int `json:"ports"`
	QueuedDetaches int `json:"queued_detaches"`
	// FailingChecks are health checks of ports that have failed.
	FailingChecks int `json:"failing_checks"`
}

// queueSuffix marks complete files of the queue.
const queueSuffix = ".json"

// QueueName is the file name of a detach: the same detach has the same name.
func (r DetachRequest) QueueName() string {
	sum := sha256.Sum256([]byte(r.ContainerID + "\x00" + r.Interface + "\x00" + r.Namespace + "\x00" + r.BootID))
	return hex.EncodeToString(sum[:12]) + queueSuffix
}

// WriteQueueFile puts a detach into the queue directory, durably: when it
// returns nil, the file and its name survive a power failure.
func WriteQueueFile(dir string, r DetachRequest) error {
	// A release that is queued already may be newer, and means more.
	if old, err := ReadQueueFile(filepath.Join(dir, r.QueueName())); err == nil && r.Sequence != 0 && (old.Sequence == 0 || old.Sequence > r.Sequence) {
		r.Sequence = old.Sequence
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("queue detach of %s: %w", r.ContainerID, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("queue detach of %s: %w", r.ContainerID, err)
	}
	if err := WriteDurably(filepath.Join(dir, r.QueueName()), data); err != nil {
		return fmt.Errorf("queue detach of %s: %w", r.ContainerID, err)
	}
	return nil
}

// WriteDurably replaces a file by rename, with the content and then the name
// synchronised to disk.
func WriteDurably(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadQueue returns the files of the queue by name, and what could not be read
// as an error beside them. A missing directory is an empty queue.
func ReadQueue(dir string) (map[string]DetachRequest, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read detach queue: %w", err)
	}
	queue := make(map[string]DetachRequest, len(entries))
	var bad []error
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, queueSuffix) {
			continue
		}
		r, err := ReadQueueFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		queue[name] = r
	}
	return queue, errors.Join(bad...)
}

// ReadQueueFile returns one file of the queue. The error wraps os.ErrNotExist
// if there is none.
func ReadQueueFile(path string) (DetachRequest, error) {
	var r DetachRequest
	data, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read detach queue: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read detach queue: %s: %w", path, err)
	}
	if r.ContainerID == "" || r.Interface == "" {
		return r, fmt.Errorf("read detach queue: %s names no interface", path)
	}
	return r, nil
}
