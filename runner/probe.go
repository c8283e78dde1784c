package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	at = ahead(at)
	schedule := &store.ControlSchedule{Kind: probeArgs{}.Kind(), Org: s.Org, At: at, Metadata: meta, Tags: probeTags(s)}
	there, err := h.runner.store.ScheduleControlTx(ctx, tx, schedule)
	if err != nil || there {
		return err
	}
	if _, err = h.runner.river.InsertTx(ctx, tx, probeArgs{s.Org}, &river.InsertOpts{
		ScheduledAt: at, Tags: probeTags(s), Metadata: meta,
	}); err != nil || time.Until(at) > schedulerInterval {
		return err
	}
	// River's scheduler could come by after that.
	_, err = h.runner.store.ScheduleControlTx(ctx, tx, schedule)
	return err
}

// endProbeTx makes the probe job of an org run at once that nothing is left to
// ask about: it finds so, and ends. One that runs right now ends by itself. Its
// tags go on to name the holds that are over.
func (h *holds[TTx]) endProbeTx(ctx context.Context, tx TTx, s *breaker.State, effects []breaker.Effect) error {
	meta, err := probeMetadata(s)
	if err != nil {
		return err
	}
	tags := probeTags(s)
	for _, e := range effects {
		if lifted, ok := e.(breaker.HoldLifted); ok {
			tags = append(tags, string(lifted.Hold.Reason))
		}
	}
	_, err = h.runner.store.ScheduleControlTx(ctx, tx, &store.ControlSchedule{
		Kind: probeArgs{}.Kind(), Org: s.Org, At: time.Now(), Metadata: meta, Tags: tags,
	})
	return err
}

// schedulerInterval is how often River makes scheduled jobs available. A job
// that is due sooner is available at once, and workers leave it until its time.
const schedulerInterval = 5 * time.Second

// controlPoll is how often a worker looks for jobs whose time has come.
const controlPoll = time.Second

// ahead is when a probe job is to run that is due at a time: so early that
// River's scheduler or the workers' poll, come late, still have it there in
// time. The job waits for the rest itself, asleep in River where that is long.
// Otherwise an org whose window is over could wait for its next probe longer
// than the interval.
func ahead(at time.Time) time.Time {
	if time.Until(at) <= schedulerInterval {
		return at.Add(-controlPoll)
	}
	return at.Add(-schedulerInterval)
}

// probeMetadata is probeStory as a new job has it.
func probeMetadata(s *breaker.State) (json.RawMessage, error) {
	return json.Marshal(probeStory(s))
}

// probeStory is what the probe job's page in River UI says of a held org, by
// the metadata's keys. The page folds what is nested, so that what a person
// looks for stands in texts on the first level; holds has the same for
// programs, hold by hold.
func probeStory(s *breaker.State) map[string]any {
	if len(s.Holds) == 0 {
		// The rest stays as it was: why the org was held.
		return map[string]any{"status": "resumed", "next_probe": "none"}
	}
	var reasons, advice, evidence, answers []string
	var lanes breaker.Lanes
	since := s.Holds[0].Since
	for i := range s.Holds {
		h := &s.Holds[i]
		reasons, advice = append(reasons, string(h.Reason)), append(advice, h.Advice)
		if n := len(h.Evidence); n > 0 {
			evidence = append(evidence, h.Evidence[0])
			if n > 1 {
				answers = append(answers, h.Evidence[n-1])
			}
		}
		lanes = lanes.Union(h.Lanes)
		if h.Since.Before(since) {
			since = h.Since
		}
	}
	next := "none: a person ends this"
	if at := s.NextProbe(); !at.IsZero() {
		next = at.UTC().Format(storyTime)
	}
	return map[string]any{
		"status": "held", "reason": strings.Join(reasons, ", "), "lanes": lanes.String(),
		"since": since.UTC().Format(storyTime), "next_probe": next,
		"advice": strings.Join(advice, " "), "evidence": strings.Join(evidence, " | "),
		"last_answer": strings.Join(answers, " | "),
		"holds":       notesOf(s),
	}
}

