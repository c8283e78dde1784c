package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/weirhq/weir/sfapi"
)

const (
	// maxBodyBytes bounds every body but that of a write.
	maxBodyBytes = 1 << 20

	// maxWriteBytes bounds the body of a write.
	maxWriteBytes = 16 << 20
)

// decodeBody reads a JSON object, as strictly as the contract has it: no
// unknown or doubled names, nothing after it, valid UTF-8. Where optional, no
// body stands for an empty object.
func decodeBody(r *http.Request, limit int64, optional bool, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &problem{status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: fmt.Sprintf("the body is larger than %d bytes", limit)}
		}
		return &problem{status: http.StatusBadRequest, Code: "unreadable_body", Message: "the body did not arrive whole"}
	}
	if len(body) == 0 && optional {
		return nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &problem{status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "Content-Type must be application/json"}
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return &problem{status: http.StatusBadRequest, Code: "invalid_json", Message: "the body must be a JSON object"}
	}
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true)); err != nil {
		return decodeProblem(err)
	}
	return nil
}

// decodeProblem says where a body is wrong, and never what it holds: it may be
// a token.
func decodeProblem(err error) *problem {
	p := &problem{status: http.StatusBadRequest, Code: "invalid_json", Message: "the body is not valid JSON"}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		p.Field = pointerField(syntax.JSONPointer)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			p.Code, p.Message = "duplicate_field", p.Field+" is there twice"
		} else {
			p.Message = fmt.Sprintf("the body is not valid JSON at byte %d", syntax.ByteOffset)
		}
		return p
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		p.Field = pointerField(semantic.JSONPointer)
		switch {
		case errors.Is(err, json.ErrUnknownName):
			p.Code, p.Message = "unknown_field", p.Field+" is not a field of this call"
		default:
			p.Code, p.Message = "invalid_field", fmt.Sprintf("%s: a JSON %s does not fit here", p.Field, semantic.JSONKind)
		}
	}
	return p
}

// pointerField turns /records/3/Name into records[3].Name.
func pointerField(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		token = strings.ToValidUTF8(token, "\uFFFD")
		if len(token) > 80 {
			token = strings.ToValidUTF8(token[:80], "") + "…"
		}
		if _, err := strconv.ParseUint(token, 10, 32); err == nil && b.Len() > 0 {
			fmt.Fprintf(&b, "[%s]", token)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	return b.String()
}

// orgOf reads the org of a path. What is no id was never connected.
func orgOf(r *http.Request) (sfapi.OrgID, error) {
	id, err := sfapi.ParseOrgID(r.PathValue("org"))
	if err != nil {
		return "", errOrgNotFound
	}
	return id, nil
}

// pathID reads a positive number of a path.
func pathID(r *http.Request, name string, missing error) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || id < 1 {
		return 0, missing
	}
	return id, nil
}

// queryText reads a text of the query. A database cannot keep, and so not
// compare, every string that a URL can hold.
func queryText(r *http.Request, name string) (string, error) {
	text := r.URL.Query().Get(name)
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return "", badField(name, "is not a text")
	}
	return text, nil
}

// queryInt reads a number of the query, at least least; def without one.
func queryInt(r *http.Request, name string, def, least, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, badField(name, "is not a number from %d to %d", least, most)
	}
	return n, nil
}

// queryBool reads true or false of the query; false without it.
func queryBool(r *http.Request, name string) (bool, error) {
	switch r.URL.Query().Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, badField(name, "is neither true nor false")
}
