package runner

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/riverqueue/river"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/weirhq/weir/sfapi"
)

// Webhook is where events are sent, signed as the Standard Webhooks
// specification has it (https://www.standardwebhooks.com). The body is
//
//	{"type": "org.held", "timestamp": "2006-01-02T15:04:05Z", "data": {the Event}}
//
// and the header webhook-id is "evt_" and the event's id, the same each time:
// receivers skip what they have seen. Any 2xx answer is a delivery. Everything
// else, a redirect too, is tried again, less and less often, for about a week;
// 410 Gone ends it at once.
type Webhook struct {
	// URL is an https URL; http serves receivers on this machine or network.
	URL string

	// Secrets sign each request, all of them: to change a secret, add the new
	// one, have the receiver take it, and remove the old one. Each is
	// "whsec_" and the base64 of 24 to 64 bytes.
	Secrets []sfapi.Secret

	// Transport carries the requests. The default one refuses to connect to
	// private addresses, unless the host of URL is plainly private itself: a
	// private or loopback address, localhost, a name without a dot or one
	// under .local or .internal. A Transport of the app's connects to what it
	// likes.
	Transport http.RoundTripper

	// Timeout bounds a request and its answer. Defaults to 20 seconds.
	Timeout time.Duration

	// RetryMin is the pause before the first retry. It grows fourfold each
	// time, up to 12 hours. Defaults to 5 seconds.
	RetryMin time.Duration
}

const (
	defaultWebhookTimeout  = 20 * time.Second
	defaultWebhookRetryMin = 5 * time.Second
	maxWebhookRetry        = 12 * time.Hour
	webhookRetryGrowth     = 4

	// webhookAttempts last for about a week: seven and a half hours for the
	// first seven pauses, and half a day for each that follows.
	webhookAttempts = 20

	// maxWebhookAnswer is how much of an answer is read. What it says is not
	// of interest.
	maxWebhookAnswer = 16 << 10

	// The sizes of secrets that the specification allows.
	minSecretBytes, maxSecretBytes = 24, 64

	secretPrefix = "whsec_"
)

// withDefaults returns a copy with every default filled in, or all that is
// wrong with it, joined.
func (w *Webhook) withDefaults() (*Webhook, error) {
	out := *w
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &ConfigError{"Webhook." + field, fmt.Sprintf(format, args...)})
	}
	u, err := url.Parse(out.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		bad("URL", "is no URL that a webhook can be sent to") // it may hold a secret
	case u.User != nil:
		bad("URL", "has a user: requests are signed")
	case u.Scheme == "http" && !privateHost(u.Hostname()):
		bad("URL", "is http to host %s, which is not of this machine or network: use https", u.Hostname())
	}
	if len(out.Secrets) == 0 {
		bad("Secrets", "are missing: requests must be signed")
	}
	for i, s := range out.Secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), secretPrefix))
		if !strings.HasPrefix(string(s), secretPrefix) || err != nil || len(key) < minSecretBytes || len(key) > maxSecretBytes {
			bad(fmt.Sprintf("Secrets[%d]", i), "is not %s and the base64 of %d to %d bytes", secretPrefix, minSecretBytes, maxSecretBytes)
		}
	}
	for _, d := range []struct {
		field string
		v     *time.Duration
		def   time.Duration
	}{{"Timeout", &out.Timeout, defaultWebhookTimeout}, {"RetryMin", &out.RetryMin, defaultWebhookRetryMin}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < time.Millisecond || *d.v > maxWebhookRetry {
			bad(d.field, "is %v, out of bounds", *d.v)
		}
	}
	return &out, errors.Join(errs...)
}

// privateHost reports whether a URL's host is plainly one of this machine or
// network.
func privateHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return !publicAddress(ip)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") ||
		strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// notPublic are the networks that [netip.Addr] has no predicate for: shared
// address space of carriers, protocol assignments, benchmarks, reserved space,
// and the IPv6 forms that carry an IPv4 address inside.
//
// https://www.iana.org/assignments/iana-ipv4-special-registry/
// https://www.iana.org/assignments/iana-ipv6-special-registry/
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"),
}

func publicAddress(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate()
}

// webhookSender sends events to the one webhook.
type webhookSender struct {
	config *Webhook
	client *http.Client
	host   string
	signer []*standardwebhooks.Webhook
	logger *slog.Logger
}

