package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// OrgState says whether an org has a usable grant.
type OrgState string

// The states of an org.
const (
	OrgConnected    OrgState = "connected"
	OrgRevoked      OrgState = "revoked"      // its grant is dead: connect it again
	OrgDisconnected OrgState = "disconnected" // by Disconnect; its secrets are gone
)

// Org is a connected Salesforce organization.
type Org struct {
	ID          sfapi.OrgID
	Label       string // the app's own name for it
	LoginURL    string
	InstanceURL string
	UserID      string // of the connected user, 18 characters
	State       OrgState

	// Generation counts the org's credentials: each connect and each refresh
	// raises it.
	Generation int64

	// APIUsed and APILimit are the org's daily API requests as Salesforce last
	// told them, at APIAt; all zero before the first call.
	APIUsed, APILimit int
	APIAt             time.Time

	// Holds are what stops the org's lanes, and why; none while all run.
	Holds []breaker.Hold

	ConnectedAt, UpdatedAt time.Time
}

// Open reports whether no hold stops the lane.
func (o *Org) Open(lane breaker.Lane) bool {
	for i := range o.Holds {
		if o.Holds[i].Lanes.Has(lane) {
			return false
		}
	}
	return o.State == OrgConnected
}

func (h *holds[TTx]) publicOrg(o *store.Org) (*Org, error) {
	state, err := h.decode(o)
	if err != nil {
		return nil, err
	}
	return &Org{
		ID: o.ID, Label: o.Label, LoginURL: o.LoginURL, InstanceURL: o.InstanceURL, UserID: o.UserID,
		State: OrgState(o.State), Generation: o.Generation,
		APIUsed: o.UsageUsed, APILimit: o.UsageLimit, APIAt: o.UsageAt,
		Holds: state.Holds, ConnectedAt: o.ConnectedAt, UpdatedAt: o.UpdatedAt,
	}, nil
}

// Orgs is the registry of orgs.
type Orgs[TTx any] struct{ runner *Runner[TTx] }

// Orgs returns the registry of orgs.
func (r *Runner[TTx]) Orgs() *Orgs[TTx] { return &Orgs[TTx]{r} }

// ConnectParams is a grant for an org: RefreshToken, or Token where the app
// made the exchange itself (sfapi.App.ExchangeCode and its siblings).
type ConnectParams struct {
	// RefreshToken is exchanged at LoginURL at once: that proves the grant,
	// names the org, and where tokens rotate, spends it. Do not use it again
	// elsewhere.
	RefreshToken sfapi.Secret

	// Token is the answer of a token endpoint, in place of RefreshToken.
	Token *sfapi.Token

	// LoginURL is the org's login host. Defaults to the App's.
	LoginURL string

	// Label is the app's own name for the org. Empty keeps the one it has.
	Label string

	// Org is the org that the grant must be for, where the app knows: a
	// customer may have logged in to another one of his. A grant of another
	// org is an *OrgMismatchError. Empty takes any.
	Org sfapi.OrgID

	// Requeue puts back what was cancelled since the org was connected last,
	// because its grant was revoked, it was found inactive or it was
	// disconnected: jobs and records take the places they had, before what
	// came later. Records that were sent when the org was lost are found out
	// about either way.
	Requeue bool
}

// OrgMismatchError says that a grant is for another org than the app expected.
// Nothing was stored.
type OrgMismatchError struct{ Want, Got sfapi.OrgID }

// Error implements error.
func (e *OrgMismatchError) Error() string {
	return fmt.Sprintf("the grant is for org %s, not %s: log in to that org", e.Got, e.Want)
}

// saveGrantTimeout bounds the attempts to save a grant that Salesforce has
// already rotated: losing it means asking the customer again.
const saveGrantTimeout = 30 * time.Second

// exchangeTimeout bounds the exchange of a refresh token.
const exchangeTimeout = 60 * time.Second

