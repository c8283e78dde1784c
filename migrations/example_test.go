package migrations_test

import (
	"fmt"

	"github.com/weirhq/weir/migrations"
)

// A program that runs its schema changes itself takes the statements from
// here.
func Example() {
	up, _, err := migrations.Steps(migrations.Postgres(), 0, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%03d %s\n", up[0].Version, up[0].Name)
	// Output: 001 initial
}
