package sfapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// headerValue returns a header's first value whatever the capitalization of
// its name: HTTP/2 and recorded responses do not use Go's.
func headerValue(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	for k, v := range h {
		if len(v) > 0 && strings.EqualFold(k, name) {
			return v[0]
		}
	}
	return ""
}

// containsFold is strings.Contains without regard to the case of s; lower is
// in lower case.
func containsFold(s, lower string) bool {
	for i := 0; i+len(lower) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(lower)], lower) {
			return true
		}
	}
	return false
}

// maxRetryAfter bounds what we believe of a Retry-After header. No limit of
// Salesforce's is longer than its 24-hour window.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads Retry-After, in seconds or as a date. A date is taken
// relative to the response's own Date, so that our clock's error does not
// count and Classify stays pure; without one it cannot be read.
// https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(headerValue(h, "Retry-After"))
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		if !(n > 0) {
			return 0
		}
		return time.Duration(min(n, maxRetryAfter.Seconds()) * float64(time.Second))
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(headerValue(h, "Date"))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
