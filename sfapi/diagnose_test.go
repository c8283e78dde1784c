package sfapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

func TestDiagnose_Causes(t *testing.T) {
	t.Parallel()
	for _, tt := range causes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.app.ClientID, tt.app.ClientSecret = sftest.DefaultClientID, sftest.DefaultClientSecret
			c := connect(t, tt.app)
			tt.arrange(t, c)
			work := c.work
			if tt.write {
				work = c.write
			}
			refused := work(t.Context())
			if refused == nil {
				t.Fatal("the org takes the token")
			}
			mark := len(c.sim.Audit())
			tokens := c.sim.Calls(sftest.OpToken)
			d, err := sfapi.Diagnose(t.Context(), c.client, refused, &tt.history)
			if err != nil {
				t.Fatal(err)
			}
			if got := verdict(d); got != tt.want {
				t.Errorf("after %v\n got %s\nwant %s\n%s", refused, got, tt.want, d)
			}
			if got := c.calls(mark); got != tt.calls || len(strings.Fields(got)) > sfapi.MaxExtraCalls || c.sim.Calls(sftest.OpToken) != tokens {
				t.Errorf("calls: got %q, want %q", got, tt.calls)
			}
			if d.Org != c.client.Org() || len(d.Evidence) == 0 {
				t.Errorf("org %s, %d pieces of evidence", d.Org, len(d.Evidence))
			}
			checkSecrets(t, c, d)
		})
	}
}

// checkSecrets fails when any way of showing d shows a secret.
func checkSecrets(t *testing.T, c *connection, d *sfapi.Diagnosis) {
	t.Helper()
	asJSON, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("diagnosed", "diagnosis", d)
	for _, shown := range []string{string(asJSON), d.String(), fmt.Sprintf("%+v", d), fmt.Sprintf("%#v", d), logged.String()} {
		for _, secret := range c.secrets {
			if strings.Contains(shown, secret) || strings.Contains(shown, secret[len(secret)-10:]) {
				t.Errorf("a secret is shown: %s", shown)
			}
		}
	}
	var back sfapi.Diagnosis
	if err := json.Unmarshal(asJSON, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, &back); diff != "" {
		t.Errorf("JSON does not come back (-want +got):\n%s", diff)
	}
}

func TestDiagnose_RedactsEchoes(t *testing.T) {
	t.Parallel()
	c := connect(t)
	c.org.SetIPLock(sftest.IPSessions)
	refused := c.work(t.Context())
	// Every answer repeats what it was sent.
	c.sim.Inject(sftest.Fault{Name: "echo", Respond: func(r *http.Request) *http.Response {
		form := ""
		if r.Body != nil {
			b, _ := io.ReadAll(r.Body)
			form = string(b)
		}
		body, _ := json.Marshal([]map[string]string{{"errorCode": "UNKNOWN_EXCEPTION", "message": "cannot use " + r.Header.Get("Authorization") + " with " + form +
			" and refresh_token=" + c.grant.Reveal() + " of session " + c.token.Access.Reveal()}})
		return &http.Response{StatusCode: 500, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(body)))}
	}})
	d, err := sfapi.Diagnose(t.Context(), c.client, refused, &sfapi.History{RequestURL: "https://user:" + c.grant.Reveal() + "@old.my.salesforce.com/x?sid=" + c.token.Access.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.String(), "REDACTED") && d.Cause != sfapi.CauseWrongInstance {
		t.Errorf("nothing was echoed: %s", d)
	}
	checkSecrets(t, c, d)
	d, err = sfapi.Diagnose(t.Context(), c.client, refused, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.String(), "REDACTED") {
		t.Errorf("nothing was echoed: %s", d)
	}
	checkSecrets(t, c, d)
}

func TestDiagnose_OneFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t)
		c.org.SetIPLock(sftest.IPSessions)
		refused := c.work(t.Context())
		c.org.Inject(sftest.Latency(time.Second))
		mark := len(c.sim.Audit())
		var wg sync.WaitGroup
		got := make([]*sfapi.Diagnosis, 50)
		for i := range got {
			wg.Go(func() {
				d, err := sfapi.Diagnose(t.Context(), c.client, refused, nil)
				if err != nil {
					t.Error(err)
				}
				got[i] = d
			})
		}
		wg.Wait()
		for _, d := range got {
			if diff := cmp.Diff(got[0], d); diff != "" {
				t.Errorf("callers were told different things (-want +got):\n%s", diff)
			}
		}
		if calls := c.calls(mark); calls != "userinfo query" {
			t.Errorf("calls: %s", calls)
		}
		got[0].Evidence[0].Result = "mine"
		if got[1].Evidence[0].Result == "mine" {
			t.Error("callers share memory")
		}
	})
}

