package migrations_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/migrations"
)

// Both databases have the same versions under the same names.
func TestDialectsAgree(t *testing.T) {
	t.Parallel()
	names := func(all []migrations.Migration) (list []string) {
		for i, m := range all {
			if m.Version != i+1 || m.Up == "" || m.Down == "" {
				t.Errorf("migration %d %s is out of order or empty", m.Version, m.Name)
			}
			list = append(list, m.Name)
		}
		return list
	}
	if d := cmp.Diff(names(migrations.Postgres()), names(migrations.SQLite())); d != "" {
		t.Errorf("postgres and sqlite differ (-postgres +sqlite):\n%s", d)
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	all := []migrations.Migration{{Version: 1}, {Version: 2}, {Version: 3}}
	for name, test := range map[string]struct {
		has, version int
		up, down     []migrations.Migration
		fails        bool
	}{
		"empty to newest":           {has: 0, version: -1, up: all},
		"some to newest":            {has: 2, version: -1, up: all[2:]},
		"newest already":            {has: 3, version: -1},
		"newer than this program":   {has: 4, version: -1},
		"down to some":              {has: 3, version: 1, down: []migrations.Migration{all[2], all[1]}},
		"down to none":              {has: 1, version: 0, down: all[:1]},
		"down to where it is":       {has: 2, version: 2},
		"down to above where it is": {has: 1, version: 2, fails: true},
		"down to no version":        {has: 3, version: 4, fails: true},
		"down from an unknown one":  {has: 4, version: 0, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up, down, err := migrations.Steps(all, test.has, test.version)
			if (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
			if d := cmp.Diff(test.up, up); d != "" {
				t.Errorf("up (-want +got):\n%s", d)
			}
			if d := cmp.Diff(test.down, down); d != "" {
				t.Errorf("down (-want +got):\n%s", d)
			}
		})
	}
}
