package sfapi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const (
	// DefaultLoginURL is where production orgs log in. Sandboxes use
	// https://test.salesforce.com or their My Domain.
	DefaultLoginURL = "https://login.salesforce.com"

	// DefaultAPIVersion is the REST API version of Spring '26. Versions live
	// for years, so it is pinned rather than asked for.
	//
	// https://help.salesforce.com/s/articleView?id=005321531
	DefaultAPIVersion = "66.0"

	defaultUserAgent = "weir (+https://github.com/weirhq/weir)"
)

// ErrInvalidURL is wrapped by errors about a login or instance URL that is not
// fit to send a credential to.
var ErrInvalidURL = errors.New("unusable URL")

// App is our OAuth client: a connected app or an external client app. It serves
// any number of orgs and is safe for concurrent use while its fields stay as
// they are.
type App struct {
	// ClientID is the consumer key. Required.
	ClientID string

	// ClientSecret is the consumer secret. It may be empty, for apps that do
	// not require one.
	ClientSecret Secret

	// LoginURL is where the flows go that name no URL of their own: scheme and
	// host only. http is accepted for loopback hosts alone. Defaults to
	// DefaultLoginURL.
	LoginURL string

	// APIVersion is the REST API version, "66.0" or "v66.0". Defaults to
	// DefaultAPIVersion.
	APIVersion string

	// Transport sends every request, token calls included. Defaults to one
	// that all Apps share, tuned to keep connections to many hosts. It must not
	// follow redirects, which no http.RoundTripper does.
	Transport http.RoundTripper

	// UserAgent is sent with every request. Defaults to Weir's name.
	UserAgent string
}

var versionPattern = regexp.MustCompile(`^v?[1-9][0-9]{1,2}\.0$`)

// Validate returns an error that names every unusable field, or nil.
func (a *App) Validate() error {
	if a == nil {
		return errors.New("App is required")
	}
	var errs []error
	if strings.TrimSpace(a.ClientID) == "" {
		errs = append(errs, errors.New("ClientID is required"))
	}
	if _, err := parseBaseURL(a.loginURL("")); err != nil {
		errs = append(errs, fmt.Errorf("LoginURL: %w", err))
	}
	if a.APIVersion != "" && !versionPattern.MatchString(a.APIVersion) {
		errs = append(errs, fmt.Errorf("APIVersion: %q is not like \"66.0\" or \"v66.0\"", a.APIVersion))
	}
	if strings.ContainsFunc(a.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		errs = append(errs, fmt.Errorf("UserAgent: %q holds characters that a header cannot", a.UserAgent))
	}
	return errors.Join(errs...)
}

// loginURL returns the first of given, the app's own and the default that is
// set.
func (a *App) loginURL(given string) string {
	switch {
	case given != "":
		return given
	case a.LoginURL != "":
		return a.LoginURL
	}
	return DefaultLoginURL
}

// dataPath returns the REST API's root, "/services/data/v66.0".
func (a *App) dataPath() string {
	version := a.APIVersion
	if version == "" {
		version = DefaultAPIVersion
	}
	return "/services/data/v" + strings.TrimPrefix(version, "v")
}

func (a *App) transport() http.RoundTripper {
	if a.Transport != nil {
		return a.Transport
	}
	return sharedTransport()
}

func (a *App) userAgent() string {
	if a.UserAgent != "" {
		return a.UserAgent
	}
	return defaultUserAgent
}

// parseBaseURL returns a URL that tokens may be sent to: https, or http for a
// loopback host, with nothing after the host. Errors wrap ErrInvalidURL; they
// repeat no more of the URL than its scheme and host, because people paste
// credentials into URLs.
func parseBaseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not parse", ErrInvalidURL)
	}
	shown := u.Scheme + "://" + u.Host
	switch {
	case u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("%w: it has no host; want one like %s", ErrInvalidURL, DefaultLoginURL)
	case u.User != nil:
		return nil, fmt.Errorf("%w: %s must not carry a user or password", ErrInvalidURL, shown)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "", u.Opaque != "":
		return nil, fmt.Errorf("%w: %s must have no path, query or fragment", ErrInvalidURL, shown)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("%w: %s must use https; http is for loopback hosts only", ErrInvalidURL, shown)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: %s must use https", ErrInvalidURL, shown)
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
