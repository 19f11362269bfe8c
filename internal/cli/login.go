package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/contrail-mesos/contrail/internal/auth"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// Address is how the API is reached, as the client was told.
func (c *Client) Address() string { return c.address }

// Login asks for a token.
func (c *Client) Login(ctx context.Context, credentials auth.Credentials) (*auth.Grant, error) {
	data, _, err := c.send(ctx, http.MethodPost, serve.LoginPath, nil, nil, credentials)
	var refused *APIError
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("login at %s: %s", c.address, strings.TrimSpace(refused.Text))
	}
	if err != nil {
		return nil, err
	}
	grant := &auth.Grant{}
	return grant, readAnswer(data, grant)
}

// KeepToken writes the token for an address down, where only this user reads it.
func KeepToken(file, address, token string) error {
	tokens := map[string]string{}
	data, err := os.ReadFile(file)
	if err == nil {
		// What cannot be read is replaced: a token is soon made again.
		if json.Unmarshal(data, &tokens) != nil {
			tokens = map[string]string{}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep token: %w", err)
	}
	tokens[address] = token
	if data, err = json.Marshal(tokens); err != nil {
		return fmt.Errorf("keep token: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep token: %w", err)
	}
	if err := renameio.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("keep token: %w", err)
	}
	return nil
}

// ShowLogin says what a login gave. The token itself is only in the JSON form.
func ShowLogin(out io.Writer, form Output, address string, g *auth.Grant) error {
	if form == JSON {
		return json.NewEncoder(out).Encode(g)
	}
	_, err := fmt.Fprintf(out, "Logged in at %s as %s until %s\n", address, g.User, g.Expires.Local().Format(time.DateTime))
	return err
}
