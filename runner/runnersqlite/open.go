package runnersqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Open opens the SQLite database at path, and makes the file when there is
// none; ":memory:" is a database that lives as long as the pool. The caller
// closes the pool after the Runner has stopped.
//
// The pool has one connection, as River advises: SQLite lets one writer in at
// a time, and a second connection would only meet SQLITE_BUSY. So code that
// holds a transaction must not use the pool until it has ended.
//
// The settings: journal_mode WAL, and synchronous NORMAL, which in WAL mode
// can lose the newest commits in a power cut but never corrupts the file, for
// River's own bookkeeping (jobs run at least once anyway); what Weir promises
// is committed with FULL, whatever this says. busy_timeout of ten seconds, for
// other programs that look into the file. Transactions take the write lock
// when they begin: one that reads first and writes later could not wait for it.
func Open(path string) (*sql.DB, error) {
	dsn, err := dataSource(path)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", path, err)
	}
	pool, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", path, err)
	}
	pool.SetMaxOpenConns(1)
	// A ":memory:" database ends with its connection.
	pool.SetMaxIdleConns(1)
	pool.SetConnMaxIdleTime(0)
	pool.SetConnMaxLifetime(0)
	if err := pool.PingContext(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %q: %w", path, err), pool.Close())
	}
	return pool, nil
}

func dataSource(path string) (string, error) {
	settings := url.Values{
		"_busy_timeout": {"10000"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"NORMAL"},
		"_foreign_keys": {"on"},
		"_txlock":       {"immediate"},
	}.Encode()
	switch path {
	case "":
		return "", errors.New("path is empty")
	case ":memory:":
		return "file::memory:?" + settings, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	slashed := filepath.ToSlash(abs)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // C:/… is file:///C:/…
	}
	// A URI, for a plain name would end at its first question mark.
	u := url.URL{Scheme: "file", Path: slashed, RawQuery: settings}
	return u.String(), nil
}
