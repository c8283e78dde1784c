package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
)

// Claim decides what BeginRefresh answers for the row c at the database's time
// now. With RefreshTaken it has put the attempt into c, for the caller to save.
func (c *Credential) Claim(now time.Time, stale int64, owner string, lease time.Duration, takeUnknown bool) RefreshClaim {
	if c.Generation > stale {
		return RefreshNewer
	}
	replays := 0
	if a := &c.Attempt; a.Owner != "" {
		if now.Before(a.Deadline) {
			return RefreshBusy
		}
		if !takeUnknown {
			return RefreshUnknown
		}
		replays = a.Replays + 1
	}
	c.Attempt = Attempt{
		Generation: c.Generation,
		Owner:      owner,
		Deadline:   now.Add(lease).Truncate(time.Microsecond),
		Replays:    replays,
	}
	return RefreshTaken
}

// CheckRefresh reports arguments of BeginRefresh that cannot be right.
func CheckRefresh(owner string, lease time.Duration) error {
	var errs []error
	if owner == "" {
		errs = append(errs, errors.New("owner is empty"))
	}
	if lease <= 0 {
		errs = append(errs, fmt.Errorf("lease %s is not positive", lease))
	}
	return errors.Join(errs...)
}

// HasGrant returns jobs.ErrNotFound for an org in a state without secrets:
// there is nothing to refresh.
func (s OrgState) HasGrant() error {
	if s == OrgDisconnected {
		return fmt.Errorf("org is disconnected: %w", jobs.ErrNotFound)
	}
	return nil
}