// Connect registers an org with a grant, or gives a known org a new one. It
// reports whether the org is new. An error of the token endpoint is an
// *sfapi.Error; nothing is stored then.
//
// Once the exchange has begun ctx no longer ends it: where tokens rotate, an
// answer that nobody waits for is a grant that is lost.
func (o *Orgs[TTx]) Connect(ctx context.Context, p *ConnectParams) (org *Org, created bool, err error) {
	r := o.runner
	login, err := r.checkConnect(p)
	if err != nil {
		return nil, false, fmt.Errorf("connect org: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("connect org: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	tok := p.Token
	if tok == nil {
		if tok, err = r.exchangeGrant(ctx, login, p.RefreshToken); err != nil {
			return nil, false, fmt.Errorf("connect org: %w", err)
		}
	}
	if err := r.checkToken(tok); err != nil {
		return nil, false, fmt.Errorf("connect org: %w", err)
	}
	if want, err := sfapi.ParseOrgID(string(p.Org)); err == nil && want != tok.Org {
		return nil, false, fmt.Errorf("connect org: %w", &OrgMismatchError{Want: want, Got: tok.Org})
	}
	cred, err := r.tokens.Seal(tok.Org, tok)
	if err != nil {
		return nil, false, fmt.Errorf("connect org %s: %w", tok.Org, err)
	}
	cred.LoginURL = login
	row := &store.Org{
		ID: tok.Org, Label: p.Label, LoginURL: login, InstanceURL: tok.InstanceURL,
		UserID: tok.UserID, State: store.OrgConnected,
	}
	created, requeue, err := r.saveGrant(ctx, row, cred, p.Requeue)
	if err != nil {
		return nil, false, fmt.Errorf("connect org %s: %w", tok.Org, err)
	}
	r.tokens.Changed(tok.Org)
	if requeue {
		if err := r.requeue(ctx, tok.Org); err != nil {
			// The grant is saved; the workers' loops go on with this.
			r.logger.WarnContext(ctx, "requeue cancelled work", "org", tok.Org, "error", err)
		}
	}
	org, err = o.Get(ctx, tok.Org)
	return org, created, err
}

// checkConnect reports what cannot be right, before a token is spent on it, and
// returns the login host.
func (r *Runner[TTx]) checkConnect(p *ConnectParams) (login string, err error) {
	if p == nil || (p.RefreshToken == "") == (p.Token == nil) {
		return "", &jobs.FieldError{Field: "RefreshToken", Message: "exactly one of RefreshToken and Token is needed"}
	}
	var errs []error
	if login = p.LoginURL; login == "" {
		login = r.app.LoginURL
	} else if err := r.checkURL(login); err != nil {
		errs = append(errs, &jobs.FieldError{Field: "LoginURL", Message: err.Error()})
	}
	if !utf8.ValidString(p.Label) || strings.IndexByte(p.Label, 0) >= 0 {
		errs = append(errs, &jobs.FieldError{Field: "Label", Message: "is not a text that a database can keep"})
	}
	if p.Org != "" {
		if _, err := sfapi.ParseOrgID(string(p.Org)); err != nil {
			errs = append(errs, &jobs.FieldError{Field: "Org", Message: err.Error()})
		}
	}
	if p.Token != nil {
		errs = append(errs, r.checkToken(p.Token))
	}
	return login, errors.Join(errs...)
}

// checkToken reports a token that no call could be made with.
func (r *Runner[TTx]) checkToken(t *sfapi.Token) error {
	var errs []error
	if _, err := sfapi.ParseOrgID(string(t.Org)); err != nil {
		errs = append(errs, &jobs.FieldError{Field: "Token.Org", Message: err.Error()})
	}
	if t.Access == "" {
		errs = append(errs, &jobs.FieldError{Field: "Token.Access", Message: "is empty"})
	}
	if err := r.checkURL(t.InstanceURL); err != nil {
		errs = append(errs, &jobs.FieldError{Field: "Token.InstanceURL", Message: err.Error()})
	}
	return errors.Join(errs...)
}

// checkURL reports a base URL that the client would refuse.
func (r *Runner[TTx]) checkURL(raw string) error {
	if raw == "" {
		return errors.New("is empty")
	}
	app := *r.app
	app.LoginURL = raw
	return app.Validate()
}

func (r *Runner[TTx]) exchangeGrant(ctx context.Context, login string, refresh sfapi.Secret) (*sfapi.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	tok, err := r.app.RefreshToken(ctx, login, refresh)
	if err == nil && tok.Refresh == "" {
		tok.Refresh = refresh
	}
	return tok, err
}

// saveGrant stores a grant, again and again while the database is away: a
// rotated refresh token exists nowhere else. It reports whether the caller is
// to requeue what was cancelled, which opens the lanes too.
func (r *Runner[TTx]) saveGrant(ctx context.Context, row *store.Org, cred *store.Credential, again bool) (created, requeue bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveGrantTimeout)
	defer cancel()
	user := row.UserID
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		var out *outcome
		var before *store.Org
		err = r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
			if before, err = r.store.OrgTx(ctx, tx, row.ID, true); err != nil && !errors.Is(err, jobs.ErrNotFound) {
				return err
			}
			if created, err = r.store.ConnectOrgTx(ctx, tx, row, cred); err != nil {
				return err
			}
			requeue, err = r.endCancellationsTx(ctx, tx, row.ID, again)
			if err != nil || requeue {
				return err
			}
			out, err = r.holds.observeTx(ctx, tx, row.ID, breaker.Connected(cred.Generation))
			return err
		})
		if err == nil {
			if out != nil {
				r.holds.settle(ctx, row.ID, out)
			}
			if before != nil && before.UserID != user {
				r.logger.InfoContext(ctx, "org connected by another user", "org", row.ID, "user", user, "user_before", before.UserID)
			}
			return created, requeue, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false, false, err
		}
	}
}

