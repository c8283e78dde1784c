package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

func (a *api[TTx]) addSync(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	var body struct {
		Object string        `json:"object"`
		Mode   jobs.SyncMode `json:"mode"`
		Fields []string      `json:"fields"`
		Every  *string       `json:"every"`
	}
	if err := decodeBody(r, maxBodyBytes, false, &body); err != nil {
		return err
	}
	sync := jobs.Sync{Org: id, Object: body.Object, Mode: body.Mode, Fields: body.Fields}
	if body.Every == nil {
		res, err := a.runner.Insert(r.Context(), sync, nil)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusAccepted, map[string]int64{"job_id": res.Job.ID})
		return nil
	}
	every, err := time.ParseDuration(*body.Every)
	if err != nil {
		return badField("every", "%.40q is not a duration like 5m", *body.Every)
	}
	schedule, err := a.runner.Schedules().Set(r.Context(), sync, every)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, map[string]int64{"schedule_id": schedule.ID})
	return nil
}

// syncBody is the sync of an object as the contract shows it.
type syncBody struct {
	Object     string            `json:"object"`
	Mode       jobs.SyncMode     `json:"mode"`
	Status     runner.SyncStatus `json:"status"`
	JobID      *int64            `json:"job_id"`
	Cursor     *time.Time        `json:"cursor"`
	Rows       int64             `json:"rows"`
	LastRun    *lastRunBody      `json:"last_run"`
	Every      *string           `json:"every"`
	ScheduleID *int64            `json:"schedule_id"`
	NextRun    *time.Time        `json:"next_run"`
}

type lastRunBody struct {
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Rows       int64      `json:"rows"`
	Deleted    int64      `json:"deleted"`
	APICalls   int64      `json:"api_calls"`
	Error      *string    `json:"error"`
}

// orNull returns nil for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func newSyncBody(in *runner.SyncInfo) *syncBody {
	body := &syncBody{Object: in.Object, Mode: in.Mode, Status: in.Status, JobID: orNull(in.JobID)}
	if st := in.State; st != nil {
		body.Rows, body.Cursor = st.TotalRows, timeOrNull(st.Cursor.Stamp)
		if body.Cursor == nil {
			body.Cursor = timeOrNull(st.NextFrom)
		}
		if run := st.LastRun; run != nil {
			body.LastRun = &lastRunBody{
				timeOrNull(run.StartedAt), timeOrNull(run.FinishedAt), run.Rows, run.Deleted, run.APICalls, orNull(run.Error),
			}
		}
	}
	if in.Error != "" && body.LastRun == nil { // its job ended before a run began
		body.LastRun = &lastRunBody{Error: &in.Error}
	}
	if s := in.Schedule; s != nil {
		every := shortDuration(s.Every)
		body.Every, body.ScheduleID, body.NextRun = &every, &s.ID, timeOrNull(s.NextRun)
	}
	return body
}

// shortDuration is d as a person writes it: 5m, not 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if short, ok := strings.CutSuffix(s, "m0s"); ok {
		s = short + "m"
	}
	if short, ok := strings.CutSuffix(s, "h0m"); ok {
		s = short + "h"
	}
	return s
}

func (a *api[TTx]) listSyncs(w http.ResponseWriter, r *http.Request) error {
	id, err := a.knownOrg(r)
	if err != nil {
		return err
	}
	infos, err := a.runner.SyncInfos(r.Context(), id)
	if err != nil {
		return err
	}
	list := make([]*syncBody, len(infos))
	for i, in := range infos {
		list[i] = newSyncBody(in)
	}
	writeJSON(w, http.StatusOK, map[string]any{"syncs": list})
	return nil
}

// knownOrg reads the org of a path, which must have been connected once.
func (a *api[TTx]) knownOrg(r *http.Request) (sfapi.OrgID, error) {
	id, err := orgOf(r)
	if err != nil {
		return "", err
	}
	_, err = a.runner.Orgs().Get(r.Context(), id)
	return id, err
}

func (a *api[TTx]) endSchedule(w http.ResponseWriter, r *http.Request) error {
	object := r.PathValue("object")
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	if err := (&jobs.Sync{Org: id, Object: object}).Validate(); err != nil {
		return err
	}
	if _, err := a.knownOrg(r); err != nil {
		return err
	}
	if err := a.runner.Schedules().End(r.Context(), id, object); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api[TTx]) getJob(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "job_id", errJobNotFound)
	if err != nil {
		return err
	}
	job, org, err := a.runner.Job(r.Context(), id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": job.ID, "org": org, "kind": job.Kind, "state": job.State, "attempt": job.Attempt,
		"error": orNull(runner.LastError(job)),
	})
	return nil
}

// maxEvents bounds a page of events.
const maxEvents = 1000

func (a *api[TTx]) listEvents(w http.ResponseWriter, r *http.Request) error {
	after, err := queryInt(r, "after", 0, 0, 1<<62)
	if err != nil {
		return err
	}
	limit, err := queryInt(r, "limit", 100, 1, maxEvents)
	if err != nil {
		return err
	}
	events, err := a.runner.Events(r.Context(), after, int(limit))
	if err != nil {
		return err
	}
	var next *int64
	if len(events) == int(limit) {
		last := events[len(events)-1].ID
		more, err := a.runner.Events(r.Context(), last, 1)
		if err != nil {
			return err
		}
		if len(more) > 0 {
			next = &last
		}
	}
	if events == nil {
		events = []*runner.Event{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"events": events, "next": next})
	return nil
}
