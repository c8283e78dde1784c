package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// ErrWrongKey is wrapped by the errors of secrets that the sealer cannot open.
var ErrWrongKey = errors.New("sealing key does not open the stored tokens")

// ErrOtherOrg is wrapped by the errors of grants that belong to another org
// than the one they were meant for.
var ErrOtherOrg = errors.New("grant belongs to another org")

// Sealer is runner.Sealer, which says what its methods must do.
type Sealer interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// The columns that hold secrets, as store.Credentials.ResealAll names them.
const (
	columnAccess  = "access"
	columnRefresh = "refresh"
)

// checkedSecrets is how many secrets Check tries before it says that the key is
// wrong. More than one, so that a single damaged row does not stop a start.
const checkedSecrets = 20

// box seals and opens secrets, bound to their org and column.
type box struct{ sealer Sealer }

func bound(org sfapi.OrgID, column string) []byte {
	return []byte("weir:" + string(org) + ":" + column)
}

func (b box) seal(org sfapi.OrgID, column string, secret sfapi.Secret) ([]byte, error) {
	sealed, err := b.sealer.Encrypt([]byte(secret.Reveal()), bound(org, column))
	if err != nil {
		return nil, fmt.Errorf("seal %s token of org %s: %w", column, org, err)
	}
	return sealed, nil
}

func (b box) open(org sfapi.OrgID, column string, sealed []byte) (sfapi.Secret, error) {
	clear, err := b.sealer.Decrypt(sealed, bound(org, column))
	if err != nil {
		return "", fmt.Errorf("open %s token of org %s: %w: %w", column, org, ErrWrongKey, err)
	}
	return sfapi.Secret(clear), nil
}

// token opens what calls need of c: all but the refresh token.
func (b box) token(c *store.Credential) (*sfapi.Token, error) {
	t := &sfapi.Token{
		InstanceURL: c.InstanceURL,
		Org:         c.Org,
		UserID:      c.UserID,
		IssuedAt:    c.IssuedAt,
		Scope:       c.Scope,
		Generation:  c.Generation,
	}
	if len(c.Access) == 0 {
		return t, nil
	}
	var err error
	t.Access, err = b.open(c.Org, columnAccess, c.Access)
	return t, err
}

// Seal returns t's grant as the store keeps it, for connecting an org. The
// caller adds the login URL. A token without an access token is stored as one
// that is refreshed or minted at its first use. The error wraps ErrOtherOrg
// where t is another org's.
func (m *Manager) Seal(org sfapi.OrgID, t *sfapi.Token) (*store.Credential, error) {
	if err := belongs(org, t); err != nil {
		return nil, err
	}
	c := &store.Credential{
		Org:         org,
		InstanceURL: t.InstanceURL,
		UserID:      t.UserID,
		IssuedAt:    t.IssuedAt,
		Scope:       t.Scope,
	}
	var err error
	if c.Access, err = m.box.seal(org, columnAccess, t.Access); err != nil {
		return nil, err
	}
	if t.Refresh != "" {
		if c.Refresh, err = m.box.seal(org, columnRefresh, t.Refresh); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func belongs(org sfapi.OrgID, t *sfapi.Token) error {
	if t.Org != "" && t.Org != org {
		return fmt.Errorf("org %s: %w: it is of org %s, user %s", org, ErrOtherOrg, t.Org, t.UserID)
	}
	return nil
}

// Check returns an error that wraps ErrWrongKey when secrets are stored and the
// sealer opens none of those it tries. It changes nothing.
func (m *Manager) Check(ctx context.Context) error {
	var opened bool
	var tried int
	var wrong error
	enough := errors.New("checked")
	_, err := m.creds.ResealAll(ctx, func(org sfapi.OrgID, column string, sealed []byte) ([]byte, error) {
		tried++
		if _, err := m.box.open(org, column, sealed); err != nil {
			wrong = errors.Join(wrong, err)
		} else {
			opened = true
		}
		if opened || tried == checkedSecrets {
			return nil, enough
		}
		return sealed, nil
	})
	switch {
	case opened:
		if wrong != nil {
			m.log.WarnContext(ctx, "some stored tokens do not open", "error", wrong)
		}
		return nil
	case wrong != nil:
		return fmt.Errorf("%w: configure the key they were sealed with, beside any new one (%d tried)", ErrWrongKey, tried)
	case err != nil:
		return fmt.Errorf("check sealed tokens: %w", err)
	}
	return nil
}

// Reseal seals every stored secret anew, with what is now the primary key. It
// returns how many were stored. A refresh at the same time is not disturbed.
func (m *Manager) Reseal(ctx context.Context) (int, error) {
	n, err := m.creds.ResealAll(ctx, func(org sfapi.OrgID, column string, sealed []byte) ([]byte, error) {
		secret, err := m.box.open(org, column, sealed)
		if err != nil {
			return nil, err
		}
		return m.box.seal(org, column, secret)
	})
	if err != nil {
		return n, fmt.Errorf("re-seal tokens: %w", err)
	}
	return n, nil
}