// newWebhookSender takes a Webhook that withDefaults has checked.
func newWebhookSender(cfg *Webhook, logger *slog.Logger) (*webhookSender, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, &ConfigError{"Webhook.URL", "is no URL"}
	}
	s := &webhookSender{config: cfg, host: u.Host, logger: logger}
	for i, secret := range cfg.Secrets {
		signer, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			return nil, &ConfigError{fmt.Sprintf("Webhook.Secrets[%d]", i), "is not base64"}
		}
		s.signer = append(s.signer, signer)
	}
	transport := cfg.Transport
	if transport == nil {
		transport = newWebhookTransport(privateHost(u.Hostname()))
	}
	s.client = &http.Client{
		Transport: transport,
		Timeout:   cfg.Timeout,
		// A redirect is an answer that is no delivery: who controls the
		// receiver must not choose where else this process sends requests.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// newWebhookTransport checks the address that is connected to, after the name
// was resolved: a check of the name alone can be undone by its next answer. It
// takes no proxy, whose address would be checked in place of the receiver's.
// Deliveries are few, so each has its own connection: one that was closed
// meanwhile, or that the receiver answered twice on, spoils nothing.
func newWebhookTransport(allowPrivate bool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !allowPrivate {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !publicAddress(to.Addr()) {
				return fmt.Errorf("the receiver's name resolves to %s, which is no public address", to.Addr())
			}
			return nil
		}
	}
	return &http.Transport{
		DialContext: dialer.DialContext, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: maxWebhookAnswer,
	}
}

// errWebhookGone is a receiver that wants no more of an event.
var errWebhookGone = errors.New("the receiver answered 410 Gone")

// webhookError is an answer that is no delivery.
type webhookError struct {
	status     int
	retryAfter time.Duration
}

// Error implements error.
func (e *webhookError) Error() string { return fmt.Sprintf("the receiver answered %d", e.status) }

// send sends an event once. Its errors show neither the URL nor what the
// receiver said: both may hold secrets.
func (s *webhookSender) send(ctx context.Context, e *Event) error {
	body, err := json.Marshal(struct {
		Type      EventType `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      *Event    `json:"data"`
	}{e.Type, e.At, e})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be requested")
	}
	id, now := messageID(e.ID), time.Now()
	var signatures []string
	for _, signer := range s.signer {
		signature, err := signer.Sign(id, now, body)
		if err != nil {
			return err
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "weir-webhook/1")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	res, err := s.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return err
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		// The status is the answer; the rest is read so that the receiver
		// need not see its connection break.
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxWebhookAnswer))
		return nil
	case res.StatusCode == http.StatusGone:
		return errWebhookGone
	default:
		return &webhookError{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), now)}
	}
}

// retryAfter reads the header of that name; 0 is none.
func retryAfter(h string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(h); err == nil {
		return time.Duration(max(0, min(seconds, int(maxWebhookRetry/time.Second)))) * time.Second
	}
	at, err := http.ParseTime(h)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxWebhookRetry))
}

// webhookArgs is an event on its way to the webhook.
type webhookArgs struct{ eventRef }

// Kind is the job kind in River.
func (webhookArgs) Kind() string { return "salesforce_webhook" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (a webhookArgs) InsertOpts() river.InsertOpts { return a.insertOpts(webhookAttempts) }

// webhookWorker sends events.
type webhookWorker[TTx any] struct {
	river.WorkerDefaults[webhookArgs]

	runner *Runner[TTx]
}

// Timeout leaves a request its own.
func (w *webhookWorker[TTx]) Timeout(*river.Job[webhookArgs]) time.Duration {
	if s := w.runner.webhook; s != nil {
		return s.config.Timeout + 10*time.Second
	}
	return 0
}

// NextRetry spreads the attempts over a week.
func (w *webhookWorker[TTx]) NextRetry(job *river.Job[webhookArgs]) time.Time {
	first := defaultWebhookRetryMin
	if s := w.runner.webhook; s != nil {
		first = s.config.RetryMin
	}
	return time.Now().Add(webhookPause(first, job.Attempt))
}

// webhookPause is the pause after an attempt, with up to a fifth of jitter.
func webhookPause(first time.Duration, attempt int) time.Duration {
	pause := first
	for i := 1; i < attempt && pause < maxWebhookRetry; i++ {
		pause *= webhookRetryGrowth
	}
	pause = min(pause, maxWebhookRetry)
	return pause - time.Duration(rand.Int64N(int64(pause)/5+1))
}

// Work sends one event; an error has it sent again later.
func (w *webhookWorker[TTx]) Work(ctx context.Context, job *river.Job[webhookArgs]) error {
	s := w.runner.webhook
	if s == nil {
		return nil
	}
	e, err := w.runner.event(ctx, job.Args.Event)
	if err != nil {
		return err
	}
	err = s.send(ctx, e)
	log := s.logger.With("event", messageID(e.ID), "type", e.Type, "org", e.Org, "host", s.host, "attempt", job.Attempt)
	var answered *webhookError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errWebhookGone):
		log.WarnContext(ctx, "webhook refused for good: not sent again", "error", err)
		return river.JobCancel(err)
	case job.Attempt >= job.MaxAttempts:
		log.ErrorContext(ctx, "webhook given up", "error", err)
	default:
		log.WarnContext(ctx, "webhook not delivered", "error", err)
	}
	if errors.As(err, &answered) && answered.retryAfter > webhookPause(s.config.RetryMin, job.Attempt) && job.Attempt < job.MaxAttempts {
		return river.JobSnooze(answered.retryAfter)
	}
	return fmt.Errorf("send %s: %w", messageID(e.ID), err)
}
