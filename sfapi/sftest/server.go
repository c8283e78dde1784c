package sftest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a simulator behind a real listener on a loopback address. Its
// BaseURL is the login URL and, unless Listen gave an org an address of its own,
// every org's instance URL.
type Server struct {
	*Sim
	// URL is the base URL, without a slash at the end.
	URL string

	mu      sync.Mutex
	servers []*http.Server
	running sync.WaitGroup
}

// NewServer starts a simulator on a free loopback port. Close it when done.
func NewServer(config *Config) (*Server, error) { return Listen("127.0.0.1:0", config) }

// Listen starts a simulator on an address, which should be a loopback one: the
// simulator has no secrets and no mercy.
func Listen(addr string, config *Config) (*Server, error) {
	s := &Server{Sim: New(config)}
	url, err := s.listen(addr, s.Sim)
	if err != nil {
		return nil, err
	}
	s.URL = url
	s.SetBaseURL(url)
	return s, nil
}

// ListenFor gives an org a listener, and so an instance URL, of its own.
func (s *Server) ListenFor(o *Org) (instanceURL string, err error) {
	url, err := s.listen("127.0.0.1:0", s.Sim)
	if err != nil {
		return "", err
	}
	o.SetInstanceURL(url)
	return url, nil
}

// NewAddress opens one more listener, which no org uses yet: MoveInstance can
// move one there.
func (s *Server) NewAddress() (url string, err error) { return s.listen("127.0.0.1:0", s.Sim) }

func (s *Server) listen(addr string, h http.Handler) (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 1 << 20}
	s.mu.Lock()
	s.servers = append(s.servers, srv)
	s.mu.Unlock()
	s.running.Go(func() {
		// Serve always returns an error; after Close it is ErrServerClosed.
		_ = srv.Serve(l)
	})
	return "http://" + l.Addr().String(), nil
}

// Close ends every listener and connection and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		// Calls under way get a moment; then their connections are closed.
		if srv.Shutdown(ctx) != nil {
			errs = append(errs, srv.Close())
		}
		cancel()
	}
	s.running.Wait()
	return errors.Join(errs...)
}
