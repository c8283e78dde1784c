package runner

import "github.com/weirhq/weir/runner/internal/token"

// Sealer encrypts secrets before they reach the database. Runner seals each
// access and refresh token with associated data that names its org and column,
// so that ciphertext moved to another row or column does not open.
//
// The interface is that of Tink's AEAD, which fits without an adapter
// (https://developers.google.com/tink/aead). To change keys, add a key to the
// keyset and make it primary: what older keys sealed still opens, and a
// re-seal pass moves it to the new one, after which the old may go.
//
// Both methods are called concurrently. They return any error for data they
// cannot handle; Decrypt must fail where associatedData is not what Encrypt was
// given. Errors must not repeat the plaintext: they are logged.
type Sealer interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// A Sealer is what the token manager takes, as it is.
var _ token.Sealer = Sealer(nil)
