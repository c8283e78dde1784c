package runner

import (
	"context"
	"encoding/json"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/tidwall/gjson"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceInsert hands the trace of whoever enqueues on to the job, in its
// metadata, as https://www.w3.org/TR/trace-context/ has it: traceparent and
// tracestate.
type traceInsert struct {
	river.MiddlewareDefaults

	telemetry *telemetry
}

var _ rivertype.JobInsertMiddleware = (*traceInsert)(nil)

// InsertMany implements rivertype.JobInsertMiddleware.
func (m *traceInsert) InsertMany(ctx context.Context, many []*rivertype.JobInsertParams, doInner func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	name := "enqueue"
	if len(many) > 0 {
		name += " " + many[0].Kind
	}
	ctx, span := m.telemetry.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("messaging.batch.message_count", len(many)))
	}
	if carrier := injectTrace(ctx); carrier != nil {
		for _, p := range many {
			p.Metadata = withTrace(p.Metadata, carrier)
		}
	}
	return doInner(ctx)
}

// injectTrace returns what a job's metadata hold of the trace, nil without one.
func injectTrace(ctx context.Context) propagation.MapCarrier {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier
}

// withTrace adds it. Metadata that are no object stay as they are: River will
// say what is wrong with them.
func withTrace(metadata []byte, carrier propagation.MapCarrier) []byte {
	all := make(map[string]json.RawMessage)
	if len(metadata) > 0 && json.Unmarshal(metadata, &all) != nil {
		return metadata
	}
	for key, value := range carrier {
		text, err := json.Marshal(value)
		if err != nil {
			return metadata
		}
		all[key] = text
	}
	out, err := json.Marshal(all)
	if err != nil {
		return metadata
	}
	return out
}

// extractTrace puts a job's run below the span that enqueued it.
func extractTrace(ctx context.Context, metadata []byte) context.Context {
	parent := gjson.GetBytes(metadata, "traceparent").String()
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{
		"traceparent": parent, "tracestate": gjson.GetBytes(metadata, "tracestate").String(),
	})
}
