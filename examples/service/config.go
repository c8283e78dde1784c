package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// settings is the configuration as the environment gives it. A variable that
// is set to nothing counts as one that is not set.
type settings struct {
	DatabaseURL string `env:"DATABASE_URL,required"`
	ListenAddr  string `env:"LISTEN_ADDR" envDefault:"127.0.0.1:8080"`
	APIToken    string `env:"API_TOKEN"`

	ClientID     string `env:"SALESFORCE_CLIENT_ID,required"`
	ClientSecret string `env:"SALESFORCE_CLIENT_SECRET"`
	LoginURL     string `env:"SALESFORCE_LOGIN_URL" envDefault:"https://login.salesforce.com"`
	APIVersion   string `env:"SALESFORCE_API_VERSION" envDefault:"66.0"`

	Keyset string `env:"WEIR_KEYSET,required"`

	WebhookURL    string `env:"WEBHOOK_URL"`
	WebhookSecret string `env:"WEBHOOK_SECRET"`

	Worker          bool          `env:"WORKER" envDefault:"true"`
	ProbeMin        time.Duration `env:"WEIR_PROBE_MIN" envDefault:"30s"`
	ProbeMax        time.Duration `env:"WEIR_PROBE_MAX" envDefault:"15m"`
	DeadWorkerAfter time.Duration `env:"WEIR_DEAD_WORKER_AFTER" envDefault:"60s"`
	SyncOverlap     time.Duration `env:"WEIR_SYNC_OVERLAP" envDefault:"5m"`
}

// config is the configuration as the service uses it.
type config struct {
	settings

	app    *sfapi.App
	sealer tink.AEAD
}

// variableError says which variable of the environment is wrong.
type variableError struct {
	name    string
	message string
}

// Error implements error.
func (e *variableError) Error() string { return e.name + " " + e.message }

// readConfig reads the environment, a list of name=value. The error names every
// variable that is wrong.
func readConfig(environ []string) (*config, error) {
	set := make(map[string]string)
	for _, pair := range environ {
		if name, value, _ := strings.Cut(pair, "="); value != "" {
			set[name] = value
		}
	}
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, &variableError{name, fmt.Sprintf(format, args...)})
	}
	s, err := env.ParseAsWithOptions[settings](env.Options{Environment: set})
	errs = append(errs, variableErrors(err)...)
	wrong := func(name string) bool {
		return slices.ContainsFunc(errs, func(err error) bool {
			v, ok := errors.AsType[*variableError](err)
			return ok && v.name == name
		})
	}

	c := &config{settings: s}
	loopback, err := isLoopbackAddr(s.ListenAddr)
	switch {
	case err != nil:
		bad("LISTEN_ADDR", "is not an address to listen on: %v", err)
	case !loopback && s.APIToken == "":
		bad("LISTEN_ADDR", "is %s, beyond loopback: that takes an API_TOKEN", s.ListenAddr)
	}
	c.app = &sfapi.App{ClientID: s.ClientID, ClientSecret: sfapi.Secret(s.ClientSecret), LoginURL: s.LoginURL, APIVersion: s.APIVersion}
	if err := (&sfapi.App{ClientID: "x", LoginURL: s.LoginURL}).Validate(); err != nil {
		bad("SALESFORCE_LOGIN_URL", "is not usable: %v", err)
	}
	if err := (&sfapi.App{ClientID: "x", APIVersion: s.APIVersion}).Validate(); err != nil {
		bad("SALESFORCE_API_VERSION", "is not usable: %v", err)
	}
	if !wrong("SALESFORCE_CLIENT_ID") && strings.TrimSpace(s.ClientID) == "" {
		bad("SALESFORCE_CLIENT_ID", "is blank")
	}
	if !wrong("WEIR_KEYSET") {
		if c.sealer, err = readKeyset(s.Keyset); err != nil {
			bad("WEIR_KEYSET", "is not usable: %v", err)
		}
	}
	if !wrong("DATABASE_URL") {
		if err := checkDatabaseURL(s.DatabaseURL); err != nil {
			bad("DATABASE_URL", "is not usable: %v", err)
		}
	}
	switch {
	case s.WebhookURL != "" && s.WebhookSecret == "":
		bad("WEBHOOK_SECRET", "is required with WEBHOOK_URL")
	case s.WebhookURL == "" && s.WebhookSecret != "":
		bad("WEBHOOK_URL", "is required with WEBHOOK_SECRET")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"WEIR_PROBE_MIN", s.ProbeMin, time.Millisecond},
		{"WEIR_PROBE_MAX", s.ProbeMax, time.Millisecond},
		{"WEIR_DEAD_WORKER_AFTER", s.DeadWorkerAfter, time.Second},
		{"WEIR_SYNC_OVERLAP", s.SyncOverlap, 0},
	} {
		if !wrong(d.name) && d.value < d.least {
			bad(d.name, "is %v, less than %v", d.value, d.least)
		}
	}
	if !wrong("WEIR_PROBE_MIN") && !wrong("WEIR_PROBE_MAX") && s.ProbeMax < s.ProbeMin {
		bad("WEIR_PROBE_MAX", "is %v, less than WEIR_PROBE_MIN, %v", s.ProbeMax, s.ProbeMin)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// variableErrors gives env's errors the names of variables.
func variableErrors(err error) []error {
	if err == nil {
		return nil
	}
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return []error{err}
	}
	var out []error
	for _, err := range all.Errors {
		if parse, ok := errors.AsType[env.ParseError](err); ok {
			if field, ok := reflect.TypeFor[settings]().FieldByName(parse.Name); ok {
				name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
				err = &variableError{name, fmt.Sprintf("is not a %s: %v", parse.Type, parse.Err)}
			}
		} else if missing, ok := errors.AsType[env.VarIsNotSetError](err); ok {
			err = &variableError{missing.Key, "is required"}
		}
		out = append(out, err)
	}
	return out
}

