package token_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// labelled is an answer of the token endpoint, and what it means.
type labelled struct {
	ID           string            `json:"id"`
	Endpoint     string            `json:"endpoint"`
	Status       int               `json:"status"`
	Headers      map[string]string `json:"headers"`
	Body         string            `json:"body"`
	BodyEncoding string            `json:"body_encoding"`
	Class        string            `json:"class"`
	Transient    bool              `json:"transient"`
	Accept       []string          `json:"accept"`
}

func tokenAnswers(t *testing.T) (out []*labelled) {
	t.Helper()
	for _, name := range []string{"corpus/errors.dev.jsonl", "bodies.jsonl"} {
		f, err := os.Open("../../../sfapi/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			l := &labelled{}
			if err := json.Unmarshal(lines.Bytes(), l); err != nil {
				t.Fatal(err)
			}
			if l.Endpoint == "token" && l.Class != "ok" {
				out = append(out, l)
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 100 {
		t.Fatalf("only %d answers", len(out))
	}
	return out
}

// Each answer of the corpus holds, backs off or revokes as it is labelled. Only
// what revokes is asked about twice, and nothing else ends the grant.
func TestCorpusOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	for _, l := range tokenAnswers(t) {
		t.Run(l.ID, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { testTokenAnswer(t, l) })
		})
	}
}

func testTokenAnswer(t *testing.T, l *labelled) {
	header := http.Header{}
	for k, v := range l.Headers {
		header.Set(k, v)
	}
	body := l.Body
	if l.BodyEncoding == "base64" {
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	w := newWorld(t, newMemory())
	m := w.process(nil)
	stale := w.token(m)
	w.org.ExpireSessions()
	before := w.org.TokenCalls()
	fault := w.org.Inject(sftest.Static(l.ID, l.Status, header, body).On("", "/services/oauth2/token"))
	_, err := m.Source(w.id).Refresh(t.Context(), stale)
	if err == nil {
		t.Fatal("a token")
	}
	kind := sfapi.KindOf(err)
	if !slices.Contains(append(l.Accept, l.Class), kind.String()) {
		t.Errorf("%s, want %s %v: %v", kind, l.Class, l.Accept, err)
	}
	var refusal *token.RefusedError
	judged := w.judged()
	// Trouble that passes by itself, what nobody knows, and a page in place of a
	// token, after which the refresh token may be spent, are no verdicts.
	switch passes := l.Transient && kind != sfapi.KindLoginRateLimited || kind == sfapi.KindUnknown || l.Status == http.StatusOK; {
	case passes:
		if len(judged) != 0 || errors.As(err, &refusal) {
			t.Errorf("verdicts %v: %v", judged, err)
		}
	case len(judged) != 1 || judged[0] != verdict{kind, token.CauseRefused} || !errors.As(err, &refusal):
		t.Errorf("verdicts %v, want one of %s: %v", judged, kind, err)
	}
	asked := w.reasons()
	if confirmed := slices.Contains(asked, token.ReasonConfirm); confirmed != (kind == sfapi.KindRevoked) {
		t.Errorf("token calls %v for %s", asked, kind)
	}
	if len(asked) > 3 {
		t.Errorf("%d token calls: %v", len(asked), asked)
	}
	if w.org.TokenCalls() != before {
		t.Error("a call got past the fault")
	}

	// The grant is as good as ever when the cause is gone.
	fault.Remove()
	time.Sleep(time.Hour)
	if got, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil || !w.works(got) {
		t.Errorf("afterwards: %v, want a token that works", err)
	}
	w.clean(errText(err))
}
