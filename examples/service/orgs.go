package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// orgBody is an org as the contract shows it.
type orgBody struct {
	Org         sfapi.OrgID       `json:"org"`
	Label       string            `json:"label"`
	InstanceURL string            `json:"instance_url"`
	State       string            `json:"state"`
	Lanes       map[string]string `json:"lanes"`
	Holds       []holdBody        `json:"holds"`
	Backlog     backlogBody       `json:"backlog"`
	APIUsage    *usageBody        `json:"api_usage"` // null before the first call
}

type holdBody struct {
	Reason    breaker.Reason `json:"reason"`
	Lanes     []string       `json:"lanes"`
	Since     time.Time      `json:"since"`
	NextProbe *time.Time     `json:"next_probe"`
	Evidence  []string       `json:"evidence"`
	Advice    string         `json:"advice"`
}

type backlogBody struct {
	Sync    int `json:"sync"`
	Write   int `json:"write"`
	Records int `json:"records"`
}

type usageBody struct {
	Used  int       `json:"used"`
	Limit int       `json:"limit"`
	At    time.Time `json:"at"`
}

const (
	open = "open"
	held = "held"
)

func newOrgBody(o *runner.Org, b runner.Backlog) *orgBody {
	body := &orgBody{
		Org: o.ID, Label: o.Label, InstanceURL: o.InstanceURL, State: open,
		Lanes: make(map[string]string), Holds: []holdBody{}, Backlog: backlogBody(b),
	}
	for _, lane := range breaker.AllLanes() {
		body.Lanes[lane.String()] = open
		if !o.Open(lane) {
			body.Lanes[lane.String()], body.State = held, held
		}
	}
	for i := range o.Holds {
		body.Holds = append(body.Holds, newHoldBody(&o.Holds[i]))
	}
	if o.State == runner.OrgDisconnected && len(body.Holds) == 0 {
		body.Holds = append(body.Holds, holdBody{
			Reason: breaker.ReasonReauth, Lanes: []string{"sync", "write"}, Since: o.UpdatedAt.UTC(),
			Evidence: []string{"the org was disconnected here"}, Advice: "Connect the org again.",
		})
	}
	if !o.APIAt.IsZero() {
		body.APIUsage = &usageBody{o.APIUsed, o.APILimit, o.APIAt.UTC()}
	}
	return body
}

func newHoldBody(h *breaker.Hold) holdBody {
	body := holdBody{Reason: h.Reason, Lanes: []string{}, Since: h.Since.UTC(), Evidence: h.Evidence, Advice: h.Advice}
	for _, lane := range h.Lanes.Slice() {
		body.Lanes = append(body.Lanes, lane.String())
	}
	if body.Evidence == nil {
		body.Evidence = []string{}
	}
	if due := h.Due(); !due.IsZero() {
		due = due.UTC()
		body.NextProbe = &due
	}
	return body
}

// writeOrg answers with an org.
func (a *api[TTx]) writeOrg(w http.ResponseWriter, r *http.Request, status int, o *runner.Org) error {
	backlogs, err := a.runner.Orgs().Backlogs(r.Context(), o.ID)
	if err != nil {
		return err
	}
	writeJSON(w, status, newOrgBody(o, backlogs[o.ID]))
	return nil
}

func (a *api[TTx]) connectOrg(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		RefreshToken string `json:"refresh_token"`
		LoginURL     string `json:"login_url"`
		Label        string `json:"label"`
		Requeue      bool   `json:"requeue"`
	}
	if err := decodeBody(r, maxBodyBytes, false, &body); err != nil {
		return err
	}
	if body.RefreshToken == "" {
		return badField("refresh_token", "is required")
	}
	// A grant that rotates is spent by the exchange: better to know first that
	// it can be stored.
	if err := a.runner.Ping(r.Context()); err != nil {
		return err
	}
	org, created, err := a.runner.Orgs().Connect(r.Context(), &runner.ConnectParams{
		RefreshToken: sfapi.Secret(body.RefreshToken), LoginURL: body.LoginURL, Label: body.Label, Requeue: body.Requeue,
	})
	if err != nil {
		return err
	}
	// The exchange and saving the grant have their own bounds, and may have
	// outlasted the call's.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return a.writeOrg(w, r, status, org)
}

// maxOrgs bounds a page of orgs.
const maxOrgs = 1000

func (a *api[TTx]) listOrgs(w http.ResponseWriter, r *http.Request) error {
	p := &runner.OrgListParams{}
	var errs []error
	var err error
	if p.Held, err = queryBool(r, "held"); err != nil {
		errs = append(errs, err)
	}
	if p.Query, err = queryText(r, "q"); err != nil {
		errs = append(errs, err)
	}
	limit, err := queryInt(r, "limit", 100, 1, maxOrgs)
	if err != nil {
		errs = append(errs, err)
	}
	p.Limit = int(limit)
	if after := r.URL.Query().Get("after"); after != "" {
		if p.After, err = sfapi.ParseOrgID(after); err != nil {
			errs = append(errs, badField("after", "is not the next of another page"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	ctx := r.Context()
	orgs, err := a.runner.Orgs().List(ctx, p)
	if err != nil {
		return err
	}
	ids := make([]sfapi.OrgID, len(orgs))
	for i, o := range orgs {
		ids[i] = o.ID
	}
	backlogs, err := a.runner.Orgs().Backlogs(ctx, ids...)
	if err != nil {
		return err
	}
	list := make([]*orgBody, len(orgs))
	for i, o := range orgs {
		list[i] = newOrgBody(o, backlogs[o.ID])
	}
	var next *sfapi.OrgID
	if len(ids) == p.Limit {
		last := ids[len(ids)-1]
		more, err := a.runner.Orgs().List(ctx, &runner.OrgListParams{After: last, Limit: 1, Query: p.Query, Held: p.Held})
		if err != nil {
			return err
		}
		if len(more) > 0 {
			next = &last
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"orgs": list, "next": next})
	return nil
}

func (a *api[TTx]) getOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	org, err := a.runner.Orgs().Get(r.Context(), id)
	if err != nil {
		return err
	}
	return a.writeOrg(w, r, http.StatusOK, org)
}

func (a *api[TTx]) disconnectOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	// A half-done one would have to be repeated: it does not end with its
	// caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), longTimeout)
	defer cancel()
	if err := a.runner.Orgs().Disconnect(ctx, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api[TTx]) pauseOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	var body struct {
		Lane string `json:"lane"`
	}
	if err := decodeBody(r, maxBodyBytes, true, &body); err != nil {
		return err
	}
	var lanes []breaker.Lane
	if body.Lane != "" {
		lane, err := breaker.ParseLane(body.Lane)
		if err != nil {
			return badField("lane", "is neither sync nor write")
		}
		lanes = append(lanes, lane)
	}
	org, err := a.runner.Orgs().Hold(r.Context(), id, lanes...)
	if err != nil {
		return err
	}
	return a.writeOrg(w, r, http.StatusOK, org)
}

func (a *api[TTx]) resumeOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	if err := decodeBody(r, maxBodyBytes, true, &struct{}{}); err != nil {
		return err
	}
	org, err := a.runner.Orgs().Resume(r.Context(), id)
	if err != nil {
		return err
	}
	return a.writeOrg(w, r, http.StatusOK, org)
}

func (a *api[TTx]) probeOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	if err := decodeBody(r, maxBodyBytes, true, &struct{}{}); err != nil {
		return err
	}
	org, err := a.runner.Orgs().Probe(r.Context(), id)
	if err != nil {
		return err
	}
	return a.writeOrg(w, r, http.StatusOK, org)
}
