package breaker

// Advice returns what a person can do about a hold of this reason: for the
// org's Salesforce administrator, where in Setup; for the operator, what he
// will see. A diagnosis may know better; see [Observation.Advice].
func (r Reason) Advice() string {
	if text, ok := advice[r]; ok {
		return text
	}
	return "Read the evidence; resume the org once its cause is dealt with."
}

// The paths are those of Lightning Experience's Setup. External client apps
// replace connected apps, so both are named:
// https://help.salesforce.com/s/articleView?id=xcloud.external_client_apps.htm
var advice = map[Reason]string{
	ReasonMaintenance: "Nothing to do: Salesforce has the org in read-only mode for maintenance, and its dates are on status.salesforce.com under the org's instance (Setup > Company Information). " +
		"Reads go on, writes wait in order and resume by themselves.",
	ReasonUnavailable: "Usually nothing to do: Salesforce, or the network before it, failed several calls in a row. " +
		"If it lasts, look at status.salesforce.com for the org's instance and at this service's way out to the internet; calls resume by themselves.",
	ReasonDailyLimit: "The org has used up its API calls of the last 24 hours: see Setup > Company Information (API Requests, Last 24 Hours) and Setup > System Overview for what uses them, and ask Salesforce for more calls if this recurs. " +
		"The window rolls, so work resumes by itself as old calls leave it.",
	ReasonLoginRate: "Too many log-ins of the integration user in the last hour: look in Setup > Login History for another integration that logs in for every request with the same user. " +
		"Work resumes by itself when the time is over.",
	ReasonReauth: "The grant is gone: somebody with the org's integration user must connect the org again. " +
		"If it recurs, look in Setup > Connected Apps OAuth Usage for a revoked app, at the app's refresh token policy, and at the user's password and number of connections. Resume does not end this hold.",
	ReasonIPRestricted: "Salesforce refuses the address or the hour this service logs in from: allow its egress addresses in the integration user's profile (Login IP Ranges, Login Hours) or in Setup > Network Access, " +
		"set the app's IP Relaxation to relax restrictions, and unlock Setup > Session Settings > Lock sessions to the IP address from which they originated.",
	ReasonAppNotAllowed: "The org does not let this app in: install and approve it in Setup > Connected Apps OAuth Usage (or External Client App Manager), " +
		"allow the integration user's profile or permission set under Permitted Users, grant the scopes api and refresh_token, and check Setup > API Access Control.",
	ReasonUserInactive: "The integration user cannot log in: in Setup > Users make it active, unlock it or reset its password (better: give it Password Never Expires), or connect the org again as another user.",
	ReasonOrgInactive: "Salesforce says that the org is suspended, expired or deleted; its jobs were cancelled. " +
		"Its owner must settle that with Salesforce; a sandbox that was refreshed has a new id and must be connected anew.",
	ReasonAPIDisabled:   "The org or user has no API access: its edition must include the API (Enterprise and above, or bought for Professional), and the integration user's profile or permission set needs API Enabled in System Permissions.",
	ReasonWrongInstance: "The org does not answer at the host its newest token names, perhaps after a move or a My Domain change: check Setup > My Domain, and connect the org again with that address as its login URL if it does not heal.",
	ReasonStorageLimit:  "The org is out of data storage: see Setup > Storage Usage, delete or archive records and empty the Recycle Bin, or buy storage. Reads go on; writes wait in order.",
	ReasonClientConfig: "This service's own OAuth settings are refused (client id, secret, audience or flow): the operator must compare them with the app's settings in Setup > App Manager or External Client App Manager. " +
		"The org's administrator has revoked nothing.",
	ReasonOperator: "An operator paused these lanes; only an operator resumes them. Waiting jobs stay in order.",
	ReasonUndetermined: "Salesforce refuses a token it has just issued, and the evidence does not say why: check, in this order, API Access Control, the app's Permitted Users and scopes, session locking to IP addresses in Session Settings, and the integration user's profile. " +
		"Nothing was cancelled; connecting again may help.",
}
