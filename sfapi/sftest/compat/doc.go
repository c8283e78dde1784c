// Package compat proves the simulated org with a client that is not ours. It is
// a module of its own, so that the product does not depend on that client.
package compat
