package runner_test

import (
	"errors"
	"math"
	"testing"

	"github.com/weirhq/weir/runner"
)

func TestBudgetConfig(t *testing.T) {
	t.Parallel()
	f := sqliteFixture(t)
	for _, tt := range []struct {
		api, write float64
		field      string
	}{
		{0, 0, ""}, {-1, -1, ""}, {0.5, 0.4, ""},
		{1, 0, "APIReserve"}, {-0.5, 0, "APIReserve"}, {math.NaN(), 0, "APIReserve"},
		{0, 1.5, "WriteReserve"}, {0.6, 0.4, "WriteReserve"},
	} {
		cfg := f.config(t)
		cfg.APIReserve, cfg.WriteReserve = tt.api, tt.write
		_, err := runner.New(f.driver, cfg)
		var bad *runner.ConfigError
		if errors.As(err, &bad) != (tt.field != "") || bad != nil && bad.Field != tt.field {
			t.Errorf("reserves %g and %g: %v, want field %q", tt.api, tt.write, err, tt.field)
		}
	}
}
