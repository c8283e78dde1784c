package sfapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ErrInvalidName is wrapped by the error of a call that names an object or a
// field as Salesforce cannot.
var ErrInvalidName = errors.New("invalid API name")

var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// checkName returns an error unless name may be an API name. what says which.
func checkName(what, name string) error {
	if len(name) > 255 || !namePattern.MatchString(name) {
		return fmt.Errorf("%w: %s %.64q", ErrInvalidName, what, name)
	}
	return nil
}

// Get stores the named fields of one record in out, a pointer that
// json.Unmarshal takes or a *Record. No fields means all of them.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_retrieve_get.htm
func (c *Client) Get(ctx context.Context, object, id string, fields []string, out any) error {
	path, err := c.recordPath(object, id)
	if err != nil {
		return fmt.Errorf("get %s: %w", object, err)
	}
	for _, field := range fields {
		for part := range strings.SplitSeq(field, ".") {
			if err := checkName("field", part); err != nil {
				return fmt.Errorf("get %s: %w", object, err)
			}
		}
	}
	if len(fields) > 0 {
		path += "?fields=" + strings.Join(fields, ",")
	}
	return c.call(ctx, &request{
		op: "get", method: http.MethodGet, path: path, readOnly: true, decode: into(out),
	})
}

// Create inserts record, a flat struct, map or json.RawMessage, and returns its
// id. Where the outcome is unknown (OutcomeUnknown) the record may exist.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_basic_info_post.htm
func (c *Client) Create(ctx context.Context, object string, record any) (id string, err error) {
	body, err := encodeFor("create", object, record)
	if err != nil {
		return "", err
	}
	var saved savedRecord
	err = c.call(ctx, &request{
		op: "create", method: http.MethodPost, path: c.data + "/sobjects/" + object, body: body,
		decode: func(rep *reply) error {
			saved = savedRecord{}
			return saved.read(rep)
		},
	})
	if err != nil {
		return "", err
	}
	return saved.ID, nil
}

// Update changes the given fields of one record.
func (c *Client) Update(ctx context.Context, object, id string, record any) error {
	path, err := c.recordPath(object, id)
	if err != nil {
		return fmt.Errorf("update %s: %w", object, err)
	}
	body, err := encodeFor("update", object, record)
	if err != nil {
		return err
	}
	return c.call(ctx, &request{op: "update", method: http.MethodPatch, path: path, body: body, decode: ignore})
}

// Upsert creates or updates the record whose external id field extField is
// extValue, and says which. id is empty where an update's answer has none, as
// older API versions'. It may be sent again whatever became of it, if extField
// is unique.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_upsert_patch.htm
func (c *Client) Upsert(ctx context.Context, object, extField, extValue string, record any) (id string, created bool, err error) {
	if err := checkName("field", extField); err != nil {
		return "", false, fmt.Errorf("upsert %s: %w", object, err)
	}
	if extValue == "" {
		return "", false, fmt.Errorf("upsert %s: value of %s is empty", object, extField)
	}
	body, err := encodeFor("upsert", object, record)
	if err != nil {
		return "", false, err
	}
	var saved savedRecord
	err = c.call(ctx, &request{
		op: "upsert", method: http.MethodPatch,
		path: c.data + "/sobjects/" + object + "/" + extField + "/" + segment(extValue), body: body,
		decode: func(rep *reply) error {
			saved = savedRecord{Created: rep.status == http.StatusCreated}
			if rep.status == http.StatusNoContent {
				return nil
			}
			return saved.read(rep)
		},
	})
	if err != nil {
		return "", false, err
	}
	return saved.ID, saved.Created, nil
}

// Delete deletes one record.
func (c *Client) Delete(ctx context.Context, object, id string) error {
	path, err := c.recordPath(object, id)
	if err != nil {
		return fmt.Errorf("delete %s: %w", object, err)
	}
	return c.call(ctx, &request{op: "delete", method: http.MethodDelete, path: path, decode: ignore})
}

