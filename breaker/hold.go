package breaker

import (
	"encoding"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirhq/weir/sfapi"
)

const (
	maxEvidence      = 8
	maxEvidenceBytes = 300
	maxAdviceBytes   = 1000
)

// Phase is how far a hold is on its way out.
type Phase uint8

const (
	// Off: the lanes are stopped and nothing but probes reaches the org.
	Off Phase = iota
	// Trial: half-open. A probe was answered well, and a few calls at a time
	// are let through to find out whether it is true.
	Trial
)

var (
	_ encoding.TextMarshaler   = Off
	_ encoding.TextUnmarshaler = (*Phase)(nil)
)

// String returns "off" or "trial".
func (p Phase) String() string {
	if p == Trial {
		return "trial"
	}
	return "off"
}

// MarshalText implements [encoding.TextMarshaler]. It never fails.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It fails for what is
// neither "off" nor "trial".
func (p *Phase) UnmarshalText(text []byte) error {
	switch string(text) {
	case "off":
		*p = Off
	case "trial":
		*p = Trial
	default:
		return fmt.Errorf("parse hold phase: no phase is called %.40q", text)
	}
	return nil
}

// Steps is how far one lane is in its trial. The zero value is no trial.
type Steps struct {
	// Window is how many calls may run at once: 1, 2, 4, and so on.
	Window int `json:"window"`
	// Done counts the calls that succeeded at this window.
	Done int `json:"done"`
}

// Trials holds the steps of each lane of a hold in [Trial].
type Trials struct {
	Sync  Steps `json:"sync,omitzero"`
	Write Steps `json:"write,omitzero"`
}

func (t *Trials) of(l Lane) *Steps {
	if l == Write {
		return &t.Write
	}
	return &t.Sync
}

// Hold is one named reason that stops one or both lanes of an org. An org has
// at most one hold of a reason. Its JSON is part of the stored form of [State].
type Hold struct {
	Reason Reason `json:"reason"`
	// Lanes are the lanes that the hold covers, those on trial included.
	Lanes Lanes     `json:"lanes"`
	Since time.Time `json:"since"`
	Phase Phase     `json:"phase"`
	// PhaseSince is when the present phase began. An answer to a call that was
	// sent before says nothing about it.
	PhaseSince time.Time `json:"phase_since"`
	// NextProbe is when the hold is asked about next. Zero means never: only a
	// person ends it.
	NextProbe time.Time `json:"next_probe,omitzero"`
	// Until is when the hold ends by itself. Zero means that it does not.
	Until time.Time `json:"until,omitzero"`
	// LastProbe is when the newest probe that was taken into account was sent.
	LastProbe time.Time `json:"last_probe,omitzero"`
	// Probes counts the probes so far.
	Probes int `json:"probes"`
	// Backoff is the step of the probe schedule. A hold that is refused on
	// trial goes on from where it was.
	Backoff int `json:"backoff"`
	// Kind is the answer that placed the hold, [sfapi.KindNone] for a hold of
	// an operator.
	Kind sfapi.Kind `json:"kind"`
	// Generation is the credential with which the answer was got, zero where
	// that does not matter.
	Generation int64 `json:"generation,omitzero"`
	// Evidence is what was seen, oldest first: at most eight entries of at most
	// 300 bytes, the first one always kept.
	Evidence []string `json:"evidence,omitempty"`
	// Advice is what a person can do about it.
	Advice string `json:"advice"`
	Trials Trials `json:"trials,omitzero"`
	// Tried says that a trial call was answered since the phase began.
	Tried bool `json:"tried,omitempty"`
}

// Covers reports whether the hold covers the lane, in either phase.
func (h *Hold) Covers(l Lane) bool { return h.Lanes.Has(l) }

// Stops reports whether the hold lets no call of the lane through. A hold on
// trial covers its lanes and stops none.
func (h *Hold) Stops(l Lane) bool { return h.Phase == Off && h.Lanes.Has(l) }

// Due returns when the hold is looked at next, by a probe or because its time
// is over. It is zero when only a person ends it.
func (h *Hold) Due() time.Time {
	if h.NextProbe.IsZero() || !h.Until.IsZero() && h.Until.Before(h.NextProbe) {
		return h.Until
	}
	return h.NextProbe
}

// Equal reports whether h and other say the same.
func (h *Hold) Equal(other *Hold) bool {
	return h.Reason == other.Reason && h.Lanes == other.Lanes && h.Phase == other.Phase &&
		h.Since.Equal(other.Since) && h.PhaseSince.Equal(other.PhaseSince) &&
		h.NextProbe.Equal(other.NextProbe) && h.Until.Equal(other.Until) && h.LastProbe.Equal(other.LastProbe) &&
		h.Probes == other.Probes && h.Backoff == other.Backoff && h.Kind == other.Kind &&
		h.Generation == other.Generation && slices.Equal(h.Evidence, other.Evidence) &&
		h.Advice == other.Advice && h.Trials == other.Trials && h.Tried == other.Tried
}

// addEvidence appends what is new. It never writes to the array that an older
// State shares.
func (h *Hold) addEvidence(seen []string) {
	for _, e := range seen {
		e = clip(e, maxEvidenceBytes)
		if e == "" || slices.Contains(h.Evidence, e) {
			continue
		}
		next := make([]string, 0, maxEvidence)
		if next = append(next, h.Evidence...); len(next) >= maxEvidence {
			next = append(next[:1], next[len(next)-maxEvidence+2:]...)
		}
		h.Evidence = append(next, e)
	}
}

// clip makes s valid UTF-8 without NUL, which jsonb refuses, and at most n
// bytes long.
func clip(s string, n int) string {
	if len(s) > 4*n { // Bound the work before looking at each rune.
		s = s[:4*n]
	}
	s = strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", ""))
	if len(s) <= n {
		return s
	}
	const ellipsis = "…"
	cut := n - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
