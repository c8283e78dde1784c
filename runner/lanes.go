package runner

import (
	"context"
	"slices"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/jobs"
)

// laneInsert puts every job with LaneArgs into its org's lane, however it is
// inserted: through the Runner or through its River client.
type laneInsert struct {
	river.MiddlewareDefaults
}

var _ rivertype.JobInsertMiddleware = (*laneInsert)(nil)

// InsertMany implements rivertype.JobInsertMiddleware.
func (*laneInsert) InsertMany(ctx context.Context, many []*rivertype.JobInsertParams, doInner func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	for _, p := range many {
		args, ok := p.Args.(jobs.LaneArgs)
		if !ok {
			continue
		}
		org, err := checkLaneArgs(args, p.EncodedArgs)
		if err != nil {
			return nil, err
		}
		p.Queue = args.Lane().Queue(org)
		if tag := string(org); !slices.Contains(p.Tags, tag) {
			p.Tags = append(slices.Clone(p.Tags), tag)
		}
	}
	return doInner(ctx)
}