// Do calls any other resource. path is relative to the REST API's root of the
// version in use ("query?q=…", "composite"), or absolute ("/services/apexrest/…"),
// escaped. body is nil, a []byte or json.RawMessage that is sent as it is, or a
// value for json.Marshal. A success is stored in out, if that is not nil, as
// json.Unmarshal does; an answer without a body leaves it alone.
func (c *Client) Do(ctx context.Context, method, path string, body, out any) error {
	path, err := c.resolve(path)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	req := &request{
		op: "request", method: method, path: path, endpoint: endpointOf(path),
		readOnly: method == http.MethodGet || method == http.MethodHead,
	}
	if body != nil {
		if req.body, err = encode(body); err != nil {
			return fmt.Errorf("%s %s: %w", method, req.route(), err)
		}
	}
	if out != nil {
		decode := into(out)
		req.decode = func(rep *reply) error {
			if len(rep.body) == 0 && (rep.status == http.StatusNoContent || method == http.MethodHead) {
				return nil
			}
			return decode(rep)
		}
	}
	return c.call(ctx, req)
}

// resolve returns path as one of the instance, whatever it tries.
func (c *Client) resolve(path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		path = c.data + "/" + path
	}
	u, err := url.Parse(path)
	if err != nil {
		return "", fmt.Errorf("%w: path does not parse", ErrInvalidURL)
	}
	if u.Scheme != "" || u.Host != "" || u.User != nil || strings.HasPrefix(path, "//") {
		return "", fmt.Errorf("%w: path must not name a host", ErrInvalidURL)
	}
	u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20")
	return u.RequestURI(), nil
}

func (c *Client) recordPath(object, id string) (string, error) {
	if err := checkName("object", object); err != nil {
		return "", err
	}
	if !validRecordID(id) {
		return "", fmt.Errorf("%w: %.64q", ErrInvalidID, id)
	}
	return c.data + "/sobjects/" + object + "/" + id, nil
}

// validRecordID reports whether id has the form of a record id. Whether it is
// one is Salesforce's answer.
func validRecordID(id string) bool {
	if len(id) != 15 && len(id) != 18 {
		return false
	}
	for i := range len(id) {
		if !isAlnum(id[i]) {
			return false
		}
	}
	return true
}

// segment escapes s for use as one segment of a path. A segment of dots alone
// would be taken for a step in the path.
func segment(s string) string {
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

// savedRecord is the answer to a single-record write.
type savedRecord struct {
	ID      string `json:"id"`
	Success *bool  `json:"success"`
	Created bool   `json:"created"`
}

func (s *savedRecord) read(rep *reply) error {
	if err := into(s)(rep); err != nil {
		return fmt.Errorf("%w: %w", ErrIncompleteResult, err)
	}
	if s.Success == nil || !*s.Success || !validRecordID(s.ID) {
		return fmt.Errorf("%w: status %d without the record's id", ErrIncompleteResult, rep.status)
	}
	return nil
}

// ignore accepts an answer that says nothing but that it is one.
func ignore(rep *reply) error {
	if len(rep.body) > 0 && !validJSON(rep.body) {
		return fmt.Errorf("%w: body: %w", ErrIncompleteResult, errSyntax)
	}
	return nil
}

// into returns a decoder of a whole JSON body into out.
func into(out any) func(*reply) error {
	return func(rep *reply) error {
		if !utf8.Valid(rep.body) {
			return fmt.Errorf("%w: body: %w", ErrIncompleteResult, errNotUTF8)
		}
		err := json.Unmarshal(rep.body, out)
		if err == nil {
			return nil
		}
		if !validJSON(rep.body) {
			return fmt.Errorf("%w: body: %w", ErrIncompleteResult, errSyntax)
		}
		return fmt.Errorf("decode: %w", err)
	}
}

func encodeFor(op, object string, record any) ([]byte, error) {
	if err := checkName("object", object); err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, object, err)
	}
	body, err := encode(record)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, object, err)
	}
	if i := skipSpace(body, 0); i == len(body) || body[i] != '{' {
		return nil, fmt.Errorf("%s %s: record is not a JSON object", op, object)
	}
	return body, nil
}

// encode returns v as JSON. Bytes are taken for JSON and checked.
func encode(v any) ([]byte, error) {
	var raw []byte
	switch v := v.(type) {
	case json.RawMessage:
		raw = v
	case []byte:
		raw = v
	default:
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
		return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
	}
	if !validJSON(raw) {
		return nil, errSyntax
	}
	return raw, nil
}
