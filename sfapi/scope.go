package sfapi

import (
	"fmt"
	"strconv"
)

// Scope is what a failure affects. The zero value is [ScopeRequest], the
// smallest claim that can be made about a failure that nobody understands.
type Scope int

const (
	// ScopeRequest affects this one call.
	ScopeRequest Scope = iota
	// ScopeRecord affects one record.
	ScopeRecord
	// ScopeUser affects one connection: our integration user in one org.
	ScopeUser
	// ScopeApp affects our OAuth client, in this org or everywhere.
	ScopeApp
	// ScopeOrg affects everything in the org.
	ScopeOrg

	scopeCount
)

var scopeNames = [scopeCount]string{
	ScopeRequest: "request",
	ScopeRecord:  "record",
	ScopeUser:    "user",
	ScopeApp:     "app",
	ScopeOrg:     "org",
}

// String returns "request", "record", "user", "app" or "org".
func (s Scope) String() string {
	if s < 0 || s >= scopeCount {
		return "Scope(" + strconv.Itoa(int(s)) + ")"
	}
	return scopeNames[s]
}

// ParseScope is the inverse of [Scope.String].
func ParseScope(name string) (Scope, error) {
	for s, n := range scopeNames {
		if n == name {
			return Scope(s), nil
		}
	}
	return ScopeRequest, fmt.Errorf("parse scope: no scope is called %q", name)
}

// MarshalText returns the name of s and fails for a value that is no Scope.
func (s Scope) MarshalText() ([]byte, error) {
	if s < 0 || s >= scopeCount {
		return nil, fmt.Errorf("marshal scope: %d is no scope", int(s))
	}
	return []byte(scopeNames[s]), nil
}

// UnmarshalText sets s from a name and leaves it alone when the name is
// unknown.
func (s *Scope) UnmarshalText(text []byte) error {
	parsed, err := ParseScope(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
