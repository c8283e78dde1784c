package sftest

import (
	"slices"
	"strings"
	"time"
)

// grant is one user's approval of one app: a refresh token and its sessions.
type grant struct {
	org        *Org
	user       *User
	app        *App
	refresh    string
	revoked    bool
	generation int
	// busy counts token requests under way, for SetBusyRefresh.
	busy int
}

// session is one access token.
type session struct {
	token      string
	user       *User
	app        *App
	grant      *grant // nil for flows without a refresh token
	generation int
	issued     time.Time
	used       time.Time
	scope      string
}

// Grant approves the default app for the default user, as a consent does, and
// returns the refresh token.
func (o *Org) Grant() string { return o.GrantFor("", "") }

// GrantFor approves an app for a user and returns the refresh token. An empty
// user name is the default user, an empty client id the first app by name.
// It panics when either does not exist.
func (o *Org) GrantFor(username, clientID string) string {
	app := o.sim.app(clientID)
	if clientID == "" {
		app = o.sim.defaultApp()
	}
	if app == nil {
		panic("sftest: no app with client id " + clientID)
	}
	o.mu.Lock()
	u := o.users[0]
	if username != "" {
		u = o.userNamed(username)
	}
	if u == nil {
		o.mu.Unlock()
		panic("sftest: no user " + username)
	}
	g := o.newGrant(u, app)
	refresh := g.refresh
	o.mu.Unlock()
	o.sim.ownRefresh(refresh, o)
	return refresh
}

// AccessToken starts a session of the default user and app, without a grant of
// its own, and returns its access token.
func (o *Org) AccessToken() string {
	app := o.sim.defaultApp()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.newSession(o.users[0], app, nil).token
}

func (s *Sim) defaultApp() *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.apps[DefaultClientID]; a != nil {
		return a
	}
	var first *App
	for _, a := range s.apps {
		if first == nil || a.ClientID < first.ClientID {
			first = a
		}
	}
	return first
}

// ownRefresh remembers whose refresh token it is.
func (s *Sim) ownRefresh(token string, o *Org) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh[token] = o
}

// newGrant approves the app; one grant more than the app's cap drops the
// oldest without a word.
func (o *Org) newGrant(u *User, app *App) *grant {
	var live []*grant
	for _, g := range o.grants {
		if g.user == u && g.app.ClientID == app.ClientID && !g.revoked {
			live = append(live, g)
		}
	}
	for len(live) >= app.MaxGrants {
		o.revoke(live[0])
		live = live[1:]
	}
	g := &grant{org: o, user: u, app: app}
	o.setRefresh(g)
	o.grants = append(o.grants, g)
	return g
}

// setRefresh gives the grant a new refresh token.
func (o *Org) setRefresh(g *grant) {
	g.refresh = "5Aep861" + randomToken(72)
	o.tokens[g.refresh] = g
	o.sim.secrets.add(g.refresh)
}

// newSession starts a session.
func (o *Org) newSession(u *User, app *App, g *grant) *session {
	now := time.Now()
	s := &session{
		token: o.id.Short() + "!AQ" + randomToken(94), user: u, app: app, grant: g,
		generation: 1, issued: now, used: now, scope: app.Scopes,
	}
	if g != nil {
		g.generation++
		s.generation = g.generation
	}
	o.sessions[s.token] = s
	o.sim.secrets.add(s.token)
	return s
}

// live returns the session of an access token, unless it has ended.
func (o *Org) live(token string, touch bool) *session {
	s := o.sessions[token]
	if s == nil {
		return nil
	}
	now := time.Now()
	if now.Sub(s.used) >= o.sessionTimeout {
		o.endSession(s)
		return nil
	}
	if touch {
		s.used = now
	}
	return s
}

// endSession ends a session and the cursors that it opened.
func (o *Org) endSession(s *session) {
	delete(o.sessions, s.token)
	for id, c := range o.locators {
		if c.session == s {
			o.closeCursor(id, c)
		}
	}
}

// endSessions ends the sessions that match.
func (o *Org) endSessions(match func(*session) bool) {
	for _, s := range o.sessions {
		if match(s) {
			o.endSession(s)
		}
	}
}

// revoke ends a grant with everything that came of it.
func (o *Org) revoke(g *grant) {
	g.revoked = true
	o.endSessions(func(s *session) bool { return s.grant == g })
}

// ExpireSessions ends every access token; grants stay.
func (o *Org) ExpireSessions() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endSessions(func(*session) bool { return true })
}

// RevokeGrant revokes the grant of a refresh token, spent ones included, and
// reports whether there was one.
func (o *Org) RevokeGrant(refreshToken string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.tokens[refreshToken]
	if g == nil || g.revoked {
		return false
	}
	o.revoke(g)
	return true
}

// RevokeAll revokes every grant, as an admin does who blocks an app.
func (o *Org) RevokeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.grants {
		g.revoked = true
	}
	o.endSessions(func(*session) bool { return true })
}

// CurrentRefreshToken returns the refresh token that replaced a given one, or
// "" when the grant is revoked or unknown.
func (o *Org) CurrentRefreshToken(refreshToken string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.tokens[refreshToken]; g != nil && !g.revoked {
		return g.refresh
	}
	return ""
}

// Grants counts the live grants of the org.
func (o *Org) Grants() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, g := range o.grants {
		if !g.revoked {
			n++
		}
	}
	return n
}

// Sessions counts the live access tokens of the org.
func (o *Org) Sessions() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, s := range o.sessions {
		if time.Since(s.used) < o.sessionTimeout {
			n++
		}
	}
	return n
}

// hasScope reports whether a scope list allows one of the wanted scopes.
func hasScope(list string, want ...string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(s string) bool { return slices.Contains(want, s) })
}
