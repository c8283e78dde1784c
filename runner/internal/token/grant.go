package token

import (
	"context"

	"github.com/weirhq/weir/sfapi"
)

// Grant opens the secret whose revocation ends an org's grant: the refresh
// token, or without one the access token. It is empty when the org has none.
// Nothing but revoking may be done with it: it rotates.
func (m *Manager) Grant(ctx context.Context, id sfapi.OrgID) (sfapi.Secret, error) {
	c, err := m.creds.Credential(ctx, id)
	if err != nil {
		return "", err
	}
	switch {
	case len(c.Refresh) > 0:
		return m.box.open(c.Org, columnRefresh, c.Refresh)
	case len(c.Access) > 0:
		return m.box.open(c.Org, columnAccess, c.Access)
	default:
		return "", nil
	}
}
