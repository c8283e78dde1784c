// Command sftestd runs a simulated Salesforce as a process of its own, with a
// JSON control API under /_sim/, so that tests can drive it from other
// processes.
//
//	sftestd -listen 127.0.0.1:8765
//
// The first line it prints is its base URL. It ends on SIGINT and SIGTERM. See
// the package's control.go for the calls of the control API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sftestd:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "loopback address to listen on")
	flag.Parse()
	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		return fmt.Errorf("parse -listen: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("-listen %s is not a loopback address", *listen)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	l, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	base := "http://" + l.Addr().String()
	c := newControl(base)
	defer c.close()
	srv := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	fmt.Println(base)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		if err := srv.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newControl makes the simulator and its control API.
func newControl(base string) *control {
	c := &control{sim: sftest.New(&sftest.Config{BaseURL: base}), injected: map[int]*sftest.Injected{}}
	c.routes()
	return c
}
