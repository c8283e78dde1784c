package sfapi

// statusMeaning is the last resort: what a status says where neither a code nor
// a message did.
func statusMeaning(endpoint Endpoint, status int, empty bool) meaning {
	switch status {
	case 0, 406, 408, 499, 425:
		// An empty 406 is the edge's, and passes:
		// https://github.com/restforce/restforce/issues/883
		return meaningOf(KindServerUnavailable)
	case 420:
		// A deleted or expired org answers an empty 420 for ever.
		// https://github.com/jsforce/jsforce/blob/main/src/request.ts
		if empty {
			return meaningOf(KindOrgInactive)
		}
		return meaningOf(KindServerUnavailable)
	case 429:
		if endpoint == EndpointToken {
			return meaningOf(KindLoginRateLimited)
		}
		return meaningOf(KindConcurrentLimit)
	case 405, 411, 413, 414, 415, 417, 422, 431:
		return meaningOf(KindBadRequest)
	case 410:
		return meaningOf(KindVersionRetired)
	case 300:
		return meaningOf(KindDuplicate)
	case 301, 302, 303, 307, 308, 421:
		return meaningOf(KindWrongInstance)
	case 409, 412, 428:
		return meaningOf(KindConflict)
	case 401:
		switch endpoint {
		case EndpointToken, EndpointIntrospect:
			return meaningOf(KindClientMisconfigured)
		}
		return meaningOf(KindSessionExpired)
	case 403:
		if endpoint == EndpointIdentity {
			// userinfo answers a dead token with 403, not 401.
			return meaningOf(KindSessionExpired)
		}
		return meaningOf(KindUnknown)
	case 404:
		switch endpoint {
		case EndpointToken, EndpointIntrospect:
			return meaningOf(KindWrongInstance)
		}
		return meaningOf(KindNotFound)
	}
	if status >= 500 {
		return meaningOf(KindServerUnavailable)
	}
	return meaningOf(KindUnknown)
}
