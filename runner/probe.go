package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// probeArgs is the one job of a held org that asks whether its holds are over.
// It stays one job for as long as the org is held, snoozing between probes, so
// that River UI tells the whole story in one place.
type probeArgs struct {
	Org sfapi.OrgID `json:"org"`
}

// Kind is the job kind in River.
func (probeArgs) Kind() string { return "salesforce_probe" }

// InsertOpts puts the job where no hold stops it.
func (a probeArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: breaker.ControlQueue, Tags: []string{string(a.Org)}}
}

// scheduleProbeTx makes the org's probe job due at a time. One that runs right
// now schedules itself when it ends.
func (h *holds[TTx]) scheduleProbeTx(ctx context.Context, tx TTx, s *breaker.State, at time.Time) error {
	meta, err := probeMetadata(s)
	if err != nil {
		return err
	}
	there, err := h.runner.store.ScheduleControlTx(ctx, tx, &store.ControlSchedule{
		Kind: probeArgs{}.Kind(), Org: s.Org, At: at, Metadata: meta, Tags: probeTags(s),
	})
	if err != nil || there {
		return err
	}
	_, err = h.runner.river.InsertTx(ctx, tx, probeArgs{s.Org}, &river.InsertOpts{
		ScheduledAt: at, Tags: probeTags(s), Metadata: meta,
	})
	return err
}

// probeMetadata is the hold's story for River UI.
func probeMetadata(s *breaker.State) (json.RawMessage, error) {
	return json.Marshal(map[string]any{"holds": notesOf(s)})
}

// probeTags are the org and why it is held.
func probeTags(s *breaker.State) []string {
	tags := []string{string(s.Org)}
	for i := range s.Holds {
		tags = append(tags, string(s.Holds[i].Reason))
	}
	return tags
}

// probeWorker works probeArgs.
type probeWorker[TTx any] struct {
	river.WorkerDefaults[probeArgs]

	runner *Runner[TTx]
}

// Timeout bounds all probes of one run.
func (w *probeWorker[TTx]) Timeout(*river.Job[probeArgs]) time.Duration { return 2 * time.Minute }

// NextRetry serves a probe that met trouble of our own, the database's say.
func (w *probeWorker[TTx]) NextRetry(*river.Job[probeArgs]) time.Time {
	return time.Now().Add(w.runner.config.ProbeMin)
}

// Work asks about every hold that is due, and snoozes until the next is.
func (w *probeWorker[TTx]) Work(ctx context.Context, job *river.Job[probeArgs]) error {
	h, org := w.runner.holds, job.Args.Org
	out, err := h.observe(ctx, org, breaker.Observation{Event: breaker.Tick})
	if err != nil {
		return err
	}
	for _, reason := range out.state.DueProbes(time.Now()) {
		obs := h.probe(ctx, org, reason)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if out, err = h.observe(ctx, org, obs); err != nil {
			return err
		}
	}
	if err := river.RecordOutput(ctx, map[string]any{"holds": notesOf(out.state), "probed_at": time.Now().UTC()}); err != nil {
		return err
	}
	next := out.state.NextProbe()
	if next.IsZero() {
		return nil
	}
	return river.JobSnooze(max(time.Until(next), 0))
}

type probingKey struct{}

// probing marks calls that are made because of a hold: it does not stop them.
func probing(ctx context.Context) context.Context { return context.WithValue(ctx, probingKey{}, true) }

func isProbing(ctx context.Context) bool { return ctx.Value(probingKey{}) != nil }

// probe asks whether a hold is over.
func (h *holds[TTx]) probe(ctx context.Context, org sfapi.OrgID, reason breaker.Reason) breaker.Observation {
	sent := time.Now()
	over, evidence, err := h.ask(probing(ctx), org, reason.Rule().Probe)
	var obs breaker.Observation
	switch kind := sfapi.KindOf(err); {
	case err == nil:
		obs = breaker.Probed(reason, over)
	case reason == breaker.ReasonMaintenance && kind == sfapi.KindSessionExpired:
		// Sessions that flip to INVALID_SESSION_ID belong to the window.
		obs = breaker.Probed(reason, false)
	default:
		obs = breaker.ProbeError(reason, kind)
		var e *sfapi.Error
		if errors.As(err, &e) {
			obs.RetryAfter = e.RetryAfter
		}
	}
	if err != nil {
		evidence = []string{"probe: " + describe(err)}
	}
	obs.At, obs.Evidence = sent, evidence
	return obs
}

// describe is an error as evidence: what Salesforce said, without our words
// around it.
func describe(err error) string {
	var e *sfapi.Error
	if errors.As(err, &e) && e.Code != "" {
		return e.Code + ": " + e.Message
	}
	return err.Error()
}

// ask makes the call of a probe.
func (h *holds[TTx]) ask(ctx context.Context, org sfapi.OrgID, probe breaker.Probe) (over bool, evidence []string, err error) {
	if probe == breaker.ProbeToken {
		source := h.runner.tokens.Source(org)
		stale, err := source.Token(ctx)
		if err == nil {
			_, err = source.Refresh(ctx, stale)
		}
		return err == nil, nil, err
	}
	client, err := h.runner.clients.get(ctx, org, breaker.Sync)
	if err != nil {
		return false, nil, err
	}
	switch probe {
	case breaker.ProbeOrganization:
		// REST, never Bulk: an org in read-only mode refuses Bulk reads too.
		// Its value during a window is not documented, so false only means
		// that a write may be tried.
		for row, err := range sfapi.Query[sfapi.Record](ctx, client, "SELECT IsReadOnly, InstanceName FROM Organization", nil) {
			if err != nil {
				return false, nil, err
			}
			v, _ := row.Get("IsReadOnly")
			readOnly, err := v.Bool()
			if err != nil {
				return false, nil, fmt.Errorf("Organization.IsReadOnly: %w", err)
			}
			return !readOnly, []string{fmt.Sprintf("probe: Organization.IsReadOnly is %t on %s", readOnly, row.String("InstanceName"))}, nil
		}
		return false, nil, errors.New("the org has no row of Organization")
	default:
		limits, err := client.Limits(ctx)
		if err != nil {
			return false, nil, err
		}
		daily, known := limits["DailyApiRequests"]
		if probe != breaker.ProbeLimits || !known {
			return true, nil, nil
		}
		return daily.Remaining > 0, []string{fmt.Sprintf("probe: %d of %d daily API requests are left", daily.Remaining, daily.Max)}, nil
	}
}
