package runner

import (
	"cmp"
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/tidwall/gjson"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
)

const (
	// gateTick is how often the gate looks without having been woken: for
	// scheduled jobs that came due and for notifications that were lost.
	gateTick = time.Second

	// gatePause is the least time between two looks.
	gatePause = 2 * time.Millisecond

	// maxAdmitted bounds a run queue over all orgs. What waits in it no longer
	// waits in its lane, so it is kept short; workers must not run dry.
	maxAdmitted = 2000

	// insertTopic is River's notification of an insert. A contract test in the
	// stores pins both.
	insertTopic = "river_insert"

	// controlTopic is that of a queue being paused or resumed, among others.
	controlTopic = "river_control"
)

// gate lets waiting jobs of open lanes into the run queues. Every process has
// one, and one at a time acts.
type gate[TTx any] struct {
	runner *Runner[TTx]
	tick   time.Duration // see gateTick
	wake   chan struct{} // holds one: a look is due

	pressed chan string // lane queues that were paused or resumed

	looked atomic.Int64 // when the last look ended well, Unix nanoseconds
}

func newGate[TTx any](r *Runner[TTx]) *gate[TTx] {
	g := &gate[TTx]{runner: r, tick: cmp.Or(r.gateTick, gateTick), wake: make(chan struct{}, 1), pressed: make(chan string, 256)}
	g.looked.Store(time.Now().UnixNano())
	return g
}

// lag is how long ago the gate looked. Its own pauses are part of it.
func (g *gate[TTx]) lag() time.Duration { return time.Since(time.Unix(0, g.looked.Load())) }

func (g *gate[TTx]) due() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run looks whenever it is due, until ctx ends.
func (g *gate[TTx]) run(ctx context.Context) {
	after := make(map[breaker.Lane]string)
	for {
		more, err := g.look(ctx, after)
		if ctx.Err() != nil {
			return
		}
		pause := gatePause
		if err != nil {
			g.runner.logger.ErrorContext(ctx, "gate", "error", err)
			pause = gateTick
		}
		if !sleep(ctx, pause) {
			return
		}
		if more || err != nil {
			continue
		}
		tick := time.NewTimer(g.tick + rand.N(g.tick/4))
		select {
		case <-g.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
		tick.Stop()
	}
}

// look lets through what the windows allow, and reports whether there may be
// more right now.
func (g *gate[TTx]) look(ctx context.Context, after map[breaker.Lane]string) (more bool, err error) {
	cfg := g.runner.config
	windows := map[breaker.Lane]int{breaker.Sync: cfg.SyncWindow, breaker.Write: cfg.WriteWindow}
	for _, lane := range breaker.AllLanes() {
		a, err := g.runner.store.Admit(ctx, &store.AdmitParams{
			Lane: lane, Window: windows[lane], Max: maxAdmitted, After: after[lane],
		})
		if err != nil {
			return false, err
		}
		if a.After != "" {
			after[lane] = a.After
		}
		// Who is at the gate may have looked before what woke us was there.
		more = more || a.Jobs > 0 || a.Busy
	}
	g.looked.Store(time.Now().UnixNano())
	return more, nil
}

// listen wakes the gate when a job is inserted into a lane, by any process.
//
// With River's PollOnly, for databases behind a pooler that cannot LISTEN, the
// gate looks at each tick only.
func (g *gate[TTx]) listen(ctx context.Context) {
	if rc := g.runner.config.River; rc != nil && rc.PollOnly {
		return
	}
	for ctx.Err() == nil {
		l := g.runner.store.Driver().GetListener(&riverdriver.GetListenenerParams{})
		if err := g.listenOn(ctx, l); err != nil && ctx.Err() == nil {
			g.runner.logger.WarnContext(ctx, "gate listens again", "error", err)
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		_ = l.Close(closing) // the connection is gone either way
		cancel()
		sleep(ctx, gateTick)
	}
}

func (g *gate[TTx]) listenOn(ctx context.Context, l riverdriver.Listener) error {
	if err := l.Connect(ctx); err != nil {
		return err
	}
	for _, topic := range []string{insertTopic, controlTopic} {
		if err := l.Listen(ctx, topic); err != nil {
			return err
		}
	}
	g.due()
	for {
		n, err := l.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		queue := gjson.Get(n.Payload, "queue").String()
		if !isLane(queue) {
			continue
		}
		g.due()
		if action := gjson.Get(n.Payload, "action").String(); action == "pause" || action == "resume" {
			select {
			case g.pressed <- queue:
			default: // many at once: the next comparison of all sees them
			}
		}
	}
}

func isLane(queue string) bool {
	_, _, ok := breaker.ParseQueue(queue)
	return ok && strings.HasPrefix(queue, "sf_")
}

// watchFinished wakes the gate when a lane job of this process is done with,
// and recorded so: its place in the window is free.
func (g *gate[TTx]) watchFinished(ctx context.Context) {
	events, cancel := g.runner.river.Subscribe(
		river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobSnoozed,
		river.EventKindJobCancelled, river.EventKindJobInterrupted,
	)
	defer cancel()
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			if e.Job != nil && strings.HasPrefix(e.Job.Queue, "sf_") {
				g.due()
			}
		case <-ctx.Done():
			return
		}
	}
}

// sleep waits, and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
