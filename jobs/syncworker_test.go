package jobs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirhq/weir/jobs"
)

// The cursor never passes a row that may have changed after the query began.
func TestAdvance(t *testing.T) {
	t.Parallel()
	at := func(second int, id string) jobs.Cursor {
		return jobs.Cursor{Stamp: time.Date(2026, 3, 1, 0, 0, second, 0, time.UTC), ID: id}
	}
	began := at(30, "").Stamp
	for name, c := range map[string]struct {
		from jobs.Cursor
		rows []jobs.Cursor
		want jobs.Cursor
	}{
		"nothing":                          {from: at(1, "a"), want: at(1, "a")},
		"rows in order":                    {rows: []jobs.Cursor{at(1, "a"), at(1, "b"), at(2, "a")}, want: at(2, "a")},
		"a row that changed meanwhile":     {rows: []jobs.Cursor{at(1, "a"), at(31, "b"), at(2, "c")}, want: at(2, "c")},
		"one of the second it began in":    {rows: []jobs.Cursor{at(1, "a"), at(30, "b")}, want: at(1, "a")},
		"an older row does not move back":  {from: at(9, "b"), rows: []jobs.Cursor{at(8, "z"), at(9, "a")}, want: at(9, "b")},
		"ids of 15 and 18 characters":      {from: at(9, "003000000000002AAA"), rows: []jobs.Cursor{at(9, "003000000000002")}, want: at(9, "003000000000002AAA")},
		"upper case comes before lower":    {from: at(9, "a"), rows: []jobs.Cursor{at(9, "B")}, want: at(9, "a")},
		"all rows changed since":           {rows: []jobs.Cursor{at(31, "a"), at(32, "b")}},
		"the first page of a run, in past": {rows: []jobs.Cursor{at(0, "a")}, want: at(0, "a")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rows []jobs.Row
			for _, r := range c.rows {
				rows = append(rows, jobs.NewRow(r))
			}
			if got := jobs.Advance(c.from, rows, began); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// An answer's Date says when it was sent. The query ran before that.
func TestQueryBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := time.Now()
		time.Sleep(90 * time.Second)
		if got := jobs.QueryBegan(time.Now(), asked); !got.Equal(asked) {
			t.Errorf("began %v, asked %v", got, asked)
		}
		ahead := time.Now().Add(time.Hour + 300*time.Millisecond) // the server's clock
		if got := jobs.QueryBegan(ahead, asked); !got.Equal(asked.Add(time.Hour)) {
			t.Errorf("began %v by the server's clock, asked %v by ours", got, asked)
		}
		if got := jobs.QueryBegan(time.Time{}, asked); !got.Equal(asked.Add(-5 * time.Minute)) {
			t.Errorf("without a Date: began %v, asked %v", got, asked)
		}
	})
}

func TestNumberKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"12": "12", "12.0": "12", "-0.50": "-1/2", "0": "0", "-0": "0", "007": "7",
		"": "", "1e9999999": "", "0x10": "", "1/3": "", "1) OR (Id != null": "", "٣": "",
	} {
		if got := jobs.NumberKey(key); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}
