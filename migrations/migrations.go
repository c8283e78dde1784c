// Package migrations holds the versions of Weir's own tables, for each database
// it runs on. The tables' names begin with weir_ and carry no schema. River's
// tables are River's to migrate (package rivermigrate), and mirror tables are
// made from what Salesforce describes.
//
// A migration that was released is never edited: a change is a new one.
package migrations

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"sync"
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// Table is the table that records which migrations a database has, a row each.
const Table = "weir_migration"

// Migration is one version of the tables. Up and Down are lists of statements
// that run in one transaction.
type Migration struct {
	Version  int // from 1, without gaps
	Name     string
	Up, Down string
}

var (
	postgres = sync.OnceValue(func() []Migration { return load("postgres") })
	sqlite   = sync.OnceValue(func() []Migration { return load("sqlite") })
)

// Postgres returns the migrations for PostgreSQL, oldest first. The caller must
// not change them.
func Postgres() []Migration { return postgres() }

// SQLite returns the migrations for SQLite, oldest first. The caller must not
// change them.
func SQLite() []Migration { return sqlite() }

// Steps returns what takes a database from the versions it has to version:
// the migrations to run up, oldest first, or the ones to run down, newest
// first. Version -1 is the newest, and then a database that is newer still,
// as a process of the release before meets it during a deploy, needs nothing.
func Steps(all []Migration, has, version int) (up, down []Migration, err error) {
	newest := len(all)
	switch {
	case version == -1:
		if has < newest {
			up = all[has:]
		}
		return up, nil, nil
	case version < 0 || version > newest:
		return nil, nil, fmt.Errorf("there is no version %d, the newest is %d", version, newest)
	case has > newest:
		return nil, nil, fmt.Errorf("the database has version %d, this program knows only %d: use the newer program to go down", has, newest)
	case has < version:
		return nil, nil, fmt.Errorf("the database has version %d, below %d", has, version)
	}
	for i := has; i > version; i-- {
		down = append(down, all[i-1])
	}
	return nil, down, nil
}

var upName = regexp.MustCompile(`^([0-9]{3})_([a-z0-9_]+)\.up\.sql$`)

// load panics on files that do not fit: they are part of the program.
func load(dialect string) []Migration {
	entries, err := fs.ReadDir(files, dialect)
	if err != nil {
		panic(fmt.Sprintf("migrations: %v", err))
	}
	var all []Migration
	for _, e := range entries {
		m := upName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		version, err := strconv.Atoi(m[1])
		if err != nil || version != len(all)+1 {
			panic(fmt.Sprintf("migrations: %s/%s does not follow version %d", dialect, e.Name(), len(all)))
		}
		all = append(all, Migration{
			Version: version,
			Name:    m[2],
			Up:      read(dialect + "/" + e.Name()),
			Down:    read(fmt.Sprintf("%s/%s_%s.down.sql", dialect, m[1], m[2])),
		})
	}
	return all
}

func read(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(fmt.Sprintf("migrations: %v", err))
	}
	return string(b)
}
