package auth

import (
	"context"
	"time"
)

// Key is a secret by which tokens are signed, known to all controllers.
type Key struct {
	ID     string
	Secret []byte
}

// Keys are the secrets that the controllers share.
type Keys interface {
	// Key returns a key by its id, for as long as tokens signed with it may live.
	Key(ctx context.Context, id string) (Key, bool)
	// SigningKey returns the key for new tokens, and makes one when there is none.
	SigningKey(ctx context.Context) (Key, error)
}

// KeyUse is how long one key signs new tokens.
const KeyUse = 24 * time.Hour

// SecretSize is the length of a key's secret, in bytes.
const SecretSize = 32
