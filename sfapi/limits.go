package sfapi

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limit is one allocation of an org.
type Limit struct {
	Max       int `json:"Max"`
	Remaining int `json:"Remaining"`
}

// Limits returns the org's allocations by name: "DailyApiRequests",
// "DailyBulkV2QueryJobs", "DataStorageMB". They lag a little behind.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_limits.htm
func (c *Client) Limits(ctx context.Context) (map[string]Limit, error) {
	var limits map[string]Limit
	err := c.call(ctx, &request{
		op: "limits", method: http.MethodGet, path: c.data + "/limits", readOnly: true,
		decode: func(rep *reply) error {
			limits = nil
			return into(&limits)(rep)
		},
	})
	return limits, err
}

// Usage is how much of the org's API requests of the last 24 hours are used, as
// an answer's Sforce-Limit-Info says.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_api_usage.htm
type Usage struct {
	// Used and Limit are the org's; both 0 where only apps were reported.
	Used, Limit int

	// PerApp holds the apps that have a quota of their own.
	PerApp []AppUsage

	// At is when the answer came; zero from ParseLimitInfo.
	At time.Time
}

// AppUsage is how much of its own quota one connected app has used.
type AppUsage struct {
	Name        string
	Used, Limit int
}

// Usage returns what the latest answer reported, and whether one did.
func (c *Client) Usage() (Usage, bool) {
	if u := c.usage.Load(); u != nil {
		return *u, true
	}
	return Usage{}, false
}

// ParseLimitInfo reads a Sforce-Limit-Info header by the names in it, in any
// order, and skips those it does not know. It reports whether it found a usage.
func ParseLimitInfo(header string) (Usage, bool) {
	var u Usage
	found := false
	for rest := header; rest != ""; {
		var part limitPart
		var ok bool
		part, rest, ok = nextLimit(rest)
		if !ok {
			continue
		}
		switch strings.ToLower(part.name) {
		case "api-usage":
			u.Used, u.Limit, found = part.used, part.limit, true
		case "per-app-api-usage":
			u.PerApp = append(u.PerApp, AppUsage{Name: part.app, Used: part.used, Limit: part.limit})
			found = true
		}
	}
	return u, found
}

// limitPart is "name=used/limit" or "name=used/limit(appName=app)".
type limitPart struct {
	name, app   string
	used, limit int
}

// afterLimit is what may follow an app's name: the end, or another part.
var afterLimit = regexp.MustCompile(`^[ \t;,]*($|[;,][ \t]*[A-Za-z-]+[ \t]*=[ \t]*[0-9]+[ \t]*/)`)

// nextLimit reads the part s begins with and returns what follows. An app's
// name may hold any character: it ends at the first parenthesis that another
// part or the end follows.
func nextLimit(s string) (part limitPart, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t;,")
	end := strings.IndexAny(s, ";,(")
	if end < 0 {
		end = len(s)
	}
	head, rest := s[:end], s[end:]
	if strings.HasPrefix(rest, "(") {
		inner := rest[1:]
		stop := -1
		for i := range len(inner) {
			if inner[i] != ')' {
				continue
			}
			if afterLimit.MatchString(inner[i+1:]) {
				stop = i
				break
			}
		}
		if stop < 0 {
			return part, "", false
		}
		if _, app, named := strings.Cut(inner[:stop], "="); named {
			part.app = strings.TrimSpace(app)
		}
		rest = inner[stop+1:]
	}
	name, figures, named := strings.Cut(head, "=")
	used, limit, slashed := strings.Cut(figures, "/")
	if !named || !slashed {
		return part, rest, false
	}
	var errUsed, errLimit error
	part.name = strings.TrimSpace(name)
	part.used, errUsed = strconv.Atoi(strings.TrimSpace(used))
	part.limit, errLimit = strconv.Atoi(strings.TrimSpace(limit))
	return part, rest, errUsed == nil && errLimit == nil && part.used >= 0 && part.limit >= 0
}
