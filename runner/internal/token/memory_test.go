package token_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// memory is a store.Credentials without a database, for tests of many orgs or
// of virtual time. What it decides is store's own code; its conformance is not
// at stake, since the same stories run on both databases elsewhere.
type memory struct {
	mu   sync.Mutex
	rows map[sfapi.OrgID]*store.Credential
}

var _ store.Credentials = (*memory)(nil)

func newMemory() *memory { return &memory{rows: map[sfapi.OrgID]*store.Credential{}} }

func (m *memory) connect(_ context.Context, c *store.Credential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := *c
	row.Generation, row.Attempt = 1, store.Attempt{}
	if old := m.rows[c.Org]; old != nil {
		row.Generation = old.Generation + 1
	}
	m.rows[c.Org] = &row
	return nil
}

func (m *memory) disconnect(_ context.Context, id sfapi.OrgID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.rows[id]
	c.Access, c.Refresh, c.Attempt = nil, nil, store.Attempt{}
	return nil
}

func (m *memory) row(ctx context.Context, id sfapi.OrgID) (*store.Credential, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c := m.rows[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("read org %s: %w", id, jobs.ErrNotFound)
}

func (m *memory) Credential(ctx context.Context, id sfapi.OrgID) (*store.Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.row(ctx, id)
	if err != nil {
		return nil, err
	}
	copied := *c
	return &copied, nil
}

func (m *memory) BeginRefresh(ctx context.Context, id sfapi.OrgID, stale int64, owner string, lease time.Duration, takeUnknown bool) (*store.Credential, store.RefreshClaim, error) {
	if err := store.CheckRefresh(owner, lease); err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.row(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	claim := c.Claim(time.Now(), stale, owner, lease, takeUnknown)
	copied := *c
	return &copied, claim, nil
}

func (m *memory) SaveRefresh(ctx context.Context, c *store.Credential, owner string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, err := m.row(ctx, c.Org)
	if err != nil {
		return 0, err
	}
	if old.Generation != c.Generation || old.Attempt.Owner != owner {
		return 0, jobs.ErrLeaseLost
	}
	row := *c
	row.LoginURL, row.Generation, row.Attempt = old.LoginURL, old.Generation+1, store.Attempt{}
	if len(row.Refresh) == 0 {
		row.Refresh = old.Refresh
	}
	m.rows[c.Org] = &row
	return row.Generation, nil
}

func (m *memory) EndRefresh(ctx context.Context, id sfapi.OrgID, generation int64, owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.row(ctx, id)
	if err == nil && c.Generation == generation && c.Attempt.Owner == owner {
		c.Attempt = store.Attempt{}
	}
	return err
}

func (m *memory) ResealAll(ctx context.Context, fn func(sfapi.OrgID, string, []byte) ([]byte, error)) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for id, c := range m.rows {
		for column, secret := range map[string]*[]byte{"access": &c.Access, "refresh": &c.Refresh} {
			if len(*secret) == 0 {
				continue
			}
			sealed, err := fn(id, column, *secret)
			if err != nil {
				return n, err
			}
			*secret = sealed
			n++
		}
	}
	return n, ctx.Err()
}

// shaky is a store.Credentials that fails when told to.
type shaky struct {
	store.Credentials

	mu                sync.Mutex
	begin, save, read func(call func() error) error // nil: no trouble
}

var errAway = errors.New("database is away")

func (s *shaky) do(trouble *func(func() error) error, call func() error) error {
	s.mu.Lock()
	f := *trouble
	s.mu.Unlock()
	if f == nil {
		return call()
	}
	return f(call)
}

func (s *shaky) set(set func(s *shaky)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set(s)
}

func (s *shaky) Credential(ctx context.Context, id sfapi.OrgID) (c *store.Credential, err error) {
	err = s.do(&s.read, func() (err error) { c, err = s.Credentials.Credential(ctx, id); return err })
	return c, err
}

func (s *shaky) BeginRefresh(ctx context.Context, id sfapi.OrgID, stale int64, owner string, lease time.Duration, take bool) (c *store.Credential, claim store.RefreshClaim, err error) {
	err = s.do(&s.begin, func() (err error) {
		c, claim, err = s.Credentials.BeginRefresh(ctx, id, stale, owner, lease, take)
		return err
	})
	return c, claim, err
}

func (s *shaky) SaveRefresh(ctx context.Context, c *store.Credential, owner string) (generation int64, err error) {
	err = s.do(&s.save, func() (err error) {
		generation, err = s.Credentials.SaveRefresh(ctx, c, owner)
		return err
	})
	if err != nil {
		return 0, err
	}
	return generation, nil
}