// Get returns an org; ErrOrgNotFound when it was never connected.
func (o *Orgs[TTx]) Get(ctx context.Context, id sfapi.OrgID) (*Org, error) {
	id, err := sfapi.ParseOrgID(string(id))
	if err != nil {
		return nil, err
	}
	row, err := o.runner.store.Org(ctx, id)
	if errors.Is(err, jobs.ErrNotFound) {
		return nil, fmt.Errorf("org %s: %w", id, ErrOrgNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("org %s: %w", id, err)
	}
	return o.runner.holds.publicOrg(row)
}

// OrgListParams selects orgs. The zero value selects the first 100 by id.
type OrgListParams struct {
	After sfapi.OrgID // ids after this one
	Limit int         // defaults to 100, at most 1,000
	Query string      // part of the id or the label, without regard to case
	Held  bool        // only orgs that a hold stops, or that need a new grant
}

// maxOrgList bounds a page of List.
const maxOrgList = 1000

// List returns orgs by id. A full page may be followed by another: ask again
// with After set to its last id.
func (o *Orgs[TTx]) List(ctx context.Context, p *OrgListParams) ([]*Org, error) {
	f := store.OrgFilter{Limit: 100}
	if p != nil {
		f.After, f.Query, f.Held = string(p.After), p.Query, p.Held
		if p.Limit != 0 {
			f.Limit = p.Limit
		}
	}
	if f.Limit < 0 || f.Limit > maxOrgList {
		return nil, &jobs.FieldError{Field: "Limit", Message: fmt.Sprintf("%d is not between 1 and %d", f.Limit, maxOrgList)}
	}
	rows, err := o.runner.store.ListOrgs(ctx, &f)
	if err != nil {
		return nil, fmt.Errorf("list orgs: %w", err)
	}
	out := make([]*Org, len(rows))
	for i, row := range rows {
		if out[i], err = o.runner.holds.publicOrg(row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Disconnect cancels an org's jobs and records, revokes the grant at Salesforce
// and forgets the org's secrets. What was synced and written stays, and so does
// the org's row. A revoke call that Salesforce refuses is logged and changes
// nothing else. ErrOrgNotFound when the org was never connected.
//
// From its first transaction on the org takes no work. What is left to do when
// ctx or the process ends, worker processes finish.
func (o *Orgs[TTx]) Disconnect(ctx context.Context, id sfapi.OrgID) error {
	r := o.runner
	org, err := o.Get(ctx, id)
	if err != nil {
		return err
	}
	var order *store.Cancellation
	err = r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		row, err := r.store.OrgTx(ctx, tx, org.ID, true)
		if err != nil {
			return err
		}
		row.State = store.OrgDisconnected
		if _, err := r.store.UpdateOrgTx(ctx, tx, row); err != nil {
			return err
		}
		order, err = r.orderCancelTx(ctx, tx, org.ID, disconnectReason, nil)
		return err
	})
	if err == nil {
		r.tokens.Changed(org.ID)
		err = r.cancel(ctx, org.ID, order.ID)
	}
	if err != nil {
		return fmt.Errorf("disconnect org %s: %w", org.ID, err)
	}
	return nil
}

// Hold stops lanes of an org until an operator resumes them; no lane means
// both. Jobs that run end at their next call and go back to their lane.
func (o *Orgs[TTx]) Hold(ctx context.Context, id sfapi.OrgID, lanes ...breaker.Lane) (*Org, error) {
	return o.operate(ctx, id, breaker.Paused(breaker.LanesOf(lanes...)))
}

// Resume ends an operator's hold of the lanes, no lane meaning both, and probes
// every other hold now.
func (o *Orgs[TTx]) Resume(ctx context.Context, id sfapi.OrgID, lanes ...breaker.Lane) (*Org, error) {
	return o.operate(ctx, id, breaker.Resumed(breaker.LanesOf(lanes...)))
}

// Probe asks about every hold of an org now, due or not.
func (o *Orgs[TTx]) Probe(ctx context.Context, id sfapi.OrgID) (*Org, error) {
	return o.operate(ctx, id, breaker.ProbeNow())
}

func (o *Orgs[TTx]) operate(ctx context.Context, id sfapi.OrgID, obs breaker.Observation) (*Org, error) {
	id, err := sfapi.ParseOrgID(string(id))
	if err != nil {
		return nil, err
	}
	if _, err := o.runner.holds.observe(ctx, id, obs); err != nil {
		return nil, orgError(id, err)
	}
	return o.Get(ctx, id)
}

// heldByReason counts the holds of all orgs.
func (r *Runner[TTx]) heldByReason(ctx context.Context) (map[breaker.Reason]int, error) {
	counts := make(map[breaker.Reason]int)
	p := &OrgListParams{Held: true, Limit: maxOrgList}
	for {
		list, err := r.Orgs().List(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			for i := range o.Holds {
				counts[o.Holds[i].Reason]++
			}
		}
		if len(list) < p.Limit {
			return counts, nil
		}
		p.After = list[len(list)-1].ID
	}
}