// runnerErrors gives the runner's errors about its configuration the names of
// the variables that they come from.
func runnerErrors(err error) error {
	names := map[string]string{
		"App": "SALESFORCE_CLIENT_ID", "Sealer": "WEIR_KEYSET", "Webhook": "WEBHOOK_URL",
		"ProbeMin": "WEIR_PROBE_MIN", "ProbeMax": "WEIR_PROBE_MAX",
		"DeadWorkerAfter": "WEIR_DEAD_WORKER_AFTER", "Overlap": "WEIR_SYNC_OVERLAP",
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for i, err := range list {
		field, ok := errors.AsType[*runner.ConfigError](err)
		if !ok {
			continue
		}
		top, _, _ := strings.Cut(field.Field, ".")
		if strings.Contains(field.Field, "Secret") {
			list[i] = &variableError{"WEBHOOK_SECRET", field.Message}
		} else if name := names[top]; name != "" {
			list[i] = &variableError{name, field.Message}
		}
	}
	return errors.Join(list...)
}

// isLoopbackAddr reports whether nothing beyond this machine can reach addr.
func isLoopbackAddr(addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false, err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false, fmt.Errorf("%q is not a port", port)
	}
	return isLoopbackHost(host), nil
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// readKeyset reads a Tink keyset: cleartext JSON, or the path of a file with
// it. Its errors do not repeat what they read.
func readKeyset(value string) (tink.AEAD, error) {
	if !strings.HasPrefix(strings.TrimSpace(value), "{") {
		content, err := os.ReadFile(value)
		if err != nil {
			return nil, errors.New("it is neither a keyset in JSON nor a file that can be read")
		}
		value = string(content)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(value)))
	if err != nil {
		return nil, errors.New("it is not a Tink keyset in cleartext JSON")
	}
	sealer, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("its keys are not AEAD keys (AesGcmKey is one)")
	}
	return sealer, nil
}
