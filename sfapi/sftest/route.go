package sftest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// The API versions that the simulator serves. Versions up to 30.0 are retired.
// See https://help.salesforce.com/s/articleView?id=005321531&type=1.
const (
	oldestVersion = 31
	newestVersion = 67
)

// route serves a call that was admitted.
func (x *exchange) route() *Reply {
	switch x.path {
	case "/services/oauth2/token":
		return x.token()
	case "/services/oauth2/revoke":
		return x.revokeToken()
	case "/services/oauth2/introspect":
		return x.introspect()
	case "/services/oauth2/userinfo":
		return x.identityAnswer(OpUserInfo, "", "")
	case "/services/oauth2/authorize":
		return x.authorize()
	case "/services/data", "/services/data/":
		return x.versions()
	}
	if org, user, ok := identityPath(x.path); ok {
		return x.identityAnswer(OpIdentity, org, user)
	}
	rest, ok := strings.CutPrefix(x.raw, "/services/data/")
	if !ok {
		return errorPage()
	}
	return x.data(rest)
}

// data serves /services/data/vXX.0/….
func (x *exchange) data(rest string) *Reply {
	parts := segments(rest)
	number, ok := strings.CutPrefix(parts[0], "v")
	major, err := strconv.Atoi(strings.TrimSuffix(number, ".0"))
	switch {
	case !ok || err != nil || !strings.HasSuffix(number, ".0") || major > newestVersion || major < 1:
		return notFound()
	case major < oldestVersion:
		return fail(http.StatusGone, "GONE", "The requested API version is no longer available")
	}
	x.version = parts[0]
	parts = parts[1:]
	if len(parts) == 0 || parts[0] == "" {
		return x.resources()
	}
	switch parts[0] {
	case "limits":
		if len(parts) == 1 {
			if x.method != http.MethodGet && x.method != http.MethodHead {
				return methodNotAllowed(x.method, "HEAD", "GET")
			}
			return x.limits()
		}
	case "query", "queryAll":
		switch len(parts) {
		case 1:
			return x.runQuery(parts[0] == "queryAll")
		case 2:
			return x.queryMore(parts[1])
		}
	case "sobjects":
		if len(parts) == 1 {
			return x.describeGlobal()
		}
		return x.sobject(parts[1:])
	case "composite":
		return x.composite(parts[1:])
	}
	return notFound()
}

var seasons = [...]string{"Spring", "Summer", "Winter"}

// versions answers /services/data, which needs no token.
func (x *exchange) versions() *Reply {
	x.entry.Operation = OpVersions
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return methodNotAllowed(x.method, "HEAD", "GET")
	}
	type version struct {
		Label   string `json:"label"`
		URL     string `json:"url"`
		Version string `json:"version"`
	}
	var list []version
	for v := oldestVersion; v <= newestVersion; v++ {
		// Spring '26 is 66.0, and there are three releases a year.
		n := v - 66 + 3*26
		season, year := seasons[n%3], n/3
		if season == "Winter" {
			year++
		}
		list = append(list, version{fmt.Sprintf("%s '%02d", season, year), fmt.Sprintf("/services/data/v%d.0", v), fmt.Sprintf("%d.0", v)})
	}
	return jsonReply(200, list)
}

// resources answers /services/data/vXX.0.
func (x *exchange) resources() *Reply {
	x.entry.Operation = OpResources
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return methodNotAllowed(x.method, "HEAD", "GET")
	}
	base := "/services/data/" + x.version + "/"
	out := map[string]string{}
	for _, r := range []string{"limits", "query", "queryAll", "sobjects", "composite"} {
		out[r] = base + r
	}
	return jsonReply(200, out)
}
