package runner_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/weirhq/weir/runner"
)

// Tink's AEAD is a Sealer as it is.
var _ runner.Sealer = tink.AEAD(nil)

// gcm is the smallest Sealer worth having: one AES-256 key, and a nonce before
// each ciphertext.
type gcm struct{ aead cipher.AEAD }

var _ runner.Sealer = gcm{}

func (g gcm) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	nonce := make([]byte, g.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return g.aead.Seal(nonce, nonce, plaintext, associatedData), nil
}

func (g gcm) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) < g.aead.NonceSize() {
		return nil, errors.New("ciphertext is too short")
	}
	nonce, sealed := ciphertext[:g.aead.NonceSize()], ciphertext[g.aead.NonceSize():]
	return g.aead.Open(nil, nonce, sealed, associatedData)
}

func newGCM(t *testing.T) runner.Sealer {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm{a}
}

func newTink(t *testing.T) runner.Sealer {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSealers(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) runner.Sealer{"tink": newTink, "aes": newGCM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, place := make(t), []byte("weir:00D5e0000000001EAA:access")
			for _, secret := range []string{"", "a token"} {
				sealed, err := s.Encrypt([]byte(secret), place)
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed) == 0 {
					t.Errorf("%q seals to nothing", secret)
				}
				if got, err := s.Decrypt(sealed, place); err != nil || string(got) != secret {
					t.Errorf("opened %q, %v, want %q", got, err, secret)
				}
				if _, err := s.Decrypt(sealed, []byte("weir:00D5e0000000001EAA:refresh")); err == nil {
					t.Error("it opens in another column")
				}
				if _, err := make(t).Decrypt(sealed, place); err == nil {
					t.Error("it opens with another key")
				}
			}
		})
	}
}

// A Sealer from Tink; a service keeps the keyset in its secret manager.
func ExampleSealer() {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		panic(err)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		panic(err)
	}
	var sealer runner.Sealer = primitive

	sealed, err := sealer.Encrypt([]byte("refresh token"), []byte("weir:00D5e0000000001EAA:refresh"))
	if err != nil {
		panic(err)
	}
	clear, err := sealer.Decrypt(sealed, []byte("weir:00D5e0000000001EAA:refresh"))
	fmt.Println(string(clear), err)
	_, err = sealer.Decrypt(sealed, []byte("weir:00D5e0000000002EAA:refresh"))
	fmt.Println(err != nil)
	// Output:
	// refresh token <nil>
	// true
}
