package sftest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"sync"
)

// secretList is what the simulator has given out or heard that must be found
// nowhere else. Its lock is held for a moment only, under any other.
type secretList struct {
	mu   sync.Mutex
	list []string
}

func (l *secretList) add(secret string) {
	if secret == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, secret)
}

// Secrets returns what a client of the simulator must keep to itself: the access
// and refresh tokens and authorization codes given out so far, those that are
// over too, the code verifiers and JWT assertions that were sent, and the apps'
// secrets. See [Leaks].
func (s *Sim) Secrets() []string {
	s.mu.Lock()
	var list []string
	for _, a := range s.apps {
		if a.ClientSecret != "" {
			list = append(list, a.ClientSecret)
		}
	}
	s.mu.Unlock()
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	return append(list, s.secrets.list...)
}

// Leaks returns those of secrets that content holds: as they are, escaped for a
// URL, or anywhere inside of base64, base64url or hex. Of a session id, which is
// an organization id and a secret with an exclamation mark between, the secret
// alone counts too. Compressed and encrypted content hides what it holds. It is
// for tests that look for secrets in logs, databases and answers.
func Leaks(content []byte, secrets ...string) []string {
	var found []string
	lower := bytes.ToLower(content)
	for _, secret := range secrets {
		if leaks(content, lower, secret) {
			found = append(found, secret)
		}
	}
	return found
}

func leaks(content, lower []byte, secret string) bool {
	if org, part, ok := strings.Cut(secret, "!"); ok && (len(org) == 15 || len(org) == 18) {
		secret = part
	}
	if secret == "" {
		return false
	}
	for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
		if bytes.Contains(content, []byte(form)) {
			return true
		}
	}
	if bytes.Contains(lower, []byte(hex.EncodeToString([]byte(secret)))) {
		return true
	}
	// What stands before the secret shifts it by up to two bytes, and spoils the
	// first and last characters of it.
	for shift := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		inner := encoded[(shift*8+5)/6 : len(encoded)-1]
		for _, form := range []string{inner, strings.NewReplacer("+", "-", "/", "_").Replace(inner)} {
			if bytes.Contains(content, []byte(form)) {
				return true
			}
		}
	}
	return false
}
