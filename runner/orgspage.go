package runner

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// OrgsPage configures the page of orgs. The zero value of each field is its
// default.
type OrgsPage struct {
	// RiverUI is the path of River UI, for links to an org's jobs. Empty makes
	// no links.
	RiverUI string

	// PerPage is how many orgs a page shows. Defaults to 50; 1,000 is the most.
	PerPage int
}

const defaultOrgsPerPage = 50

//go:embed orgspage.html
var orgsPageText string

var orgsPageTemplate = template.Must(template.New("orgs").Funcs(template.FuncMap{
	"jobs":    func(n int) string { return counted(n, "job") },
	"records": func(n int) string { return counted(n, "record") },
}).Parse(orgsPageText))

func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// OrgsHandler returns a page for operators: each org with its lanes, its holds
// and what ends them, its backlog and its API usage, with buttons to pause,
// resume and probe. It needs no script and nothing from elsewhere, and refuses
// what pages of other sites send. Who may see it is for the app to decide:
// mount it behind what guards its other pages. page may be nil.
func (r *Runner[TTx]) OrgsHandler(page *OrgsPage) http.Handler {
	h := &orgsHandler[TTx]{runner: r, page: OrgsPage{PerPage: defaultOrgsPerPage}}
	if page != nil {
		h.page.RiverUI = strings.TrimSuffix(page.RiverUI, "/")
		if page.PerPage > 0 {
			h.page.PerPage = min(page.PerPage, maxOrgList)
		}
	}
	return http.NewCrossOriginProtection().Handler(h)
}

type orgsHandler[TTx any] struct {
	runner *Runner[TTx]
	page   OrgsPage
}

// orgsView is what the template shows.
type orgsView struct {
	Query   string
	Held    bool
	After   string
	Next    string // URL of the next page; "" on the last one
	First   string // URL of the first page; "" on it
	Problem string
	Now     time.Time
	Orgs    []orgView
}

type orgView struct {
	*Org
	Name            string
	Backlog         Backlog
	SyncOpen        bool
	WriteOpen       bool
	Disconnected    bool
	APIPercent      int
	SyncJobs        string // URLs in River UI; "" without one
	WriteJobs       string
	Holds           []holdView
	Errors          []errorView // of the last hours, most first
	Paused          bool        // by an operator
	ProbesWouldHelp bool
}

// errorView is a bar of an org's chart.
type errorView struct {
	Code    string
	Count   int64
	Percent int64 // of the longest bar
}

type holdView struct {
	Reason, Lanes, Advice string
	Since                 time.Time
	NextProbe             time.Time // zero when only a person ends the hold
	Evidence              []string
}

const (
	// errorHours is how far back the chart of errors looks, errorBars how many
	// codes it has.
	errorHours = 6 * time.Hour
	errorBars  = 5
)

// maxOrgsForm bounds the form of a button.
const maxOrgsForm = 64 << 10

// ServeHTTP implements http.Handler.
func (h *orgsHandler[TTx]) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		h.show(w, req, "", http.StatusOK)
	case http.MethodPost:
		req.Body = http.MaxBytesReader(w, req.Body, maxOrgsForm)
		if err := h.act(req); err != nil {
			h.show(w, req, err.Error(), http.StatusBadRequest)
			return
		}
		// The page that the button was on, at its org.
		back := *req.URL
		back.Fragment = req.PostForm.Get("org")
		http.Redirect(w, req, back.RequestURI()+"#"+url.PathEscape(back.Fragment), http.StatusSeeOther)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "this page takes GET and POST", http.StatusMethodNotAllowed)
	}
}

// act does what a button asks for.
func (h *orgsHandler[TTx]) act(req *http.Request) error {
	if err := req.ParseForm(); err != nil {
		return errors.New("the form did not arrive whole")
	}
	org, err := sfapi.ParseOrgID(req.PostForm.Get("org"))
	if err != nil {
		return errors.New("no such org")
	}
	orgs, ctx := h.runner.Orgs(), req.Context()
	switch req.PostForm.Get("action") {
	case "pause":
		_, err = orgs.Hold(ctx, org)
	case "resume":
		_, err = orgs.Resume(ctx, org)
	case "probe":
		_, err = orgs.Probe(ctx, org)
	default:
		return errors.New("no such action")
	}
	if errors.Is(err, ErrOrgNotFound) {
		return errors.New("no such org")
	}
	if err != nil {
		h.runner.logger.ErrorContext(ctx, "orgs page", "org", org, "error", err)
		return errors.New("that did not work; the log says why")
	}
	return nil
}

