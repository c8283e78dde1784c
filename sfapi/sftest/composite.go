package sftest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// composite answers /composite and what is below it.
func (x *exchange) composite(parts []string) *Reply {
	switch {
	case len(parts) == 0 || parts[0] == "":
		x.entry.Operation = OpComposite
		if x.method == http.MethodGet {
			base := "/services/data/" + x.version + "/composite/"
			return jsonReply(200, map[string]string{"batch": base + "batch", "sobjects": base + "sobjects"})
		}
		return x.compositeCall()
	case parts[0] == "sobjects":
		return x.collections(parts[1:])
	case parts[0] == "batch" && len(parts) == 1:
		x.entry.Operation = OpComposite
		return x.batch()
	}
	return notFound()
}

// maxComposite is the number of parts of one composite or batch call.
const maxComposite = 25

// sub runs one part of a composite call. Its outcome counts in the audit entry
// of the whole.
func (x *exchange) sub(method, rawURL string, body json.RawMessage) *Reply {
	u, err := url.Parse(rawURL)
	if err != nil || !strings.HasPrefix(u.Path, "/services/data/") {
		return notFound()
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return notFound()
	}
	part := &exchange{sim: x.sim, ctx: x.ctx, method: method, path: u.Path, raw: u.EscapedPath(), query: query, body: body,
		header: http.Header{"Content-Type": {"application/json"}}, host: x.host, base: x.base,
		org: x.org, user: x.user, session: x.session}
	if segs := segments(u.Path); len(segs) > 3 && segs[3] == "composite" && (len(segs) == 4 || segs[4] == "batch") {
		return fail(400, "INVALID_REQUEST", "composite calls cannot be nested")
	}
	r := part.route()
	x.entry.RowsRead += part.entry.RowsRead
	x.entry.RowsTried += part.entry.RowsTried
	x.entry.RowsWritten += part.entry.RowsWritten
	return r
}

// bodyOf is a part's answer as JSON.
func bodyOf(r *Reply) json.RawMessage {
	if len(r.Body) == 0 {
		return json.RawMessage("null")
	}
	if !json.Valid(r.Body) {
		return json.RawMessage(appendJSONString(nil, string(r.Body)))
	}
	return r.Body
}

var reference = regexp.MustCompile(`@\{([A-Za-z0-9_]+)((?:\.[A-Za-z0-9_]+|\[[0-9]+\])+)\}`)

// compositeCall answers POST /composite. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_composite.htm.
func (x *exchange) compositeCall() *Reply {
	if x.method != http.MethodPost {
		return methodNotAllowed(x.method, "GET", "POST")
	}
	if bad := x.needJSON(); bad != nil {
		return bad
	}
	var body struct {
		AllOrNone bool `json:"allOrNone"`
		Requests  []struct {
			Method      string          `json:"method"`
			URL         string          `json:"url"`
			ReferenceID string          `json:"referenceId"`
			Body        json.RawMessage `json:"body"`
		} `json:"compositeRequest"`
	}
	if bad := decodeBody(x.body, &body); bad != nil {
		return bad
	}
	switch n := len(body.Requests); {
	case n == 0:
		return fail(400, "MISSING_ARGUMENT", "compositeRequest must be specified")
	case n > maxComposite:
		return fail(400, "EXCEEDED_ID_LIMIT", "composite request limit of "+strconv.Itoa(maxComposite)+" exceeded")
	case body.AllOrNone:
		return fail(400, "INVALID_REQUEST", "allOrNone is not simulated for composite requests")
	}
	type part struct {
		Body    json.RawMessage   `json:"body"`
		Headers map[string]string `json:"httpHeaders"`
		Status  int               `json:"httpStatusCode"`
		Ref     string            `json:"referenceId"`
	}
	var out []part
	var codes []string
	results := map[string]any{}
	for _, req := range body.Requests {
		if req.ReferenceID == "" || results[req.ReferenceID] != nil {
			return fail(400, "INVALID_REQUEST", "referenceId must be given and unique")
		}
		missing := ""
		fill := func(s string) string {
			return reference.ReplaceAllStringFunc(s, func(m string) string {
				g := reference.FindStringSubmatch(m)
				v, ok := walk(results[g[1]], g[2])
				if !ok {
					missing = m
				}
				return v
			})
		}
		u, b := fill(req.URL), fill(string(req.Body))
		var r *Reply
		if missing != "" {
			r = fail(400, "PROCESSING_HALTED", "Invalid reference specified. No value for "+missing+" found")
		} else {
			r = x.sub(req.Method, u, json.RawMessage(b))
		}
		var v any
		if err := json.Unmarshal(bodyOf(r), &v); err != nil || v == nil {
			v = map[string]any{}
		}
		results[req.ReferenceID] = v
		headers := map[string]string{}
		if loc := r.Header.Get("Location"); loc != "" {
			headers["Location"] = loc
		}
		codes = append(codes, r.codes...)
		out = append(out, part{bodyOf(r), headers, r.Status, req.ReferenceID})
	}
	r := jsonReply(200, map[string]any{"compositeResponse": out})
	r.codes = codes
	return r
}

// walk follows .name and [index] steps.
func walk(v any, path string) (string, bool) {
	for path != "" {
		if path[0] == '.' {
			end := strings.IndexAny(path[1:], ".[")
			name := path[1:]
			path = ""
			if end >= 0 {
				name, path = name[:end], name[end:]
			}
			m, ok := v.(map[string]any)
			if !ok {
				return "", false
			}
			v = m[name]
			continue
		}
		end := strings.IndexByte(path, ']')
		n, err := strconv.Atoi(path[1:end])
		list, ok := v.([]any)
		if err != nil || !ok || n >= len(list) {
			return "", false
		}
		v, path = list[n], path[end+1:]
	}
	switch v := v.(type) {
	case string:
		quoted := appendJSONString(nil, v)
		return string(quoted[1 : len(quoted)-1]), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// batch answers POST /composite/batch.
func (x *exchange) batch() *Reply {
	if x.method != http.MethodPost {
		return methodNotAllowed(x.method, "POST")
	}
	if bad := x.needJSON(); bad != nil {
		return bad
	}
	var body struct {
		Halt     bool `json:"haltOnError"`
		Requests []struct {
			Method string          `json:"method"`
			URL    string          `json:"url"`
			Input  json.RawMessage `json:"richInput"`
		} `json:"batchRequests"`
	}
	if bad := decodeBody(x.body, &body); bad != nil {
		return bad
	}
	if n := len(body.Requests); n == 0 || n > maxComposite {
		return fail(400, "INVALID_BATCH", "batchRequests must hold 1 to "+strconv.Itoa(maxComposite)+" requests")
	}
	type result struct {
		Status int             `json:"statusCode"`
		Result json.RawMessage `json:"result"`
	}
	out := make([]result, 0, len(body.Requests))
	var codes []string
	failed := false
	for _, req := range body.Requests {
		var r *Reply
		if failed && body.Halt {
			r = fail(http.StatusPreconditionFailed, "BATCH_PROCESSING_HALTED", "Batch processing halted per request")
		} else {
			r = x.sub(req.Method, "/services/data/"+strings.TrimPrefix(strings.TrimPrefix(req.URL, "/services/data/"), "/"), req.Input)
		}
		failed = failed || r.Status >= 400
		codes = append(codes, r.codes...)
		out = append(out, result{r.Status, bodyOf(r)})
	}
	r := jsonReply(200, map[string]any{"hasErrors": failed, "results": out})
	r.codes = codes
	return r
}
