package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

// stateChange sets conditions that last. Members that are left out change
// nothing. One-word values are those of the maps below.
type stateChange struct {
	ReadOnly       *string   `json:"read_only"` // off, on, sessions
	ReadOnlyStatus *int      `json:"read_only_status"`
	IPLock         *string   `json:"ip_lock"`   // off, sessions, login
	BlockApp       *string   `json:"block_app"` // off, data, not_installed, not_approved
	ClientID       string    `json:"client_id"` // of block_app; empty is every app
	Active         *bool     `json:"active"`
	UserActive     *bool     `json:"user_active"`
	Username       string    `json:"username"` // of user_active; empty is the default user
	APIEnabled     *bool     `json:"api_enabled"`
	StorageFull    *bool     `json:"storage_full"`
	DailyLimit     *int      `json:"daily_limit"`
	DailyUsage     *int      `json:"daily_usage"`
	LoginRate      *int      `json:"login_rate"`
	Concurrency    *int      `json:"concurrency"`
	LockRows       *int      `json:"lock_rows"`
	LockKeys       []string  `json:"lock_keys"`
	UnlockKeys     bool      `json:"unlock_keys"`
	Rotation       *bool     `json:"rotation"`
	KeepSessions   *bool     `json:"sessions_survive_rotation"`
	BusyRefresh    *bool     `json:"busy_refresh"`
	SessionTimeout *duration `json:"session_timeout"`
	ExpireSessions bool      `json:"expire_sessions"`
	CloseCursors   bool      `json:"close_cursors"`
	RevokeGrant    string    `json:"revoke_grant"`
	RevokeAll      bool      `json:"revoke_all"`
	// MoveTo is a base URL, or "new" for one more listener.
	MoveTo      string `json:"move_to"`
	MoveRefusal string `json:"move_refusal"` // url_not_reset, invalid_session, not_found, redirect
	Heal        bool   `json:"heal"`
}

var (
	readOnlyModes = map[string]sftest.ReadOnlyMode{"off": sftest.ReadWrite, "on": sftest.ReadOnly, "sessions": sftest.ReadOnlySessions}
	ipLocks       = map[string]sftest.IPLock{"off": sftest.IPOpen, "sessions": sftest.IPSessions, "login": sftest.IPLogin}
	appBlocks     = map[string]sftest.AppBlock{"off": sftest.AppAllowed, "data": sftest.AppDataRefused, "not_installed": sftest.AppNotInstalled, "not_approved": sftest.AppNotApproved}
	refusals      = map[string]sftest.MoveRefusal{"": sftest.MoveURLNotReset, "url_not_reset": sftest.MoveURLNotReset,
		"invalid_session": sftest.MoveInvalidSession, "not_found": sftest.MoveNotFound, "redirect": sftest.MoveRedirect}
)

// pick looks a word up and applies what it means.
func pick[T any](words map[string]T, word *string, set func(T)) error {
	if word == nil {
		return nil
	}
	v, ok := words[*word]
	if !ok {
		return fmt.Errorf("no mode %q", *word)
	}
	set(v)
	return nil
}

func change[T any](v *T, set func(T)) {
	if v != nil {
		set(*v)
	}
}

