package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirhq/weir/runner"
)

const (
	// requestTimeout bounds what a call does with the database. Connecting an
	// org has the library's own bounds besides.
	requestTimeout = 15 * time.Second

	// longTimeout bounds the calls that do much or ask Salesforce.
	longTimeout = time.Minute
)

// api answers the calls of the contract.
type api[TTx any] struct {
	runner *runner.Runner[TTx]
	config *config
	logger *slog.Logger

	// migrated is set once the schema is there, working while the worker runs.
	migrated, working atomic.Bool
}

// call is the handler of one method of one path.
type call func(w http.ResponseWriter, r *http.Request) error

// methods are the calls of a path.
type methods map[string]call

// routes registers every call of the contract.
func (a *api[TTx]) routes(mux *http.ServeMux) {
	for path, m := range map[string]methods{
		"/orgs":                               {http.MethodGet: a.listOrgs, http.MethodPost: a.connectOrg},
		"/orgs/{org}":                         {http.MethodGet: a.getOrg, http.MethodDelete: a.disconnectOrg},
		"/orgs/{org}/pause":                   {http.MethodPost: a.pauseOrg},
		"/orgs/{org}/resume":                  {http.MethodPost: a.resumeOrg},
		"/orgs/{org}/probe":                   {http.MethodPost: a.probeOrg},
		"/orgs/{org}/syncs":                   {http.MethodGet: a.listSyncs, http.MethodPost: a.addSync},
		"/orgs/{org}/syncs/{object}":          {http.MethodDelete: a.endSchedule},
		"/orgs/{org}/writes":                  {http.MethodPost: a.addWrite},
		"/orgs/{org}/writes/{write_id}":       {http.MethodGet: a.getWrite},
		"/orgs/{org}/writes/{write_id}/retry": {http.MethodPost: a.retryWrite},
		"/jobs/{job_id}":                      {http.MethodGet: a.getJob},
		"/events":                             {http.MethodGet: a.listEvents},
		"/connect":                            {http.MethodGet: a.startConnect},
		"/oauth/callback":                     {http.MethodGet: a.finishConnect},
	} {
		mux.Handle(path, a.handler(m))
	}
	mux.Handle("/healthz", methods{http.MethodGet: a.healthz}.plain(a))
	mux.Handle("/readyz", methods{http.MethodGet: a.readyz}.plain(a))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &problem{status: http.StatusNotFound, Code: "not_found", Message: "there is no such path"})
	})
}

// handler answers the calls of a path that need the database.
func (a *api[TTx]) handler(m methods) http.Handler {
	return m.serve(a.logger, func(h call) call {
		return func(w http.ResponseWriter, r *http.Request) error {
			if !a.migrated.Load() {
				return errUnavailable
			}
			ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
			defer cancel()
			return h(w, r.WithContext(ctx))
		}
	})
}

// plain answers the calls of a path that need nothing.
func (m methods) plain(a interface{ log() *slog.Logger }) http.Handler {
	return m.serve(a.log(), func(h call) call { return h })
}

func (a *api[TTx]) log() *slog.Logger { return a.logger }

// serve picks the method's call and answers its error.
func (m methods) serve(logger *slog.Logger, wrap func(call) call) http.Handler {
	allowed := []string{}
	for method := range m {
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		h := m[method]
		if h == nil {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			writeProblem(w, &problem{status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "this path takes " + strings.Join(allowed, ", ")})
			return
		}
		if err := wrap(h)(w, r); err != nil {
			writeProblem(w, problemOf(r, logger, err))
		}
	})
}

// healthz is 200 while the process lives.
func (a *api[TTx]) healthz(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// readyz is 200 when the database answers and, with a worker, the worker runs.
func (a *api[TTx]) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	switch {
	case !a.migrated.Load():
		return &problem{status: http.StatusServiceUnavailable, Code: "unavailable", Message: "the database is not migrated yet"}
	case a.config.Worker && !a.working.Load():
		return &problem{status: http.StatusServiceUnavailable, Code: "unavailable", Message: "the worker does not run"}
	case a.runner.Ping(ctx) != nil:
		return errUnavailable
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

// recovered answers a panic of a handler, which is ours to fix, and keeps the
// process up.
func recovered(logger *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			logger.ErrorContext(r.Context(), "panic", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			writeProblem(w, &problem{status: http.StatusInternalServerError, Code: "internal", Message: "something went wrong here; the log has more"})
		}()
		next.ServeHTTP(w, r)
	})
}
