//go:build !unix

package cluster

import (
	"errors"
	"syscall"
)

// account stands for the user that a server runs as on Unix.
type account struct{}

func serverAccount() (*account, error) {
	return nil, errors.New("a throwaway PostgreSQL needs a Unix system: set TEST_DATABASE_URL to a server of your own")
}

func (*account) other() bool                   { return false }
func (*account) own(...string) error           { return nil }
func (*account) process() *syscall.SysProcAttr { return nil }
