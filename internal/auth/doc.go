// Package auth knows users: who they are by their passwords and tokens, and
// which roles they have. What they may do with those is the decision of the
// service that they call.
//
//	POST /login  user, password -> file of users (bcrypt) -> token (1 h)
//	request      token -> ours:     key of the store -> file of users -> roles
//	                   -> issuer's: keys of the issuer -> claims      -> roles
//
// A token of ours says who somebody is, not what he may: roles are looked up
// in the file for every request, so that who is taken out of the file, or gets
// another password, has lost his rights with the next request. The keys that
// sign tokens are shared through the store, so that any controller knows the
// tokens of the others; they are replaced every day.
//
// Invariants: a file that is wrong leaves the old one in use; passwords and
// tokens are in no log and in no error; how long a wrong password takes does
// not tell whether its user exists; guesses get slower with each failure.
package auth
