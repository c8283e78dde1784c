package runner

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

const (
	// callFlushEvery is how long a call waits at most to be saved with others;
	// callFlushSize of failed ones do not wait.
	callFlushEvery = time.Second
	callFlushSize  = 500

	// maxHeldCalls and maxHeldCounts bound what waits to be saved while the
	// database is slow or away. What comes on top is dropped, and counted.
	maxHeldCalls  = 4 * callFlushSize
	maxHeldCounts = 20_000

	// maxCallText bounds a body or message, in bytes; maxCallCode a code.
	maxCallText = 2 << 10
	maxCallCode = 100

	// callPruneEvery is how often each process removes what is too old, in
	// batches of callPruneBatch rows.
	callPruneEvery = 20 * time.Minute
	callPruneBatch = 2000
)

// callLog collects what calls to Salesforce came to, off the path of who made
// them, and saves it in batches. Until it runs it only holds a bounded number.
type callLog struct {
	store        store.Calls
	logger       *slog.Logger
	keep, counts time.Duration // retention of details and of counts; -1 keeps none

	begun, full chan struct{} // hold one: something waits, much waits

	mu      sync.Mutex // protects what follows
	counted map[callCountKey]int64
	failed  []store.FailedCall
	tokens  []store.TokenCall
	dropped int64
}

type callCountKey struct {
	org  sfapi.OrgID
	hour int64 // Unix time in hours
	code string
}

func newCallLog(s store.Calls, logger *slog.Logger, keep, counts time.Duration) *callLog {
	return &callLog{
		store: s, logger: logger, keep: keep, counts: counts,
		begun: make(chan struct{}, 1), full: make(chan struct{}, 1),
		counted: make(map[callCountKey]int64),
	}
}

type jobIDKey struct{}

// withJob marks the calls that a job makes as its own.
func withJob(ctx context.Context, id int64) context.Context {
	return context.WithValue(ctx, jobIDKey{}, id)
}

// jobOf returns the id of the job that makes a call, 0 when none does.
func jobOf(ctx context.Context) int64 {
	id, _ := ctx.Value(jobIDKey{}).(int64)
	return id
}

// called takes in a call that was made. A call that its own caller gave up says
// nothing of the org.
func (l *callLog) called(ctx context.Context, c *sfapi.Call) {
	switch {
	case c.Err == nil:
		l.add(c.Org, time.Now(), "", nil, nil)
		return
	case errors.Is(c.Err, context.Canceled) && ctx.Err() != nil:
		return
	}
	now := time.Now()
	f := store.FailedCall{
		At: now.Add(-c.Duration).UTC(), Org: c.Org, UserID: c.UserID, JobID: jobOf(ctx), Op: c.Op,
		Method: c.Method, Path: cutText(c.Path, maxCallText), Status: c.Status, Kind: c.Kind.String(),
	}
	f.Code, f.Message = codeOf(c.Err)
	if e, ok := errors.AsType[*sfapi.Error](c.Err); ok {
		f.RequestID, f.Body = cutText(e.RequestID, maxCallCode), cutText(string(e.Body), maxCallText)
	}
	l.add(c.Org, now, f.Code, &f, nil)
}

// rowsRefused takes in that a call was answered with success, and all its rows
// refused for a cause of the org's. The call itself was taken in before.
func (l *callLog) rowsRefused(ctx context.Context, org sfapi.OrgID, err error) {
	e, ok := errors.AsType[*sfapi.Error](err)
	if !ok {
		return
	}
	now := time.Now()
	f := store.FailedCall{
		At: now.UTC(), Org: org, JobID: jobOf(ctx), Op: e.Op, Method: e.Method, Path: e.Path,
		Status: e.Status, Kind: e.Kind.String(),
	}
	f.Code, f.Message = codeOf(e)
	l.add(org, now, f.Code, &f, nil)
}

// refreshed takes in a token request that was made: token.Config.OnCall.
func (l *callLog) refreshed(_ context.Context, c *token.Call) {
	t := store.TokenCall{
		At: c.At.UTC(), Org: c.Org, UserID: c.UserID, Generation: c.Generation,
		Reason: string(c.Reason), Outcome: store.TokenIssued, Took: c.Took,
	}
	if c.Err != nil {
		t.Outcome = sfapi.KindOf(c.Err).String()
		t.Code, t.Message = codeOf(c.Err)
	}
	l.add(c.Org, c.At.Add(c.Took), t.Code, nil, &t)
}

