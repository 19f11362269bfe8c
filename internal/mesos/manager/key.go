package manager

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

const (
	// maxContainerID fits nested ids of Mesos (UUIDs joined by '.') several deep.
	maxContainerID = 255
	// maxInterface is IFNAMSIZ less the closing NUL.
	maxInterface = 15
	maxBootID    = 64
	maxNamespace = 64
)

// callerNode is the node that the caller's certificate names.
func callerNode(caller serve.Caller) (string, error) {
	if caller.Role != ctls.RoleNode {
		return "", connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("caller is %q; only a node speaks for its containers: connect by TLS with the node's certificate", caller.Role))
	}
	return caller.Node, nil
}

// checkKey refuses what cannot be the identity of a container's interface.
func checkKey(k *configv1.AttachmentKey) error {
	return invalid(cmp.Or(
		checkContainerID(k.ContainerId),
		checkInterface(k.Interface),
		checkToken("boot_id", k.BootId, maxBootID),
		checkToken("namespace", k.Namespace, maxNamespace),
	))
}

// checkContainerID follows the CNI specification, section "Parameters": an
// alphanumeric character first, then also '_', '.' and '-'.
func checkContainerID(id string) error {
	const next = "use the runtime's container id: a UUID, parent.child or hex digits"
	switch {
	case id == "":
		return fmt.Errorf("container_id is empty; %s", next)
	case len(id) > maxContainerID:
		return fmt.Errorf("container_id: %q has %d bytes; use at most %d", cut(id), len(id), maxContainerID)
	}
	for i, r := range id {
		if alphanumeric(r) || i > 0 && strings.ContainsRune("_.-", r) {
			continue
		}
		return fmt.Errorf("container_id: %q has the illegal character %q; %s", cut(id), r, next)
	}
	return nil
}

func checkInterface(name string) error {
	switch {
	case name == "":
		return errors.New("interface is empty; name the interface inside the container, such as eth0")
	case len(name) > maxInterface:
		return fmt.Errorf("interface: %q has %d bytes; use at most %d", cut(name), len(name), maxInterface)
	case name == "." || name == "..":
		return fmt.Errorf("interface: %q is no interface name; use one such as eth0", name)
	}
	for _, r := range name {
		if !alphanumeric(r) && !strings.ContainsRune("_.-", r) {
			return fmt.Errorf("interface: %q has the illegal character %q; use letters, digits, '.', '_' and '-'", name, r)
		}
	}
	return nil
}

// checkToken accepts an empty value: foreign callers know neither boot id nor
// namespace.
func checkToken(field, value string, limit int) error {
	if len(value) > limit {
		return fmt.Errorf("%s: %q has %d bytes; use at most %d", field, cut(value), len(value), limit)
	}
	for _, r := range value {
		if !alphanumeric(r) && !strings.ContainsRune("_.:-", r) {
			return fmt.Errorf("%s: %q has the illegal character %q; use letters, digits, '-' and ':'", field, cut(value), r)
		}
	}
	return nil
}

func alphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return connect.NewError(connect.CodeInvalidArgument, err)
}
