package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

// control serves the simulator and, under /_sim/, the calls that steer it.
// Bodies and answers are JSON; {org} is an organization id.
//
//	POST   /_sim/apps                   an App without a key: {"ClientID","ClientSecret","SecretOptional","Rotate",…}
//	POST   /_sim/orgs                   {"config"?:OrgConfig,"own_listener"?:bool} → {"id","instance_url","login_url","username"}
//	GET    /_sim/orgs                   → [the same]
//	POST   /_sim/orgs/{org}/grant       {"username"?,"client_id"?} → {"refresh_token"}
//	POST   /_sim/orgs/{org}/users       {"username"} → {"id"}
//	POST   /_sim/orgs/{org}/seed        {"object","n","seed"} → {"ids":[…]}
//	POST   /_sim/orgs/{org}/records     {"op":"insert"|"update"|"delete"|"undelete"|"hard_delete"|"insert_hidden"|"reveal"|"set_stamp",
//	                                     "object","id"?,"ids"?,"stamp"?,"fields"?} → {"id"?}
//	GET    /_sim/orgs/{org}/rows/{obj}  → [Row]
//	GET    /_sim/orgs/{org}/count/{obj} → {"count"}
//	POST   /_sim/orgs/{org}/fields      {"object","add"?:Field,"remove"?:name}
//	POST   /_sim/orgs/{org}/state       see stateChange
//	POST   /_sim/orgs/{org}/faults      see faultSpec → {"id"}; POST /_sim/faults for every org
//	GET    /_sim/faults/{id}            → {"hits"}
//	DELETE /_sim/faults/{id}
//	GET    /_sim/orgs/{org}/audit       → [Entry]; GET /_sim/audit for every org
//	DELETE /_sim/orgs/{org}/audit
//	GET    /_sim/orgs/{org}/writes?key= → [Write]
//	GET    /_sim/secrets                → [what Sim.Secrets returns]
//	GET    /_sim/orgs/{org}/counts      → {"calls","token_calls","daily_usage","grants","sessions","open_cursors"}
type control struct {
	sim *sftest.Sim
	mux http.ServeMux

	mu       sync.Mutex
	injected map[int]*sftest.Injected
	servers  []*http.Server
	running  sync.WaitGroup
}

// ServeHTTP implements http.Handler.
func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/_sim/") {
		c.sim.ServeHTTP(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<20)
	c.mux.ServeHTTP(w, r)
}

// close ends the listeners of orgs with one of their own.
func (c *control) close() {
	c.mu.Lock()
	servers := c.servers
	c.mu.Unlock()
	for _, s := range servers {
		// The process ends here; there is nobody to tell.
		_ = s.Close()
	}
	c.running.Wait()
}

// errNotFound answers 404.
var errNotFound = errors.New("not found")

// handle registers a call. Panics of the simulator, which reports misuse so,
// become 400.
func (c *control) handle(pattern string, f func(r *http.Request) (any, error)) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		answer, err := guard(f, r)
		status := http.StatusOK
		switch {
		case errors.Is(err, errNotFound):
			status = http.StatusNotFound
		case err != nil:
			status = http.StatusBadRequest
		}
		if err != nil {
			answer = map[string]string{"error": err.Error()}
		}
		if answer == nil {
			answer = struct{}{}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// A client that has gone misses the answer; that is its affair.
		_ = json.NewEncoder(w).Encode(answer)
	})
}

func guard(f func(r *http.Request) (any, error), r *http.Request) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			if s, ok := p.(string); ok && strings.HasPrefix(s, "sftest: ") {
				err = errors.New(s)
				return
			}
			panic(p)
		}
	}()
	return f(r)
}

// orgCall registers a call of one org.
func orgCall[T any](c *control, pattern string, f func(o *sftest.Org, r *http.Request, body T) (any, error)) {
	c.handle(pattern, func(r *http.Request) (any, error) {
		o := c.sim.Org(r.PathValue("org"))
		if o == nil {
			return nil, errNotFound
		}
		body, err := decode[T](r)
		if err != nil {
			return nil, err
		}
		return f(o, r, body)
	})
}

// decode reads a body; an empty one is the zero value.
func decode[T any](r *http.Request) (v T, err error) {
	if r.ContentLength == 0 || r.Method == http.MethodGet || r.Method == http.MethodDelete {
		return v, nil
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, fmt.Errorf("decode body: %w", err)
	}
	return v, nil
}

type none struct{}

type orgInfo struct {
	ID          string `json:"id"`
	InstanceURL string `json:"instance_url"`
	LoginURL    string `json:"login_url"`
	Username    string `json:"username"`
}

func infoOf(o *sftest.Org) orgInfo {
	return orgInfo{o.ID(), o.InstanceURL(), o.LoginURL(), o.Users()[0].Username}
}