// TestDiagnose_LeaderLeaves says that who waits does not depend on the patience
// of whom it waits for.
func TestDiagnose_LeaderLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t)
		c.org.SetIPLock(sftest.IPSessions)
		refused := c.work(t.Context())
		c.org.Inject(sftest.Latency(2 * time.Second))
		mark := len(c.sim.Audit())
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if d, err := sfapi.Diagnose(impatient, c.client, refused, nil); !errors.Is(err, context.DeadlineExceeded) || d != nil {
				t.Errorf("the leader: %v, %v", d, err)
			}
		})
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := sfapi.Diagnose(gone, c.client, refused, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: %v", err)
			}
		})
		for range 10 {
			wg.Go(func() {
				if d, err := sfapi.Diagnose(t.Context(), c.client, refused, nil); err != nil || d.Cause != sfapi.CauseUndetermined {
					t.Errorf("a follower: %v, %v", d, err)
				}
			})
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if got := c.calls(mark); got != "userinfo userinfo query" {
			t.Errorf("calls: %s", got)
		}
	})
}

func TestDiagnose_Timeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t)
		c.org.SetIPLock(sftest.IPSessions)
		refused := c.work(t.Context())
		c.sim.Inject(sftest.Latency(time.Hour))
		diagnoser, err := sfapi.NewDiagnoser(&sfapi.DiagnoserConfig{CallTimeout: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		d, err := diagnoser.Diagnose(t.Context(), c.client, refused, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := verdict(d), "undetermined weak server_unavailable ip_restricted app_not_allowed maintenance wrong_instance"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if took := time.Since(start); took != 6*time.Second { // userinfo, versions, and nobody is there
			t.Errorf("it took %s", took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if d, err := diagnoser.Diagnose(ctx, c.client, refused, nil); !errors.Is(err, context.DeadlineExceeded) || d != nil {
			t.Errorf("Diagnose = %v, %v, want the deadline", d, err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := diagnoser.Diagnose(canceled, c.client, refused, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Diagnose: %v, want context.Canceled", err)
		}
	})
}

func TestDiagnose_RefusedLocally(t *testing.T) {
	t.Parallel()
	c := connect(t)
	c.org.SetIPLock(sftest.IPSessions)
	refused := c.work(t.Context())
	c.use(t, &sfapi.ClientConfig{Before: func(context.Context, *sfapi.Call) error { return errors.New("the org is held") }})
	mark := len(c.sim.Audit())
	d, err := sfapi.Diagnose(t.Context(), c.client, refused, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.calls(mark); got != "" || d.Cause != sfapi.CauseUndetermined || !strings.Contains(d.String(), "userinfo: not_asked") {
		t.Errorf("calls %q: %s", got, d)
	}
}

// TestDiagnose_HostGone is a My Domain that was renamed.
func TestDiagnose_HostGone(t *testing.T) {
	t.Parallel()
	c := connect(t)
	c.org.SetIPLock(sftest.IPSessions)
	refused := c.work(t.Context())
	asked := 0
	c.use(t, &sfapi.ClientConfig{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		asked++
		return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
	})})
	d, err := sfapi.Diagnose(t.Context(), c.client, refused, &sfapi.History{PreviousInstanceURL: "https://old.my.salesforce.com"})
	if err != nil {
		t.Fatal(err)
	}
	if got := verdict(d); got != "wrong_instance likely wrong_instance" || asked != 2 || !strings.Contains(d.String(), "instance_url: changed") {
		t.Errorf("%d calls: %s", asked, d)
	}
}

func TestDiagnose_WithoutTokens(t *testing.T) {
	t.Parallel()
	c := connect(t)
	c.org.ExpireSessions()
	other := c.token
	other.Org = "00Dxx0000000001EAA"
	for name, tt := range map[string]struct {
		source sfapi.TokenSource
		want   string
	}{
		"static": {sfapi.StaticToken(&c.token), "undetermined weak unknown expired revoked ip_restricted app_not_allowed"},
		"none":   {sfapi.StaticToken(nil), "undetermined weak unknown expired revoked user_inactive"},
		"wrong":  {sfapi.StaticToken(&other), "wrong_instance certain wrong_instance"},
	} {
		client, err := sfapi.NewClient(c.client.Org(), c.app, tt.source, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, refused := client.QueryCount(t.Context(), "SELECT COUNT() FROM Account")
		if d, err := sfapi.Diagnose(t.Context(), client, refused, nil); err != nil || verdict(d) != tt.want {
			t.Errorf("%s: Diagnose = %s, %v, want %s", name, d, err, tt.want)
		}
	}
	if _, err := sfapi.Diagnose(t.Context(), c.client, nil, nil); err == nil {
		t.Error("nothing was refused, and no error")
	}
}

func TestNewDiagnoser(t *testing.T) {
	t.Parallel()
	_, err := sfapi.NewDiagnoser(&sfapi.DiagnoserConfig{CallTimeout: -1, MaintenanceWindow: -1})
	if err == nil || !strings.Contains(err.Error(), "CallTimeout") || !strings.Contains(err.Error(), "MaintenanceWindow") {
		t.Errorf("NewDiagnoser: %v, want both fields", err)
	}
}
