package token_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// The token endpoint says many things with a status of 400, and most of them are
// not the end of a grant.
func TestAnswersOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	const (
		passing = "passing" // tried again, then left to the caller
		refused = "refused" // a verdict at once
		twice   = "twice"   // a verdict when it is confirmed
	)
	tests := []struct {
		code, description string
		want              string
		kind              sfapi.Kind
	}{
		{"invalid_grant", "expired access/refresh token", twice, sfapi.KindRevoked},
		{"invalid_grant", "token validity expired", twice, sfapi.KindRevoked},
		{"invalid_grant", "Token request is already being processed", passing, 0},
		{"unknown_error", "Token request is already being processed", passing, 0},
		{"unknown_error", "retry your request", passing, 0},
		{"invalid_grant", "login rate exceeded", refused, sfapi.KindLoginRateLimited},
		{"invalid_grant", "Login Rate Exceeded", refused, sfapi.KindLoginRateLimited},
		{"invalid_grant", "ip restricted", refused, sfapi.KindIPRestricted},
		{"invalid_grant", "ip restricted or invalid login hours", refused, sfapi.KindIPRestricted},
		{"invalid_grant", "user hasn't approved this consumer", refused, sfapi.KindAppNotAllowed},
		{"invalid_app_access", "user is not admin approved to access this app", refused, sfapi.KindAppNotAllowed},
		{"inactive_user", "inactive user", refused, sfapi.KindUserInactive},
		{"invalid_grant", "inactive user", refused, sfapi.KindUserInactive},
		{"inactive_org", "inactive organization", refused, sfapi.KindOrgInactive},
		{"invalid_grant", "authentication failure", refused, sfapi.KindClientMisconfigured},
		{"invalid_client_id", "client identifier invalid", refused, sfapi.KindClientMisconfigured},
		{"invalid_client", "invalid client credentials", refused, sfapi.KindClientMisconfigured},
		{"unsupported_grant_type", "grant type not supported", refused, sfapi.KindClientMisconfigured},
	}
	for _, tt := range tests {
		t.Run(tt.code+" "+tt.description, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newMemory())
				m := w.process(nil)
				stale := w.token(m)
				w.org.ExpireSessions()
				fault := w.org.Inject(sftest.OAuthError(tt.code, tt.description))
				_, err := m.Source(w.id).Refresh(t.Context(), stale)

				reasons := []token.Reason{token.ReasonRefused}
				verdicts := []verdict{{tt.kind, token.CauseRefused}}
				switch tt.want {
				case passing:
					reasons = append(reasons, token.ReasonRetry, token.ReasonRetry)
					verdicts = nil
				case twice:
					reasons = append(reasons, token.ReasonConfirm)
				}
				if diff := cmp.Diff(reasons, w.reasons()); diff != "" {
					t.Errorf("token calls (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(verdicts, w.judged()); diff != "" {
					t.Errorf("verdicts (-want +got):\n%s", diff)
				}
				var refusal *token.RefusedError
				switch got := errors.As(err, &refusal); {
				case got != (tt.want != passing):
					t.Errorf("refresh: %v, a verdict: %v", err, got)
				case got && (refusal.Verdict.Kind != tt.kind || sfapi.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.kind.String())):
					t.Errorf("refresh: %v, want kind %s", err, tt.kind)
				case !errors.As(err, new(*sfapi.Error)):
					t.Errorf("refresh: %v, want the endpoint's own error in it", err)
				}

				// Nothing is on record, nothing is spent: once the cause is gone
				// and the refusal has stood its time, the grant is as good as ever.
				fault.Remove()
				time.Sleep(time.Hour)
				if got, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil || !w.works(got) {
					t.Errorf("refresh afterwards: %v, want a token that works", err)
				}
				w.clean(errText(err))
			})
		})
	}
}

// What passes by itself does not reach the caller where it passes soon.
func TestPassingTrouble(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault sftest.Fault
	}{
		{"being processed", sftest.TokenBusy()},
		{"server unavailable", sftest.ServerUnavailable(3 * time.Second)},
		{"no healthy upstream", sftest.NoHealthyUpstream()},
		{"edge 406", sftest.EdgeEmpty406()},
		{"edge 503", sftest.HTMLError(http.StatusServiceUnavailable)},
		{"refused once", sftest.OAuthError("invalid_grant", "expired access/refresh token")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newMemory())
				m := w.process(nil)
				stale := w.token(m)
				w.org.ExpireSessions()
				w.org.Inject(tt.fault.On("POST", tokenPath).Next(1))
				if got, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil || !w.works(got) {
					t.Errorf("refresh: %v, want a token that works", err)
				}
				if n := len(w.reasons()); n != 2 {
					t.Errorf("%d token calls, want 2", n)
				}
				if diff := cmp.Diff([]verdict(nil), w.judged()); diff != "" {
					t.Errorf("verdicts (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Somebody outside our store refreshes the same grant at the same time.
func TestBusyWithAStranger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.org.SetRotation(false)
		w.org.SetBusyRefresh(true)
		refresh := w.org.Grant()
		w.connectWith(w.org, refresh)
		m := w.process(nil)
		stale := w.token(m)
		w.org.Inject(sftest.Hold(2*time.Second).On("POST", tokenPath).Next(1))
		stranger := make(chan error)
		go func() {
			_, err := w.app.RefreshToken(t.Context(), w.org.LoginURL(), sfapi.Secret(refresh))
			stranger <- err
		}()
		synctest.Wait()
		if got, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil || !w.works(got) {
			t.Errorf("refresh: %v, want a token that works", err)
		}
		if err := <-stranger; err != nil {
			t.Errorf("the stranger's refresh: %v", err)
		}
		if diff := cmp.Diff([]verdict(nil), w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
	})
}

// A refusal stands for a while, so that jobs that are tried again and again do
// not ask Salesforce each time; a new grant ends it.
func TestRefusalStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		fault := w.org.Inject(sftest.OAuthError("invalid_grant", "ip restricted"))
		hour := time.Now().Add(time.Hour)
		var text string
		for time.Now().Before(hour) {
			_, err := m.Source(w.id).Refresh(t.Context(), stale)
			if sfapi.KindOf(err) != sfapi.KindIPRestricted {
				t.Fatalf("refresh: %v, want ip_restricted", err)
			}
			if text == "" {
				text = err.Error()
			} else if err.Error() != text {
				t.Fatalf("refresh: %v, want the same error as before: %s", err, text)
			}
			time.Sleep(time.Second)
		}
		if n := len(w.reasons()); n < 2 || n > 5 {
			t.Errorf("%d token calls in an hour, want 2 to 5", n)
		}
		fault.Remove()
		w.connect(w.org)
		if got, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil || !w.works(got) {
			t.Errorf("refresh after a new grant: %v, want a token that works", err)
		}
	})
}

