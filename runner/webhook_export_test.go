package runner

import (
	"net/http"
	"net/netip"
	"time"
)

// PublicAddress, WebhookPause, WebhookAttempts and WebhookTransport are for
// tests.
const WebhookAttempts = webhookAttempts

func PublicAddress(ip netip.Addr) bool { return publicAddress(ip) }

func WebhookPause(first time.Duration, attempt int) time.Duration {
	return webhookPause(first, attempt)
}

func WebhookTransport(allowPrivate bool) http.RoundTripper { return newWebhookTransport(allowPrivate) }
