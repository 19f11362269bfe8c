package configapi

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/contrail-mesos/contrail/internal/auth"
	"github.com/contrail-mesos/contrail/internal/store"
)

// The keys that sign users' tokens are in the store, so that every controller
// knows the tokens of the others. Their ends are leases, which the store alone
// counts: no decision compares the clocks of two machines.

var _ auth.Keys = (*API)(nil)

// Key implements auth.Keys.
func (a *API) Key(ctx context.Context, id string) (auth.Key, bool) {
	if a.waitReady(ctx) != nil {
		return auth.Key{}, false
	}
	a.tenancy.mu.RLock()
	defer a.tenancy.mu.RUnlock()
	k, ok := a.tenancy.keys[id]
	return k, ok
}

// SigningKey implements auth.Keys. When the last one's time is over, whoever
// needs a key first makes it; others who were slower take that one.
func (a *API) SigningKey(ctx context.Context) (auth.Key, error) {
	if err := a.waitReady(ctx); err != nil {
		return auth.Key{}, err
	}
	if k, ok := a.tenancy.signingKey(); ok {
		return k, nil
	}
	signs, err := a.store.Lease(ctx, auth.KeyUse)
	if err != nil {
		return auth.Key{}, err
	}
	lives, err := a.store.Lease(ctx, auth.KeyUse+auth.LongestLife)
	if err != nil {
		return auth.Key{}, err
	}
	id, secret := rand.Text(), make([]byte, auth.SecretSize)
	rand.Read(secret)
	_, err = a.write(asItself(ctx), audit{"make key of tokens", id}, func(c *change) error {
		if _, ok := a.tenancy.signingKey(); ok {
			return nil
		}
		c.Guard(store.Guard{Condition: store.Absent, Key: store.SigningKey})
		c.PutLeased(store.SigningKey, []byte(id), signs)
		c.PutLeased(store.TokenKey(id), []byte(base64.StdEncoding.EncodeToString(secret)), lives)
		return nil
	})
	if err != nil {
		return auth.Key{}, err
	}
	k, ok := a.tenancy.signingKey()
	if !ok {
		return auth.Key{}, errors.New("the key of tokens ended at once; try again")
	}
	return k, nil
}

// signingKey is the key for new tokens.
func (t *tenancy) signingKey() (auth.Key, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	k, ok := t.keys[t.signing]
	return k, ok
}

// noteKey keeps a key of tokens, or the name of the one that signs.
func (t *settings) noteKey(e store.Entry) error {
	if e.Key == store.SigningKey {
		t.signing = string(e.Value)
		return nil
	}
	s, err := e.Key.Split(2)
	if err != nil {
		return err
	}
	if e.Deleted {
		delete(t.keys, s[1])
		return nil
	}
	secret, err := base64.StdEncoding.DecodeString(string(e.Value))
	if err != nil || len(secret) == 0 {
		return fmt.Errorf("key of tokens %s cannot be read", s[1])
	}
	t.keys[s[1]] = auth.Key{ID: s[1], Secret: secret}
	return nil
}
