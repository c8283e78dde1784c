// Command service is Weir as a service with an HTTP API: it connects orgs,
// syncs their objects into mirror tables, writes records, and tells what it did.
// Its configuration is the environment; README.md says how to start it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// The exit statuses besides 0.
const (
	exitFailed    = 1
	exitBadConfig = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	slog.SetDefault(logger)
	cfg, err := readConfig(os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "service: bad configuration:\n"+err.Error())
		os.Exit(exitBadConfig)
	}
	if err := run(ctx, cfg, logger); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		if errors.Is(err, errBadConfig) {
			os.Exit(exitBadConfig)
		}
		os.Exit(exitFailed)
	}
}