// A revoked grant is revoked only when the stored one could be read again.
func TestRevokedButUnconfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		db := &shaky{Credentials: w.db}
		m := w.processOn(db, func(c *token.Config) {
			told := c.OnCall
			c.OnCall = func(ctx context.Context, call *token.Call) {
				told(ctx, call)
				db.set(func(s *shaky) { s.read = func(func() error) error { return errAway } })
			}
		})
		stale := w.token(m)
		w.org.RevokeAll()
		_, err := m.Source(w.id).Refresh(t.Context(), stale)
		if !errors.Is(err, token.ErrUnconfirmed) || sfapi.KindOf(err) == sfapi.KindRevoked {
			t.Errorf("refresh: %v, want an unconfirmed refusal that is no revocation", err)
		}
		if diff := cmp.Diff([]verdict(nil), w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
	})
}

// A sibling rotated the token while ours was on its way: the refusal is about a
// token that is not stored any more.
func TestRefusedWhileRotatedElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		var once bool
		m := w.process(func(c *token.Config) {
			c.OnCall = func(context.Context, *token.Call) {
				if !once {
					once = true
					w.connect(w.org)
				}
			}
		})
		stale := w.token(m)
		w.org.RevokeAll()
		got, err := m.Source(w.id).Refresh(t.Context(), stale)
		if err != nil || !w.works(got) || got.Generation != stale.Generation+1 {
			t.Errorf("refresh: %v, want the new grant's token", err)
		}
		if diff := cmp.Diff([]verdict(nil), w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
	})
}

func TestGrantOfAnotherOrg(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		other := w.sim.AddOrg(nil)
		m := w.process(nil)
		cred, err := m.Seal(w.id, &sfapi.Token{Refresh: sfapi.Secret(other.Grant())})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.db.connect(t.Context(), cred); err != nil {
			t.Fatal(err)
		}
		_, err = m.Source(w.id).Token(t.Context())
		if !errors.Is(err, token.ErrOtherOrg) || !strings.Contains(err.Error(), other.ID()) {
			t.Errorf("token: %v, want an error that names org %s", err, other.ID())
		}
		if diff := cmp.Diff([]verdict{{sfapi.KindClientMisconfigured, token.CauseOtherOrg}}, w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
		if _, err := m.Seal(w.id, &sfapi.Token{Org: sfapi.OrgID(other.ID())}); !errors.Is(err, token.ErrOtherOrg) {
			t.Errorf("seal: %v, want %v", err, token.ErrOtherOrg)
		}
	})
}

// An org that moves to another instance keeps working: each answer names the
// host.
func TestInstanceMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		const moved = "https://moved.my.salesforce.com"
		w.org.SetInstanceURL(moved)
		got, err := m.Source(w.id).Refresh(t.Context(), stale)
		if err != nil || got.InstanceURL != moved || !w.works(got) {
			t.Fatalf("refresh: %v, %v, want instance %s", got, err, moved)
		}
		if got := w.token(w.process(nil)); got.InstanceURL != moved {
			t.Errorf("stored instance %s, want %s", got.InstanceURL, moved)
		}
	})
}

// An answer that cannot be used still carries the refresh token that replaces
// ours.
func TestUnusableAnswerKeepsTheRefreshToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		w.org.Inject(sftest.Fault{Name: "no instance_url", Mangle: func(r *sftest.Reply) {
			r.Body = []byte(strings.Replace(string(r.Body), `"instance_url"`, `"instance"`, 1))
		}}.On("POST", tokenPath).Next(1))
		if _, err := m.Source(w.id).Refresh(t.Context(), stale); err == nil {
			t.Fatal("an answer without instance_url was taken")
		}
		time.Sleep(time.Minute)
		got, err := m.Source(w.id).Refresh(t.Context(), stale)
		if err != nil || !w.works(got) {
			t.Errorf("refresh: %v, want a token that works", err)
		}
		if diff := cmp.Diff([]token.Reason{token.ReasonRefused, token.ReasonRefused}, w.reasons()); diff != "" {
			t.Errorf("token calls (-want +got):\n%s", diff)
		}
		w.clean()
	})
}
