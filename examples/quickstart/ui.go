package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"riverqueue.com/riverui"
)

// serveUI serves River UI until ctx ends.
func (d *demo) serveUI(ctx context.Context) error {
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(d.runner.River(), nil),
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Prefix:    "/riverui",
	})
	if err != nil {
		return err
	}
	if err := ui.Start(ctx); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/riverui/", ui)
	mux.Handle("/", http.RedirectHandler("/riverui/", http.StatusFound))
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", d.serve)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	d.printf("River UI: http://%s/riverui/ (Ctrl-C ends)\n", ln.Addr())
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(stop)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