func (c *control) routes() {
	c.handle("POST /_sim/apps", func(r *http.Request) (any, error) {
		app, err := decode[sftest.App](r)
		if err != nil {
			return nil, err
		}
		c.sim.SetApp(app)
		return nil, nil
	})
	c.handle("POST /_sim/orgs", c.addOrg)
	c.handle("GET /_sim/orgs", func(*http.Request) (any, error) {
		list := []orgInfo{}
		for _, o := range c.sim.Orgs() {
			list = append(list, infoOf(o))
		}
		return list, nil
	})
	type who struct {
		Username string `json:"username"`
		ClientID string `json:"client_id"`
	}
	orgCall(c, "POST /_sim/orgs/{org}/grant", func(o *sftest.Org, _ *http.Request, b who) (any, error) {
		return map[string]string{"refresh_token": o.GrantFor(b.Username, b.ClientID)}, nil
	})
	orgCall(c, "POST /_sim/orgs/{org}/users", func(o *sftest.Org, _ *http.Request, b who) (any, error) {
		return map[string]any{"id": o.AddUser(b.Username).ID}, nil
	})
	c.dataRoutes()
	orgCall(c, "POST /_sim/orgs/{org}/state", func(o *sftest.Org, _ *http.Request, b stateChange) (any, error) { return nil, b.apply(c, o) })
	orgCall(c, "POST /_sim/orgs/{org}/faults", func(o *sftest.Org, _ *http.Request, b faultSpec) (any, error) {
		return c.inject(b, o.Inject)
	})
	c.handle("POST /_sim/faults", func(r *http.Request) (any, error) {
		b, err := decode[faultSpec](r)
		if err != nil {
			return nil, err
		}
		return c.inject(b, c.sim.Inject)
	})
	c.handle("GET /_sim/faults/{id}", func(r *http.Request) (any, error) {
		i, err := c.fault(r)
		if err != nil {
			return nil, err
		}
		return map[string]int{"hits": i.Hits()}, nil
	})
	c.handle("DELETE /_sim/faults/{id}", func(r *http.Request) (any, error) {
		i, err := c.fault(r)
		if err != nil {
			return nil, err
		}
		i.Remove()
		return nil, nil
	})
	c.handle("GET /_sim/secrets", func(*http.Request) (any, error) { return listOf(c.sim.Secrets()), nil })
	c.handle("GET /_sim/audit", func(*http.Request) (any, error) { return listOf(c.sim.Audit()), nil })
	orgCall(c, "GET /_sim/orgs/{org}/audit", func(o *sftest.Org, _ *http.Request, _ none) (any, error) { return listOf(o.Audit()), nil })
	orgCall(c, "DELETE /_sim/orgs/{org}/audit", func(o *sftest.Org, _ *http.Request, _ none) (any, error) { o.ResetAudit(); return nil, nil })
	orgCall(c, "GET /_sim/orgs/{org}/writes", func(o *sftest.Org, r *http.Request, _ none) (any, error) {
		return listOf(o.Writes(r.URL.Query().Get("key"))), nil
	})
	orgCall(c, "GET /_sim/orgs/{org}/counts", func(o *sftest.Org, _ *http.Request, _ none) (any, error) {
		return map[string]int{"calls": int(o.Calls()), "token_calls": int(o.TokenCalls()), "daily_usage": o.DailyUsage(),
			"grants": o.Grants(), "sessions": o.Sessions(), "open_cursors": o.OpenCursors()}, nil
	})
}

// listOf makes an empty list [] in JSON, not null.
func listOf[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (c *control) addOrg(r *http.Request) (any, error) {
	b, err := decode[struct {
		Config      sftest.OrgConfig `json:"config"`
		OwnListener bool             `json:"own_listener"`
	}](r)
	if err != nil {
		return nil, err
	}
	o := c.sim.AddOrg(&b.Config)
	if b.OwnListener {
		base, err := c.newAddress()
		if err != nil {
			return nil, err
		}
		o.SetInstanceURL(base)
	}
	return infoOf(o), nil
}

// newAddress opens one more loopback listener.
func (c *control) newAddress() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	srv := &http.Server{Handler: c.sim, ReadHeaderTimeout: time.Minute}
	c.mu.Lock()
	c.servers = append(c.servers, srv)
	c.mu.Unlock()
	c.running.Go(func() {
		// Serve always returns an error; after close it is ErrServerClosed.
		_ = srv.Serve(l)
	})
	return "http://" + l.Addr().String(), nil
}

func (c *control) fault(r *http.Request) (*sftest.Injected, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return nil, errNotFound
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.injected[id]
	if i == nil {
		return nil, errNotFound
	}
	return i, nil
}
