// Package auth knows users: who they are by their passwords and tokens, and
// which roles they have. What they may do with those is the decision of the
// services that they call.
package auth

// Key is a secret by which tokens are signed, known to all controllers.
type Key struct {
	ID     string
	Secret []byte
}
