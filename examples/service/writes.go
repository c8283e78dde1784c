package main

import (
	"context"
	stdjson "encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// maxRecords bounds one write.
const maxRecords = 10_000

func (a *api[TTx]) addWrite(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	var body struct {
		Object     string           `json:"object"`
		Operation  sfapi.Operation  `json:"operation"`
		ExternalID string           `json:"external_id"`
		Records    []jsontext.Value `json:"records"`
	}
	if err := decodeBody(r, maxWriteBytes, false, &body); err != nil {
		return err
	}
	if len(body.Records) > maxRecords {
		return &problem{
			status: http.StatusRequestEntityTooLarge, Code: "too_large", Field: "records",
			Message: fmt.Sprintf("records: %d of them, a write takes %d", len(body.Records), maxRecords),
		}
	}
	key, given := r.Header["Idempotency-Key"]
	if given && (len(key) != 1 || key[0] == "") {
		return badField("Idempotency-Key", "must be one value that is not empty")
	}
	records := make([]stdjson.RawMessage, len(body.Records))
	for i, record := range body.Records {
		records[i] = stdjson.RawMessage(record)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), longTimeout)
	defer cancel()
	receipt, err := a.runner.Write(ctx, &jobs.Write{
		Org: id, Object: body.Object, Operation: body.Operation, ExternalID: body.ExternalID,
		Records: records, IdempotencyKey: r.Header.Get("Idempotency-Key"),
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, map[string]int64{"write_id": receipt.ID, "accepted": int64(receipt.Accepted)})
	return nil
}

// writeStatuses are what records can be asked for by.
var writeStatuses = []jobs.WriteStatus{
	jobs.WritePending, jobs.WriteSent, jobs.WriteDone, jobs.WriteFailed, jobs.WriteUnknown, jobs.WriteCancelled,
}

type recordBody struct {
	Index  int              `json:"index"`
	Key    *string          `json:"key"`
	Status jobs.WriteStatus `json:"status"`
	ID     *string          `json:"id"`
	Error  *recordError     `json:"error"`
}

type recordError struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Fields  []string `json:"fields"`
}

func newRecordBody(row *jobs.WriteRow) recordBody {
	body := recordBody{Index: row.Index, Key: orNull(row.Key), Status: row.Status, ID: orNull(row.SalesforceID)}
	if row.ErrorCode != "" || row.ErrorMessage != "" {
		body.Error = &recordError{row.ErrorCode, row.ErrorMessage, row.ErrorFields}
		if body.Error.Fields == nil {
			body.Error.Fields = []string{}
		}
	}
	return body
}

const (
	defaultRecordPage = 200
	maxRecordPage     = 2000
)

func (a *api[TTx]) getWrite(w http.ResponseWriter, r *http.Request) error {
	id, err := a.knownOrg(r)
	if err != nil {
		return err
	}
	writeID, err := pathID(r, "write_id", runner.ErrWriteNotFound)
	if err != nil {
		return err
	}
	q := &jobs.WriteQuery{Status: jobs.WriteStatus(r.URL.Query().Get("status"))}
	if q.Status != "" && !slices.Contains(writeStatuses, q.Status) {
		return badField("status", "is none of %v", writeStatuses)
	}
	after, err := queryInt(r, "after", -1, 0, maxRecords)
	if err != nil {
		return err
	}
	limit, err := queryInt(r, "limit", defaultRecordPage, 1, maxRecordPage)
	if err != nil {
		return err
	}
	q.From, q.Limit = int(after)+1, int(limit)
	ctx := r.Context()
	// The counters first: what is seen of the records is then as new.
	counts, err := a.runner.Writes().Counts(ctx, id, writeID)
	if err != nil {
		return err
	}
	rows, err := a.runner.Writes().Records(ctx, id, writeID, q)
	if err != nil {
		return err
	}
	records := make([]recordBody, len(rows))
	for i, row := range rows {
		records[i] = newRecordBody(row)
	}
	var next *int
	if len(rows) == q.Limit {
		last := rows[len(rows)-1].Index
		more, err := a.runner.Writes().Records(ctx, id, writeID, &jobs.WriteQuery{Status: q.Status, From: last + 1, Limit: 1})
		if err != nil {
			return err
		}
		if len(more) > 0 {
			next = &last
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"accepted": counts.Accepted, "pending": counts.Pending, "sent": counts.Sent, "done": counts.Done,
		"failed": counts.Failed, "unknown": counts.Unknown, "cancelled": counts.Cancelled,
		"records": records, "next": next,
	})
	return nil
}

func (a *api[TTx]) retryWrite(w http.ResponseWriter, r *http.Request) error {
	id, err := orgOf(r)
	if err != nil {
		return err
	}
	writeID, err := pathID(r, "write_id", runner.ErrWriteNotFound)
	if err != nil {
		return err
	}
	if err := decodeBody(r, maxBodyBytes, true, &struct{}{}); err != nil {
		return err
	}
	n, err := a.runner.Writes().Retry(r.Context(), id, writeID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, map[string]int64{"write_id": writeID, "retried": int64(n)})
	return nil
}
