package sfapi

import (
	"fmt"
	"strings"
)

// The paths are those of Setup in Lightning Experience. External client apps
// replace connected apps, so both are named:
// https://help.salesforce.com/s/articleView?id=xcloud.external_client_apps.htm

const (
	adviceWrongOrg = "The stored grant belongs to another Salesforce org than the one it is filed under: compare Setup > Company Information > Salesforce.com Organization ID with the id in the evidence, " +
		"then connect again while logged in to the right org. A sandbox that was refreshed has a new id and must be connected anew. No setting of the org is at fault."

	adviceScope = "The app was granted too few scopes: in Setup > App Manager (or External Client App Manager) > the app > OAuth settings add \"Manage user data via APIs (api)\" and " +
		"\"Perform requests at any time (refresh_token, offline_access)\", then connect the org again, since a grant keeps the scopes it was given."
)

// causeAdvice is what the org's admin can do about a cause, in full and as one
// item of a list.
var causeAdvice = map[Cause]struct{ full, item string }{
	CauseExpired: {
		"Nothing to do: the session had ended and the newest one is accepted. If it recurs within minutes, look at Setup > Session Settings > Timeout Value and at the app's session policy, and for a second system that refreshes the same connection.",
		"the session had only ended: Setup > Session Settings > Timeout Value, and the app's session policy",
	},
	CauseWrongInstance: {
		"The token is used at a host that does not serve this org, usually after an instance migration or a change of My Domain: check the org's current address in Setup > My Domain, and connect the org again with that address as its login URL. No permission has to be changed.",
		"the org's address changed: Setup > My Domain",
	},
	CauseIPRestricted: {
		"Salesforce refuses this service's network address or the hour. Clear Setup > Session Settings > \"Lock sessions to the IP address from which they originated\"; " +
			"if the integration user's profile (Setup > Profiles) has Login IP Ranges or Login Hours, add this service's addresses and hours to them; " +
			"or set Setup > Manage Connected Apps (or External Client App Manager) > the app > IP Relaxation to \"Relax IP restrictions\". Whoever runs this service should give it one stable outgoing address.",
		"the network address: Setup > Session Settings > \"Lock sessions to the IP address from which they originated\"; the integration user's profile > Login IP Ranges; the app's IP Relaxation",
	},
	CauseAppNotAllowed: {
		"The org does not let this app use the API. In Setup > Connected Apps OAuth Usage (or External Client App Manager) install and unblock the app; in its policies look at Permitted Users and, if that is \"Admin approved users are pre-authorized\", " +
			"add the integration user's profile or permission set; if Setup > API Access Control limits access to allowlisted apps, put the app on the list.",
		"API access: Setup > API Access Control; Setup > Connected Apps OAuth Usage (is the app installed, not blocked?); the app's Permitted Users and scopes",
	},
	CauseRevoked: {
		"The grant was ended: somebody must connect the org again as its integration user. To keep it from recurring look at Setup > Connected Apps OAuth Usage for a revoked app, at the app's refresh token policy, " +
			"at the user's changed password, and at how often this app was connected as the same user: one connection too many drops the oldest.",
		"the grant was ended: Setup > Connected Apps OAuth Usage, the app's refresh token policy",
	},
	CauseMaintenance: {
		"Nothing to do: Salesforce has the org in read-only mode or maintenance. Its dates are on status.salesforce.com under the instance that Setup > Company Information names; work resumes by itself. " +
			"If no maintenance is announced, ask Salesforce Support whether the read-only test mode is on.",
		"maintenance or read-only mode: status.salesforce.com, under the instance that Setup > Company Information names",
	},
	CauseUserInactive: {
		"The integration user cannot log in: in Setup > Users activate, unfreeze or unlock it, or reset its password (better: a permission set with Password Never Expires), or connect the org again as another user.",
		"the integration user: Setup > Users (active, not frozen, not locked out, password not expired) and its Login History",
	},
	CauseOrgInactive: {
		"Salesforce says that the org is suspended, expired or deleted: its owner must settle that with Salesforce, under Setup > Company Information and the account's contract. A sandbox that was refreshed has a new id and must be connected anew.",
		"the org itself: Setup > Company Information, and its contract or trial",
	},
}

// kindAdvice is for undetermined causes with a Kind of their own.
var kindAdvice = map[Kind]string{
	KindServerUnavailable:   "Usually nothing to do: Salesforce, or the network before it, does not answer. If it lasts, look at status.salesforce.com under the org's instance (Setup > Company Information), and at this service's way out to the internet.",
	KindLoginRateLimited:    "Too many log-ins of the integration user within the last hour: look in Setup > Login History for a system that logs in for every request with the same user. Work resumes by itself.",
	KindClientMisconfigured: "The token request of this service is refused; the org's admin has revoked nothing. The operator must compare client id, secret and flow with Setup > App Manager (or External Client App Manager); the admin, if the user is frozen (Setup > Users) or what Setup > Login History says of it.",
	KindDailyLimit:          "The org has used up its API calls of the last 24 hours: see Setup > Company Information > API Requests, Last 24 Hours. The window rolls, so work resumes by itself.",
	KindConcurrentLimit:     "The org has too many long API requests under way: see Setup > System Overview. Work resumes by itself.",
	KindAPIDisabled:         "The org or user has no API access: its edition must include the API, and the integration user's profile or permission set needs System Permissions > API Enabled (Setup > Users > the user > Profile).",
	KindVersionRetired:      "Salesforce no longer serves the API version that this service uses: its operator must update it. No setting of the org is at fault.",
}

func adviceOf(r diagnosisRule) string {
	if r.advice != "" {
		return r.advice
	}
	return causeAdvice[r.cause].full
}

// openAdvice is for undetermined causes: what to look at, the likeliest first.
func openAdvice(k Kind, candidates []Cause) string {
	if text, ok := kindAdvice[k]; ok {
		return text
	}
	if len(candidates) == 0 {
		return "Salesforce refuses this connection and the evidence does not say why: look at the integration user's row in Setup > Login History and at Setup > Connected Apps OAuth Usage. Nothing is known to be revoked."
	}
	var b strings.Builder
	b.WriteString("Salesforce refuses this connection and the evidence does not say why. Check, in this order: ")
	for i, c := range candidates {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d. %s", i+1, causeAdvice[c].item)
	}
	b.WriteString(". Nothing is known to be revoked.")
	return b.String()
}
