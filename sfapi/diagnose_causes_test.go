package sfapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

var lately = time.Now().Add(-10 * time.Minute)

// causes are conditions of an org, what else is known, and the verdict with the
// calls that it may cost.
var causes = []struct {
	name    string
	app     sftest.App
	arrange func(*testing.T, *connection)
	write   bool
	history sfapi.History
	want    string
	calls   string
}{
	{
		name:    "expired: a session that died twice",
		arrange: func(_ *testing.T, c *connection) { c.org.Inject(sessionRefused().Next(2)) },
		want:    "expired certain session_expired_or_invalid",
		calls:   "userinfo query",
	},
	{
		name: "wrong instance: the old host says so",
		arrange: func(_ *testing.T, c *connection) {
			stayAt(c, c.org.InstanceURL())
			c.org.MoveInstance("https://acme2.my.salesforce.com", sftest.MoveURLNotReset)
		},
		want: "wrong_instance certain wrong_instance",
	},
	{
		name: "wrong instance: the old host knows no session",
		arrange: func(_ *testing.T, c *connection) {
			stayAt(c, c.org.InstanceURL())
			c.org.MoveInstance("https://acme2.my.salesforce.com", sftest.MoveInvalidSession)
		},
		history: sfapi.History{LastWorked: lately},
		want:    "wrong_instance likely wrong_instance",
		calls:   "userinfo query",
	},
	{
		name: "wrong instance: the old host has a page",
		arrange: func(_ *testing.T, c *connection) {
			stayAt(c, c.org.InstanceURL())
			c.org.MoveInstance("https://acme2.my.salesforce.com", sftest.MoveNotFound)
		},
		want: "wrong_instance certain wrong_instance",
	},
	{
		name: "wrong instance: the request was built for the old host",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sessionRefused())
		},
		history: sfapi.History{RequestURL: "https://old.my.salesforce.com/services/data/v66.0/query/01g-2000"},
		want:    "wrong_instance certain wrong_instance",
	},
	{
		name: "wrong instance: the token is of another org",
		arrange: func(t *testing.T, c *connection) {
			other := c.sim.AddOrg(nil)
			c.adjust = func(tok *sfapi.Token) { tok.Access = sfapi.Secret(other.AccessToken()) }
			c.org.ExpireSessions()
		},
		history: sfapi.History{EverWorked: sfapi.FactNo},
		want:    "wrong_instance certain wrong_instance",
		calls:   "userinfo",
	},
	{
		name:    "network: sessions are locked, after a deployment of ours",
		arrange: func(_ *testing.T, c *connection) { c.org.SetIPLock(sftest.IPSessions) },
		history: sfapi.History{LastWorked: lately, EgressChanged: sfapi.FactYes},
		want:    "ip_restricted likely ip_restricted",
		calls:   "userinfo query",
	},
	{
		name:    "network: another address of ours gets through",
		arrange: func(_ *testing.T, c *connection) { c.org.SetIPLock(sftest.IPSessions) },
		history: sfapi.History{OtherEgressWorks: sfapi.FactYes},
		want:    "ip_restricted certain ip_restricted",
	},
	{
		name: "network: logins are refused",
		arrange: func(_ *testing.T, c *connection) {
			c.org.SetIPLock(sftest.IPLogin)
			c.org.ExpireSessions()
		},
		want: "ip_restricted certain ip_restricted",
	},
	{
		name:    "app: API access control, a new connection",
		arrange: func(_ *testing.T, c *connection) { c.org.BlockApp("", sftest.AppDataRefused) },
		history: sfapi.History{EverWorked: sfapi.FactNo},
		want:    "app_not_allowed likely app_not_allowed",
		calls:   "userinfo query",
	},
	{
		name:    "app: not installed",
		arrange: func(_ *testing.T, c *connection) { c.org.BlockApp("", sftest.AppNotInstalled) },
		want:    "app_not_allowed certain app_not_allowed",
	},
	{
		name: "app: not approved",
		arrange: func(_ *testing.T, c *connection) {
			c.org.BlockApp("", sftest.AppNotApproved)
			c.org.ExpireSessions()
		},
		want: "app_not_allowed certain app_not_allowed",
	},
	{
		name:    "app: granted without the scope",
		app:     sftest.App{Scopes: "refresh_token id"},
		arrange: func(*testing.T, *connection) {},
		want:    "app_not_allowed certain app_not_allowed",
	},
	{
		name: "app: only introspection tells the scope",
		app:  sftest.App{Scopes: "refresh_token id"},
		arrange: func(_ *testing.T, c *connection) {
			c.adjust = func(tok *sfapi.Token) { tok.Scope = "" }
		},
		want:  "app_not_allowed certain app_not_allowed",
		calls: "userinfo introspect",
	},
	{
		name:    "revoked: the stored token was read again",
		arrange: func(_ *testing.T, c *connection) { c.org.RevokeAll() },
		history: sfapi.History{StoredTokenUnchanged: true},
		want:    "revoked certain revoked",
	},
	{
		name:    "maintenance: sessions are refused after a maintenance code",
		arrange: func(_ *testing.T, c *connection) { c.org.SetReadOnly(sftest.ReadOnlySessions) },
		history: sfapi.History{LastWorked: lately, MaintenanceSeen: lately},
		want:    "maintenance certain maintenance_readonly",
	},
	{
		name:    "maintenance: the status site corroborates",
		arrange: func(_ *testing.T, c *connection) { c.org.SetReadOnly(sftest.ReadOnlySessions) },
		history: sfapi.History{LastWorked: lately, TrustMaintenance: true},
		want:    "maintenance likely maintenance_readonly",
		calls:   "userinfo query",
	},
	{
		name: "maintenance: the org says that it is read-only",
		arrange: func(_ *testing.T, c *connection) {
			c.org.SetReadOnly(sftest.ReadOnly)
			c.org.Inject(sessionRefused().Next(2))
		},
		write: true,
		want:  "maintenance certain maintenance_readonly",
		calls: "userinfo query",
	},
	{
		name:    "user: deactivated",
		arrange: func(_ *testing.T, c *connection) { c.org.SetUserActive("", false) },
		want:    "user_inactive certain user_inactive",
	},
	{
		name: "user: only userinfo says so",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sessionRefused())
			c.org.Inject(sftest.Static("inactive", 403, http.Header{"Content-Type": {"text/html"}}, "Inactive").On("", "/services/oauth2/userinfo"))
		},
		want:  "user_inactive certain user_inactive",
		calls: "userinfo",
	},
	{
		name:    "org: suspended",
		arrange: func(_ *testing.T, c *connection) { c.org.SetActive(false) },
		want:    "org_inactive certain org_inactive",
	},

	{
		name: "expired: the query is refused for another reason",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sessionRefused().Next(2))
			c.org.Inject(sftest.APIError(400, "INVALID_TYPE", "sObject type 'Organization' is not supported.").On("", "/query").After(2))
		},
		want:  "expired certain session_expired_or_invalid",
		calls: "userinfo query",
	},
	{
		name: "expired: not for certain where the message seldom passes",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sftest.APIError(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API").On("", "/query").Next(2))
		},
		want:  "expired likely session_expired_or_invalid",
		calls: "userinfo query",
	},
	{
		name: "user: userinfo shows one that is not active",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sessionRefused())
			c.org.Inject(sftest.Static("inactive", 200, http.Header{"Content-Type": {"application/json"}},
				`{"user_id":"005000000000001AAA","organization_id":"`+c.org.ID()+`","active":false}`).On("", "/services/oauth2/userinfo"))
		},
		want:  "user_inactive certain user_inactive",
		calls: "userinfo",
	},
	{
		name: "wrong instance: identity knows the token's org, userinfo is not for us",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sessionRefused())
			c.org.Inject(sftest.Static("no_access", 403, nil, "No_Access").On("", "/services/oauth2/userinfo"))
			c.org.Inject(sftest.Static("wrong_org", 403, nil, "Wrong_Org").On("", "/id/"))
		},
		want:  "wrong_instance certain wrong_instance",
		calls: "userinfo identity",
	},

	// What looks alike and is not told apart.
	{
		name: "undetermined: the page of an org that is being set up, or gone",
		arrange: func(_ *testing.T, c *connection) {
			c.org.Inject(sessionRefused().Next(2))
			c.sim.Inject(sftest.Static("gone", 420, http.Header{"Server": {"sfdcedge"}}, "").After(3)) // the work's own calls
		},
		want:  "undetermined weak unknown org_inactive ip_restricted app_not_allowed maintenance",
		calls: "userinfo data",
	},
	{
		name: "undetermined: userinfo names an org that is none",
		arrange: func(_ *testing.T, c *connection) {
			c.org.SetIPLock(sftest.IPSessions)
			c.org.Inject(sftest.Static("odd", 200, http.Header{"Content-Type": {"application/json"}},
				`{"user_id":"me","organization_id":"us","active":true}`).On("", "/services/oauth2/userinfo"))
		},
		want:  "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance",
		calls: "userinfo identity query",
	},
	{
		name:    "undetermined: a grant that may have been rotated",
		arrange: func(_ *testing.T, c *connection) { c.org.RevokeAll() },
		want:    "undetermined weak unknown revoked user_inactive expired app_not_allowed",
		calls:   "userinfo",
	},
	{
		name:    "undetermined: locked sessions and no history",
		arrange: func(_ *testing.T, c *connection) { c.org.SetIPLock(sftest.IPSessions) },
		want:    "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance",
		calls:   "userinfo query",
	},
	{
		name:    "undetermined: an app that worked and is now refused",
		arrange: func(_ *testing.T, c *connection) { c.org.BlockApp("", sftest.AppDataRefused) },
		history: sfapi.History{LastWorked: lately},
		want:    "undetermined weak unknown app_not_allowed maintenance ip_restricted wrong_instance",
		calls:   "userinfo query",
	},
	{
		name:    "undetermined: an app refused just as our address changed",
		arrange: func(_ *testing.T, c *connection) { c.org.BlockApp("", sftest.AppDataRefused) },
		history: sfapi.History{LastWorked: lately, EgressChanged: sfapi.FactYes},
		want:    "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance",
		calls:   "userinfo query",
	},
	{
		name:    "undetermined: maintenance long ago",
		arrange: func(_ *testing.T, c *connection) { c.org.SetReadOnly(sftest.ReadOnlySessions) },
		history: sfapi.History{LastWorked: lately, MaintenanceSeen: time.Now().Add(-5 * time.Hour)},
		want:    "undetermined weak unknown maintenance app_not_allowed ip_restricted wrong_instance",
		calls:   "userinfo query",
	},
	{
		name:    "undetermined: all connections of the org are refused",
		arrange: func(_ *testing.T, c *connection) { c.org.SetReadOnly(sftest.ReadOnlySessions) },
		history: sfapi.History{SameOrg: sfapi.Tally{Refused: 3}, SameApp: sfapi.Tally{Working: 20}},
		want:    "undetermined weak unknown maintenance app_not_allowed ip_restricted wrong_instance",
		calls:   "userinfo query",
	},
	{
		name: "undetermined: an app that may not introspect, scopes unknown",
		app:  sftest.App{NoIntrospect: true},
		arrange: func(_ *testing.T, c *connection) {
			c.adjust = func(tok *sfapi.Token) { tok.Scope = "" }
			c.org.SetIPLock(sftest.IPSessions)
		},
		want:  "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance",
		calls: "userinfo introspect query",
	},
	{
		name: "undetermined: userinfo breaks off",
		arrange: func(_ *testing.T, c *connection) {
			c.adjust = func(tok *sfapi.Token) { tok.Scope = "" }
			c.org.SetIPLock(sftest.IPSessions)
			c.org.Inject(sftest.DropBefore().On("", "/services/oauth2/userinfo"))
		},
		want:  "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance",
		calls: "userinfo data introspect query",
	},
	{
		name: "undetermined: userinfo is not for us",
		arrange: func(_ *testing.T, c *connection) {
			c.adjust = func(tok *sfapi.Token) { tok.Scope = "" }
			c.org.SetIPLock(sftest.IPSessions)
			c.org.Inject(sftest.Static("no_access", 403, nil, "No_Access").On("", "/services/oauth2/userinfo"))
		},
		want:  "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance",
		calls: "userinfo identity introspect query",
	},
	{
		name: "undetermined: pages instead of answers",
		arrange: func(_ *testing.T, c *connection) {
			c.org.SetIPLock(sftest.IPSessions)
			page := sftest.HTMLError(503)
			c.sim.Inject(page.On("", "/services/oauth2/userinfo"))
			c.sim.Inject(page.On("", "/services/data").After(2)) // the work's own two calls
		},
		want:  "undetermined weak server_unavailable ip_restricted app_not_allowed maintenance wrong_instance",
		calls: "userinfo data",
	},
	{
		name: "undetermined: the refresh is put off",
		arrange: func(_ *testing.T, c *connection) {
			c.org.ExpireSessions()
			c.sim.Inject(sftest.TokenBusy())
		},
		want: "undetermined weak server_unavailable",
	},
	{
		name: "undetermined: too many log-ins",
		arrange: func(_ *testing.T, c *connection) {
			c.org.ExpireSessions()
			c.sim.Inject(sftest.OAuthError("invalid_grant", "login rate exceeded"))
		},
		want: "undetermined weak login_rate_limited",
	},
	{
		name: "undetermined: an authentication failure",
		arrange: func(_ *testing.T, c *connection) {
			c.org.ExpireSessions()
			c.sim.Inject(sftest.OAuthError("invalid_grant", "authentication failure"))
		},
		history: sfapi.History{StoredTokenUnchanged: true},
		want:    "undetermined weak client_misconfigured app_not_allowed user_inactive ip_restricted expired",
		calls:   "userinfo",
	},
	{
		name: "undetermined: the session is good and the day's calls are used up",
		arrange: func(_ *testing.T, c *connection) {
			c.org.SetDailyUsage(100_000)
			c.org.Inject(sessionRefused().Next(2))
		},
		want:  "undetermined weak daily_limit ip_restricted app_not_allowed maintenance wrong_instance",
		calls: "userinfo query",
	},
}

// stayAt makes c keep using one instance, whatever token answers say.
func stayAt(c *connection, instance string) {
	c.adjust = func(tok *sfapi.Token) { tok.InstanceURL = instance }
}