const storyTime = time.DateTime + " UTC"

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

// probeTimeout is how long a probe waits for its answer. An org that gives none
// is asked again when the hold's schedule says so, as one that refuses.
const probeTimeout = 20 * time.Second

// Timeout bounds all probes of one run.
func (w *probeWorker[TTx]) Timeout(*river.Job[probeArgs]) time.Duration { return 2 * time.Minute }

// NextRetry serves a probe that met trouble of our own, the database's say.
func (w *probeWorker[TTx]) NextRetry(*river.Job[probeArgs]) time.Time {
	return time.Now().Add(w.runner.config.ProbeMin)
}

// Work asks about every hold that is due, and snoozes until the next is.
func (w *probeWorker[TTx]) Work(ctx context.Context, job *river.Job[probeArgs]) error {
	h, org := w.runner.holds, job.Args.Org
	o, err := h.org(ctx, org)
	if err != nil {
		return err
	}
	if early := time.Until(o.state.Load().NextProbe()); early > 0 && early <= controlPoll && !sleep(ctx, early) {
		return ctx.Err()
	}
	out, err := h.observe(ctx, org, breaker.Observation{Event: breaker.Tick})
	if err != nil {
		return err
	}
	due := out.state.DueProbes(time.Now())
	for _, reason := range due {
		obs := h.probe(ctx, org, reason)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if out, err = h.observe(ctx, org, obs); err != nil {
			return err
		}
	}
	for key, value := range probeStory(out.state) {
		if err := river.MetadataSet(ctx, key, value); err != nil {
			return err
		}
	}
	next := out.state.NextProbe()
	if len(due) > 0 || next.IsZero() {
		if err := river.RecordOutput(ctx, map[string]any{"holds": notesOf(out.state), "probed_at": time.Now().UTC()}); err != nil {
			return err
		}
	}
	if next.IsZero() {
		return nil
	}
	return river.JobSnooze(max(time.Until(ahead(next)), 0))
}

type probingKey struct{}

// probing marks calls that are made because of a hold: it does not stop them.
func probing(ctx context.Context) context.Context { return context.WithValue(ctx, probingKey{}, true) }

func isProbing(ctx context.Context) bool { return ctx.Value(probingKey{}) != nil }

// probe asks whether a hold is over.
func (h *holds[TTx]) probe(ctx context.Context, org sfapi.OrgID, reason breaker.Reason) breaker.Observation {
	sent := time.Now()
	asking, cancel := context.WithTimeout(probing(ctx), probeTimeout)
	defer cancel()
	over, evidence, err := h.ask(asking, org, reason)
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
func (h *holds[TTx]) ask(ctx context.Context, org sfapi.OrgID, reason breaker.Reason) (over bool, evidence []string, err error) {
	probe := reason.Rule().Probe
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
		if reason == breaker.ReasonStorageLimit {
			return storageLeft(limits)
		}
		daily, known := limits["DailyApiRequests"]
		if probe != breaker.ProbeLimits || !known {
			return true, nil, nil
		}
		// The answer's header is newer than its body, and has the app's own
		// quota, if any.
		usage, _ := client.Usage()
		usage.Used, usage.Limit = max(usage.Used, daily.Max-daily.Remaining), daily.Max
		share, q := h.budget.left(&usage)
		if q.limit == 0 {
			q = quota{used: usage.Used, limit: usage.Limit}
		}
		return h.budget.recovered(share), []string{"probe: " + h.budget.evidence(q)}, nil
	}
}

// storageLeft reports whether the org has room for data again. Room for files is
// another matter: an org without any takes records all the same.
func storageLeft(limits map[string]sfapi.Limit) (over bool, evidence []string, err error) {
	l, known := limits["DataStorageMB"]
	if !known {
		return true, nil, nil
	}
	return l.Remaining > 0, []string{fmt.Sprintf("probe: %d of %d MB of data storage are left", l.Remaining, l.Max)}, nil
}