// codeOf returns what an error is counted as, Salesforce's code or else our
// kind, and its message.
func codeOf(err error) (code, message string) {
	e, ok := errors.AsType[*sfapi.Error](err)
	if !ok {
		return sfapi.KindOf(err).String(), cutText(sfapi.Redact(err.Error()), maxCallText)
	}
	code, message = e.Code, e.Message
	if code == "" {
		code = e.Kind.String()
	}
	if message == "" && e.Err != nil {
		message = sfapi.Redact(e.Err.Error())
	}
	return cutText(code, maxCallCode), cutText(message, maxCallText)
}

// cutText cuts a text to size, between characters.
func cutText(s string, size int) string {
	if len(s) <= size {
		return s
	}
	return strings.ToValidUTF8(s[:size], "")
}

// add never waits for more than the copying of a few words.
func (l *callLog) add(org sfapi.OrgID, at time.Time, code string, f *store.FailedCall, t *store.TokenCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts != -1 {
		l.count(callCountKey{org, at.Unix() / 3600, code}, 1)
	}
	if l.keep != -1 && (f != nil || t != nil) {
		switch {
		case len(l.failed)+len(l.tokens) >= maxHeldCalls:
			l.dropped++
		case f != nil:
			l.failed = append(l.failed, *f)
		default:
			l.tokens = append(l.tokens, *t)
		}
	}
	wake(l.begun)
	if len(l.failed)+len(l.tokens) >= callFlushSize {
		wake(l.full)
	}
}

// count adds to one counter; the caller holds mu.
func (l *callLog) count(key callCountKey, n int64) {
	if _, known := l.counted[key]; !known && len(l.counted) >= maxHeldCounts {
		l.dropped++
		return
	}
	l.counted[key] += n
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run saves what was collected, until ctx ends. While no calls are made it does
// nothing at all.
func (l *callLog) run(ctx context.Context) {
	for {
		select {
		case <-l.begun:
		case <-ctx.Done():
			return
		}
		t := time.NewTimer(callFlushEvery)
		select {
		case <-t.C:
		case <-l.full:
		case <-ctx.Done():
			t.Stop()
			return // whoever stops us flushes
		}
		t.Stop()
		if err := l.flush(ctx); err != nil {
			l.logger.WarnContext(ctx, "save calls", "error", err)
			if !sleep(ctx, callFlushEvery) {
				return
			}
		}
	}
}

// flush saves what was collected. What could not be saved is kept for the next
// time, as far as there is room.
func (l *callLog) flush(ctx context.Context) error {
	l.mu.Lock()
	counted, failed, tokens, dropped := l.counted, l.failed, l.tokens, l.dropped
	l.counted, l.failed, l.tokens, l.dropped = make(map[callCountKey]int64), nil, nil, 0
	l.mu.Unlock()
	if dropped > 0 {
		l.logger.WarnContext(ctx, "calls came faster than they could be saved", "dropped", dropped)
	}
	if len(counted)+len(failed)+len(tokens) == 0 {
		return nil
	}
	batch := &store.CallBatch{Failed: failed, Tokens: tokens}
	for key, n := range counted {
		batch.Counts = append(batch.Counts, store.CallCount{
			Org: key.org, Hour: time.Unix(key.hour*3600, 0).UTC(), Code: key.code, Calls: n,
		})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	err := l.store.SaveCalls(ctx, batch)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, n := range counted {
		l.count(key, n)
	}
	if room := maxHeldCalls - len(l.failed) - len(l.tokens); len(failed)+len(tokens) <= room {
		l.failed, l.tokens = append(failed, l.failed...), append(tokens, l.tokens...)
	} else {
		l.dropped += int64(len(failed) + len(tokens))
	}
	wake(l.begun)
	return err
}

// prune removes what is older than it is kept, until ctx ends.
func (l *callLog) prune(ctx context.Context) {
	before := func(keep time.Duration) time.Time {
		return time.Now().Add(-max(keep, 0)) // -1: nothing is kept, what was there goes
	}
	for sleep(ctx, callPruneEvery/2+rand.N(callPruneEvery)) {
		for more := true; more; {
			var err error
			more, err = l.store.PruneCalls(ctx, before(l.keep), before(l.counts), callPruneBatch)
			if err != nil && ctx.Err() == nil {
				l.logger.ErrorContext(ctx, "remove old calls", "error", err)
			}
		}
	}
}
