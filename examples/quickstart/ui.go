package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"riverqueue.com/riverui"
)

// serveUI serves River UI until ctx ends, with the org held for maintenance.
func (d *demo) serveUI(ctx context.Context) error {
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(d.runner.River(), nil),
		Logger:    d.logger(),
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
	err = d.showHeldOrg(ctx, "http://"+ln.Addr().String()+"/riverui")
	if err == nil {
		<-ctx.Done()
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, server.Shutdown(stop))
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