func (b stateChange) apply(c *control, o *sftest.Org) error {
	if b.Heal {
		o.Heal()
	}
	if err := pick(readOnlyModes, b.ReadOnly, o.SetReadOnly); err != nil {
		return err
	}
	if err := pick(ipLocks, b.IPLock, o.SetIPLock); err != nil {
		return err
	}
	if err := pick(appBlocks, b.BlockApp, func(v sftest.AppBlock) { o.BlockApp(b.ClientID, v) }); err != nil {
		return err
	}
	change(b.ReadOnlyStatus, o.SetReadOnlyStatus)
	change(b.Active, o.SetActive)
	change(b.UserActive, func(v bool) { o.SetUserActive(b.Username, v) })
	change(b.APIEnabled, o.SetAPIEnabled)
	change(b.StorageFull, o.SetStorageFull)
	change(b.DailyLimit, o.SetDailyLimit)
	change(b.DailyUsage, o.SetDailyUsage)
	change(b.LoginRate, o.SetLoginRate)
	change(b.Concurrency, o.SetConcurrency)
	change(b.LockRows, o.LockRows)
	change(b.Rotation, o.SetRotation)
	change(b.KeepSessions, o.SetSessionsSurviveRotation)
	change(b.BusyRefresh, o.SetBusyRefresh)
	change(b.SessionTimeout, func(d duration) { o.SetSessionTimeout(time.Duration(d)) })
	if b.UnlockKeys {
		o.UnlockKeys()
	}
	o.LockKeys(b.LockKeys...)
	if b.ExpireSessions {
		o.ExpireSessions()
	}
	if b.CloseCursors {
		o.CloseCursors()
	}
	if b.RevokeGrant != "" && !o.RevokeGrant(b.RevokeGrant) {
		return fmt.Errorf("no live grant has this refresh token")
	}
	if b.RevokeAll {
		o.RevokeAll()
	}
	return b.move(c, o)
}

func (b stateChange) move(c *control, o *sftest.Org) error {
	if b.MoveTo == "" {
		return nil
	}
	to := b.MoveTo
	if to == "new" {
		var err error
		if to, err = c.newAddress(); err != nil {
			return err
		}
	}
	return pick(refusals, &b.MoveRefusal, func(r sftest.MoveRefusal) { o.MoveInstance(to, r) })
}

// duration reads "90s" and the like.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

// faultSpec describes a fault: drop_before, drop_after_commit, latency, hold,
// truncate_body, short_body, malformed_json, html_error, no_healthy_upstream,
// edge_406, edge_420, server_unavailable, token_busy, api_error, oauth_error,
// static.
type faultSpec struct {
	Kind     string            `json:"kind"`
	Times    int               `json:"times"` // 0 until removed
	Skip     int               `json:"skip"`
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Duration duration          `json:"duration"`
	Status   int               `json:"status"`
	Code     string            `json:"code"`
	Message  string            `json:"message"`
	Header   map[string]string `json:"header"`
	Body     string            `json:"body"`
}

func (b faultSpec) fault() (sftest.Fault, error) {
	d := time.Duration(b.Duration)
	header := http.Header{}
	for k, v := range b.Header {
		header.Set(k, v)
	}
	var f sftest.Fault
	switch b.Kind {
	case "drop_before":
		f = sftest.DropBefore()
	case "drop_after_commit":
		f = sftest.DropAfterCommit()
	case "latency":
		f = sftest.Latency(d)
	case "hold":
		f = sftest.Hold(d)
	case "truncate_body":
		f = sftest.TruncateBody()
	case "short_body":
		f = sftest.ShortBody()
	case "malformed_json":
		f = sftest.MalformedJSON()
	case "html_error":
		f = sftest.HTMLError(b.Status)
	case "no_healthy_upstream":
		f = sftest.NoHealthyUpstream()
	case "edge_406":
		f = sftest.EdgeEmpty406()
	case "edge_420":
		f = sftest.Edge420()
	case "server_unavailable":
		f = sftest.ServerUnavailable(d)
	case "token_busy":
		f = sftest.TokenBusy()
	case "api_error":
		f = sftest.APIError(b.Status, b.Code, b.Message)
	case "oauth_error":
		f = sftest.OAuthError(b.Code, b.Message)
	case "static":
		f = sftest.Static("static", b.Status, header, b.Body)
	default:
		return f, fmt.Errorf("no fault %q", b.Kind)
	}
	switch {
	case (b.Kind == "api_error" || b.Kind == "html_error" || b.Kind == "static") && (b.Status < 200 || b.Status > 599):
		return f, fmt.Errorf("fault %s needs a status", b.Kind)
	case b.Method != "":
		f.Method = b.Method
	}
	if b.Path != "" {
		f.Path = b.Path
	}
	return f.Next(b.Times).After(b.Skip), nil
}

func (c *control) inject(b faultSpec, start func(sftest.Fault) *sftest.Injected) (any, error) {
	f, err := b.fault()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := len(c.injected) + 1
	c.injected[id] = start(f)
	return map[string]int{"id": id}, nil
}
