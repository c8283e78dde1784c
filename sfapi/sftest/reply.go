package sftest

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Reply is an answer on its way to the client. Fault.Mangle may change it.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
	// CutAfter ends the connection after so many bytes of the body, although
	// Content-Length promises all of it; compression scales it. 0 sends
	// everything.
	CutAfter int
	// codes are the error codes that the audit shows.
	codes []string
}

const jsonType = "application/json;charset=UTF-8"

func newReply(status int, contentType string, body []byte) *Reply {
	r := &Reply{Status: status, Header: http.Header{}, Body: body}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// jsonReply encodes v without escaping HTML, as Salesforce does.
func jsonReply(status int, v any) *Reply {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("sftest: encode answer: " + err.Error())
	}
	return newReply(status, jsonType, bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
}

type apiError struct {
	Message string   `json:"message"`
	Code    string   `json:"errorCode"`
	Fields  []string `json:"fields,omitzero"`
}

// fail is a REST error: an array with one entry.
func fail(status int, code, message string) *Reply {
	r := jsonReply(status, []apiError{{Message: message, Code: code}})
	r.codes = []string{code}
	return r
}

// failFields is a REST error about a record, which always has fields.
func failFields(status int, code, message string, fields []string) *Reply {
	if fields == nil {
		fields = []string{}
	}
	r := jsonReply(status, []apiError{{Message: message, Code: code, Fields: fields}})
	r.codes = []string{code}
	return r
}

// failRow is a record's error as a single-record call answers it.
func failRow(e *rowError) *Reply {
	switch {
	case e.choices != nil:
		r := jsonReply(http.StatusMultipleChoices, e.choices)
		r.codes = []string{e.code}
		return r
	case e.status != 0:
		return failFields(e.status, e.code, e.message, e.fields)
	case e.whole:
		return fail(http.StatusBadRequest, e.code, e.message)
	}
	return failFields(http.StatusBadRequest, e.code, e.message, e.fields)
}

// oauthFail is a token endpoint's error, which is a 400 nearly always.
func oauthFail(code, description string) *Reply {
	body := []byte(`{"error":` + string(appendJSONString(nil, code)))
	if description != "" {
		body = append(append(body, `,"error_description":`...), appendJSONString(nil, description)...)
	}
	r := newReply(http.StatusBadRequest, jsonType, append(body, '}'))
	r.codes = []string{code}
	return r
}

// word is one of the identity services' one-word answers.
func word(status int, text string) *Reply {
	r := newReply(status, "text/plain;charset=UTF-8", []byte(text))
	r.codes = []string{text}
	return r
}

func notFound() *Reply {
	return fail(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
}

func methodNotAllowed(method string, allowed ...string) *Reply {
	r := fail(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED",
		"HTTP Method '"+method+"' not allowed. Allowed are "+strings.Join(allowed, ","))
	r.Header.Set("Allow", strings.Join(allowed, ", "))
	return r
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	// crypto/rand.Read never fails: it ends the program instead.
	rand.Read(b)
	return b
}

// compress answers with gzip when the client asked for it and it pays.
func (r *Reply) compress(accept string) {
	if !strings.Contains(accept, "gzip") || len(r.Body) < 256 || r.Header.Get("Content-Encoding") != "" {
		return
	}
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return
	}
	if _, err := zw.Write(r.Body); err != nil {
		return
	}
	if err := zw.Close(); err != nil {
		return
	}
	if r.CutAfter > 0 {
		r.CutAfter = max(1, r.CutAfter*buf.Len()/len(r.Body))
	}
	r.Body = buf.Bytes()
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("Vary", "Accept-Encoding")
}

// response is the answer as a RoundTripper gives it.
func (r *Reply) response(req *http.Request) *http.Response {
	r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var body io.Reader = bytes.NewReader(r.Body)
	if req.Method == http.MethodHead {
		body = http.NoBody
	} else if r.CutAfter > 0 && r.CutAfter < len(r.Body) {
		body = io.MultiReader(bytes.NewReader(r.Body[:r.CutAfter]), cutReader{})
	}
	return &http.Response{
		Status:     strconv.Itoa(r.Status) + " " + http.StatusText(r.Status),
		StatusCode: r.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.Header, Body: io.NopCloser(body), ContentLength: int64(len(r.Body)), Request: req,
	}
}

// cutReader is a connection that ended too early.
type cutReader struct{}

func (cutReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// write sends the answer through a server. It panics with
// http.ErrAbortHandler, which closes the connection, when the body is cut.
func (r *Reply) write(w http.ResponseWriter) {
	for k, v := range r.Header {
		w.Header()[k] = v
	}
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Length", strconv.Itoa(len(r.Body)))
	w.WriteHeader(r.Status)
	body := r.Body
	cut := r.CutAfter > 0 && r.CutAfter < len(body)
	if cut {
		body = body[:r.CutAfter]
	}
	if _, err := w.Write(body); err != nil {
		return // the client has gone
	}
	if cut {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		panic(http.ErrAbortHandler)
	}
}
