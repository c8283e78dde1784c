package cluster

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"
)

// outagePoll is how often an outage is looked for.
const outagePoll = 10 * time.Millisecond

// Stop ends the server as a crash does, and returns when it answers no more.
// What was committed is there again after Restart.
func (c *Cluster) Stop(ctx context.Context) error { return c.tell(ctx, "stop", false) }

// Restart starts the stopped server on its files and port, and returns when it
// takes connections; the first queries may still meet its recovery.
func (c *Cluster) Restart(ctx context.Context) error { return c.tell(ctx, "start", true) }

func (c *Cluster) tell(ctx context.Context, what string, listens bool) error {
	address, err := url.Parse(c.url)
	if err != nil {
		return err
	}
	if _, err := c.pipe.WriteString(what + "\n"); err != nil {
		return fmt.Errorf("%s PostgreSQL: %w", what, err)
	}
	poll := time.NewTicker(outagePoll)
	defer poll.Stop()
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address.Host)
		if err == nil {
			_ = conn.Close()
		}
		if ctx.Err() == nil && (err == nil) == listens {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%s PostgreSQL: %w", what, context.Cause(ctx))
		}
	}
}
