package runner

import (
	"context"
	"log/slog"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// MaxHeldCalls is exported for tests, as what follows.
const MaxHeldCalls = maxHeldCalls

// CallFlushSize is callFlushSize.
const CallFlushSize = callFlushSize

type CallLog struct{ log *callLog }

func NewCallLog(s store.Calls, logger *slog.Logger, keep, counts time.Duration) CallLog {
	return CallLog{newCallLog(s, logger, keep, counts)}
}

func (l CallLog) Called(ctx context.Context, c *sfapi.Call) { l.log.called(ctx, c) }
func (l CallLog) Run(ctx context.Context)                   { l.log.run(ctx) }
func (l CallLog) Prune(ctx context.Context)                 { l.log.prune(ctx) }
func (l CallLog) Flush(ctx context.Context) error           { return l.log.flush(ctx) }
