package runner

import (
	"context"
	"fmt"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// mint adapts Config.Mint to what the token manager calls, nil without one.
func (r *Runner[TTx]) mint() func(context.Context, *store.Credential) (*sfapi.Token, error) {
	if r.config.Mint == nil {
		return nil
	}
	return func(ctx context.Context, c *store.Credential) (*sfapi.Token, error) {
		row, err := r.store.Org(ctx, c.Org)
		if err != nil {
			return nil, err
		}
		org, err := r.holds.publicOrg(row)
		if err != nil {
			return nil, err
		}
		return r.config.Mint(ctx, org)
	}
}

// Reseal seals every stored secret again with Config.Sealer and returns how
// many it was. Run it after a new primary key was added to the keyset, in any
// process; then the old key may go. It can be repeated, and runs beside
// refreshes.
func (r *Runner[TTx]) Reseal(ctx context.Context) (int, error) {
	n, err := r.tokens.Reseal(ctx)
	if err != nil {
		return n, fmt.Errorf("reseal: %w", err)
	}
	return n, nil
}