func (h *orgsHandler[TTx]) show(w http.ResponseWriter, req *http.Request, problem string, status int) {
	view, err := h.view(req)
	if err != nil {
		h.runner.logger.ErrorContext(req.Context(), "orgs page", "error", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The orgs cannot be read now. Try again soon.", http.StatusServiceUnavailable)
		return
	}
	view.Problem = problem
	var buf bytes.Buffer
	if err := orgsPageTemplate.Execute(&buf, view); err != nil {
		h.runner.logger.ErrorContext(req.Context(), "orgs page", "error", err)
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a browser that has gone misses it
}

// view reads what the page shows. Filters that make no sense filter nothing.
func (h *orgsHandler[TTx]) view(req *http.Request) (*orgsView, error) {
	ctx, q := req.Context(), req.URL.Query()
	view := &orgsView{Query: strings.TrimSpace(q.Get("q")), Held: q.Get("held") != "", Now: time.Now().UTC()}
	if !utf8.ValidString(view.Query) || strings.IndexByte(view.Query, 0) >= 0 {
		view.Query = ""
	}
	p := &OrgListParams{Query: view.Query, Held: view.Held, Limit: h.page.PerPage}
	if after, err := sfapi.ParseOrgID(q.Get("after")); err == nil {
		p.After, view.After, view.First = after, string(after), view.url("")
	}
	orgs, err := h.runner.Orgs().List(ctx, p)
	if err != nil {
		return nil, err
	}
	ids := make([]sfapi.OrgID, len(orgs))
	for i, o := range orgs {
		ids[i] = o.ID
	}
	backlogs, err := h.runner.Orgs().Backlogs(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for _, o := range orgs {
		v := h.orgView(o, backlogs[o.ID])
		counts, err := h.runner.Orgs().Errors(ctx, o.ID, view.Now.Add(-errorHours))
		if err != nil {
			return nil, err
		}
		v.Errors = errorViews(counts)
		view.Orgs = append(view.Orgs, v)
	}
	if len(orgs) == p.Limit {
		more, err := h.runner.Orgs().List(ctx, &OrgListParams{Query: p.Query, Held: p.Held, Limit: 1, After: ids[len(ids)-1]})
		if err != nil {
			return nil, err
		}
		if len(more) > 0 {
			view.Next = view.url(string(ids[len(ids)-1]))
		}
	}
	return view, nil
}

// url is the page with these filters, after an org.
func (v *orgsView) url(after string) string {
	q := url.Values{}
	if v.Query != "" {
		q.Set("q", v.Query)
	}
	if v.Held {
		q.Set("held", "true")
	}
	if after != "" {
		q.Set("after", after)
	}
	return "?" + q.Encode()
}

func (h *orgsHandler[TTx]) orgView(o *Org, b Backlog) orgView {
	v := orgView{
		Org: o, Name: o.Label, Backlog: b, SyncOpen: o.Open(breaker.Sync), WriteOpen: o.Open(breaker.Write),
		Disconnected: o.State == OrgDisconnected,
	}
	if v.Name == "" {
		v.Name = string(o.ID)
	}
	if o.APILimit > 0 {
		v.APIPercent = int(int64(o.APIUsed) * 100 / int64(o.APILimit))
	}
	if h.page.RiverUI != "" {
		link := func(lane breaker.Lane) string {
			return h.page.RiverUI + "/queues/" + lane.Queue(o.ID)
		}
		v.SyncJobs, v.WriteJobs = link(breaker.Sync), link(breaker.Write)
	}
	for i := range o.Holds {
		hold := &o.Holds[i]
		due := hold.Due()
		v.Paused = v.Paused || hold.Reason == breaker.ReasonOperator
		v.ProbesWouldHelp = v.ProbesWouldHelp || !due.IsZero()
		v.Holds = append(v.Holds, holdView{
			Reason: string(hold.Reason), Lanes: strings.ReplaceAll(hold.Lanes.String(), ",", ", "), Advice: hold.Advice,
			Since: hold.Since.UTC(), NextProbe: due.UTC(), Evidence: hold.Evidence,
		})
		if due.IsZero() {
			v.Holds[len(v.Holds)-1].NextProbe = time.Time{}
		}
	}
	return v
}

// errorViews adds the hours up.
func errorViews(counts []ErrorCount) []errorView {
	byCode := make(map[string]int64)
	for _, c := range counts {
		byCode[c.Code] += c.Count
	}
	var views []errorView
	for code, n := range byCode {
		views = append(views, errorView{Code: code, Count: n})
	}
	slices.SortFunc(views, func(a, b errorView) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Code, b.Code))
	})
	views = views[:min(len(views), errorBars)]
	for i := range views {
		views[i].Percent = max(views[i].Count*100/views[0].Count, 1)
	}
	return views
}
