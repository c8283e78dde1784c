//go:build unix

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user that a server runs as. Nil means the caller's own.
type account struct{ uid, gid int }

// serverAccount returns nil for any user but root, whom PostgreSQL refuses.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("read ids of user %s: %w", name, err)
		}
		return &account{uid: uid, gid: gid}, nil
	}
	return nil, fmt.Errorf("find a user other than root to run PostgreSQL: %w", errors.Join(errs...))
}

// other reports whether the account is not the caller's own.
func (a *account) other() bool { return a != nil }

// own gives the files to the account.
func (a *account) own(paths ...string) error {
	if a == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, a.uid, a.gid); err != nil {
			return err
		}
	}
	return nil
}

// process returns the attributes of a process of the account that is in a
// session of its own, so that a terminal's interrupt does not reach it: it has
// to outlive its owner for long enough to tidy up.
func (a *account) process() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}
