package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Where the configuration API listens when nobody says otherwise.
const (
	// Socket is that of a controller and of `contrail up`.
	Socket = "/run/contrail/config.sock"
	// Loopback is that of `contrail up`, for those who may not open the socket.
	Loopback = "http://127.0.0.1:8082"
)

// DefaultAddress is the socket if it is there and this user may use it, else
// the loopback.
func DefaultAddress(socket string) string {
	f, err := os.Stat(socket)
	if err == nil && f.Mode()&fs.ModeSocket != 0 && mayUse(socket) {
		return "unix:" + socket
	}
	return Loopback
}

// mayUse tells whether this user may connect: only root gets in.
func mayUse(string) bool { return os.Geteuid() == 0 }

// TokenOf returns the token that `contrail login` stored for an address; empty
// when there is none.
func TokenOf(file, address string) (string, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read tokens: %w", err)
	}
	var tokens map[string]string
	if err := json.Unmarshal(data, &tokens); err != nil {
		return "", fmt.Errorf("tokens in %s cannot be read; remove the file and log in with `contrail login`", file)
	}
	return tokens[address], nil
}
