package token

import "context"

// NewPacer returns the wait of a pacer.
func NewPacer(rate float64) func(context.Context) error { return newPacer(rate).wait }
