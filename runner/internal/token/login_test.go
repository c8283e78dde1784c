package token_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// login is a login host for very many orgs, with nothing but a token endpoint
// whose refresh tokens rotate: ten thousand simulated orgs with their objects
// would take the test's memory.
type login struct {
	mu     sync.Mutex
	called func() // with mu held
	grants map[string]sfapi.OrgID
	seq    int
}

func newLogin(called func()) *login { return &login{called: called, grants: map[string]sfapi.OrgID{}} }

func (l *login) next(org sfapi.OrgID) string {
	l.seq++
	token := fmt.Sprintf("refresh-%d", l.seq)
	l.grants[token] = org
	return token
}

// grant returns the credential of a new grant, with a token that was just
// issued.
func (l *login) grant(org sfapi.OrgID, issued time.Time) *store.Credential {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &store.Credential{Org: org, Access: []byte("access"), Refresh: []byte(l.next(org)), IssuedAt: issued,
		InstanceURL: "https://instance.my.salesforce.com"}
}

func (l *login) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.called()
	status, answer := 400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`
	token := form.Get("refresh_token")
	if org, ok := l.grants[token]; ok {
		delete(l.grants, token)
		status, answer = 200, fmt.Sprintf(`{"access_token":"access-%d","refresh_token":%q,"instance_url":"https://instance.my.salesforce.com",`+
			`"id":"https://login.salesforce.com/id/%s/0055e000000001AAAQ","issued_at":"%d","scope":"api"}`,
			l.seq, l.next(org), org, time.Now().UnixMilli())
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(answer)), Request: req}, nil
}

// plain is a Sealer that does nothing: the ten thousand are not about secrets.
type plain struct{}

func (plain) Encrypt(clear, _ []byte) ([]byte, error)  { return clear, nil }
func (plain) Decrypt(sealed, _ []byte) ([]byte, error) { return sealed, nil }
