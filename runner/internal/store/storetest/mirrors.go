package storetest

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river/riverdriver"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

func text(s string) *string { return &s }

// everyType is a mirror table with a column of each type, and names that need
// quotes.
func everyType() *jobs.MirrorTable {
	return &jobs.MirrorTable{Name: "salesforce_order", Columns: []jobs.MirrorColumn{
		{Name: "group", Field: "Group", Type: jobs.ColumnText},
		{Name: "amount", Field: "Amount", Type: jobs.ColumnNumeric},
		{Name: "is_deleted", Field: "IsDeleted", Type: jobs.ColumnBoolean},
		{Name: "day", Field: "Day", Type: jobs.ColumnDate},
		{Name: "system_modstamp", Field: "SystemModstamp", Type: jobs.ColumnTimestamp},
	}}
}

func (s *suite[TTx]) upsert(t *testing.T, m *jobs.MirrorTable, org sfapi.OrgID, rows ...jobs.MirrorRow) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.UpsertMirrorTx(ctx, tx, m, org, rows) })
}

// mirrored reads a mirror table back as the rows that were put in, in the
// order of org and id.
func (s *suite[TTx]) mirrored(t *testing.T, m *jobs.MirrorTable) (orgs []string, rows []jobs.MirrorRow) {
	t.Helper()
	postgres := s.store.Driver().DatabaseName() == riverdriver.DatabaseNamePostgres
	parts := []string{"org", "id"}
	for _, c := range m.Columns {
		name := `"` + c.Name + `"`
		switch {
		case c.Type == jobs.ColumnTimestamp && postgres:
			parts = append(parts, `to_char(`+name+` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`)
		case c.Type == jobs.ColumnBoolean && !postgres:
			parts = append(parts, `CASE `+name+` WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'bad' || `+name+` END`)
		default:
			parts = append(parts, `CAST(`+name+` AS text)`)
		}
	}
	list, group := `json_array(`, `json_group_array(json(r))`
	if postgres {
		list, group = `json_build_array(`, `coalesce(json_agg(r), '[]')`
	}
	query := `SELECT CAST(` + group + ` AS text) FROM (SELECT ` + list + strings.Join(parts, ", ") + `) AS r FROM "` + m.Name + `" ORDER BY org, id) AS o`
	var raw string
	must(t, s.exec.QueryRow(t.Context(), query).Scan(&raw))
	var got [][]*string
	decode(t, []byte(raw), &got)
	for _, r := range got {
		orgs = append(orgs, *r[0])
		rows = append(rows, jobs.MirrorRow{ID: *r[1], Values: r[2:]})
	}
	return orgs, rows
}

// sameNumber compares texts, and numbers by their exact value.
var sameNumber = cmp.Comparer(func(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
})

func testMirrorTypes[TTx any](t *testing.T, s *suite[TTx]) {
	m := everyType()
	must(t, s.store.EnsureMirror(t.Context(), m))
	must(t, s.store.EnsureMirror(t.Context(), m))
	s.upsert(t, m, riverOrg(1))

	stamp := text("2026-02-28T23:59:59.123Z")
	numbers := []string{
		"0", "-0.0", "1", "-17", "1.50", "0.1", "100.0", "350000000.0", "12345678901234567890.12", "9223372036854775807", "9223372036854775808",
		"-9223372036854775809", "123456789012345", "1234567890123456.7", "0.000000000000000001", "1E5", "1.5e-7", "999999999999999.9", "0.30000000000000004",
	}
	texts := []string{"", " ", "null", "Ångström 😀 e\u0301", "a\r\nb\nc\rd", `"quoted", 'it''s' \ {x} $1 ?1 %`, "\u0001\u007f\u2028", strings.Repeat("x", 131072)}
	var want []jobs.MirrorRow
	add := func(values ...*string) {
		want = append(want, jobs.MirrorRow{ID: fmt.Sprintf("801%015d", len(want)), Values: values})
	}
	for i := range numbers {
		add(text("n"), &numbers[i], text("true"), text("2026-02-28"), stamp)
	}
	for i := range texts {
		add(&texts[i], nil, text("false"), text("1700-01-01"), text("1700-01-01T00:00:00.000Z"))
	}
	add(nil, nil, nil, text("4000-12-31"), text("2026-03-01T00:00:00.000Z"))
	add(nil, nil, nil, nil, nil)
	s.upsert(t, m, riverOrg(1), want...)
	_, got := s.mirrored(t, m)
	diffAt(t, "rows", got, want, sameNumber)

	// Again with other values, for this org alone.
	s.upsert(t, m, riverOrg(2), want[0])
	want[0].Values = []*string{nil, text("2"), text("false"), nil, text("2026-03-01T00:00:00.000Z")}
	added := jobs.MirrorRow{ID: "801999999999999AAA", Values: []*string{text("new"), nil, nil, nil, nil}}
	// An offset, and no fraction: the same instant.
	added.Values[4] = text("2026-03-01T02:00:00+02:00")
	s.upsert(t, m, riverOrg(1), want[0], added)
	added.Values[4] = text("2026-03-01T00:00:00.000Z")
	orgs, got := s.mirrored(t, m)
	diffAt(t, "rows of the org", got[:len(got)-1], append(want, added), sameNumber)
	if last := len(got) - 1; orgs[last] != string(riverOrg(2)) || *got[last].Values[1] != "0" {
		t.Errorf("another org's row became %v of %s", got[last], orgs[last])
	}

	var between int
	must(t, s.exec.QueryRow(t.Context(), `SELECT count(*) FROM salesforce_order WHERE amount > 99 AND amount < 1000 OR amount > 0.05 AND amount < 0.2`).Scan(&between))
	if between != 2 {
		t.Errorf("%d numbers are like 100 or like 0.1, want 2", between)
	}
}

func testMirrorColumns[TTx any](t *testing.T, s *suite[TTx]) {
	m := everyType()
	all := m.Columns
	m.Columns = all[:2]
	must(t, s.store.EnsureMirror(t.Context(), m))
	s.upsert(t, m, riverOrg(1), jobs.MirrorRow{ID: "1", Values: []*string{text("x"), text("1")}})
	m.Columns = all[1:]
	must(t, s.store.EnsureMirror(t.Context(), m))
	s.upsert(t, m, riverOrg(1), jobs.MirrorRow{ID: "1", Values: []*string{text("2"), text("true"), nil, nil}})
	m.Columns = all
	_, got := s.mirrored(t, m)
	diff(t, "row", got, []jobs.MirrorRow{{ID: "1", Values: []*string{text("x"), text("2"), text("true"), nil, nil}}})

	none := &jobs.MirrorTable{Name: "salesforce_none"}
	must(t, s.store.EnsureMirror(t.Context(), none))
	s.upsert(t, none, riverOrg(1), jobs.MirrorRow{ID: "1"}, jobs.MirrorRow{ID: "2"})
	s.upsert(t, none, riverOrg(1), jobs.MirrorRow{ID: "1"})
	_, got = s.mirrored(t, none)
	diff(t, "rows without columns", got, []jobs.MirrorRow{{ID: "1", Values: []*string{}}, {ID: "2", Values: []*string{}}})
}

func testMirrorRace[TTx any](t *testing.T, s *suite[TTx]) {
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			m := everyType()
			m.Columns = m.Columns[:2+i/2]
			if err := s.store.EnsureMirror(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m := everyType()
	m.Columns = m.Columns[:4]
	s.upsert(t, m, riverOrg(1), jobs.MirrorRow{ID: "1", Values: make([]*string, 4)})
}

func testMirrorRefused[TTx any](t *testing.T, s *suite[TTx]) {
	for name, spoil := range map[string]func(m *jobs.MirrorTable){
		"a column named id":    func(m *jobs.MirrorTable) { m.Columns[0].Name = "id" },
		"a column named org":   func(m *jobs.MirrorTable) { m.Columns[0].Name = "org" },
		"a column twice":       func(m *jobs.MirrorTable) { m.Columns[0].Name = "amount" },
		"a column unnamed":     func(m *jobs.MirrorTable) { m.Columns[0].Name = "" },
		"an unknown type":      func(m *jobs.MirrorTable) { m.Columns[0].Type = "money" },
		"no name":              func(m *jobs.MirrorTable) { m.Name = "" },
		"a table that is none": func(m *jobs.MirrorTable) { m.Name = "weir_worker" },
	} {
		m := everyType()
		spoil(m)
		if err := s.store.EnsureMirror(t.Context(), m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}

	m := everyType()
	must(t, s.store.EnsureMirror(t.Context(), m))
	changed := everyType()
	changed.Columns[1].Type = jobs.ColumnText
	if err := s.store.EnsureMirror(t.Context(), changed); err == nil || !strings.Contains(err.Error(), "amount") {
		t.Errorf("a column of another type: got error %v, want one that names it", err)
	}

	for name, test := range map[string]struct {
		column int
		value  string
	}{
		"U+0000":               {0, "a\x00b"},
		"invalid UTF-8":        {0, "\xff"},
		"a word for a number":  {1, "much"},
		"an empty number":      {1, ""},
		"NaN":                  {1, "NaN"},
		"a number for a bool":  {2, "1"},
		"no such day":          {3, "2026-02-30"},
		"a date without a T":   {4, "2026-02-28 00:00:00"},
		"a date for a time":    {4, "2026-02-28"},
		"a JSON null as words": {4, "null"},
	} {
		row := jobs.MirrorRow{ID: "8010000000000009AA", Values: make([]*string, 5)}
		row.Values[test.column] = &test.value
		err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
			return s.store.UpsertMirrorTx(ctx, tx, m, riverOrg(1), []jobs.MirrorRow{{ID: "1", Values: make([]*string, 5)}, row})
		})
		for _, part := range []string{m.Name, string(riverOrg(1)), row.ID, m.Columns[test.column].Name} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got error %v, want one that names %s", name, err, part)
			}
		}
	}
	err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
		return s.store.UpsertMirrorTx(ctx, tx, m, riverOrg(1), []jobs.MirrorRow{{ID: "1", Values: make([]*string, 4)}})
	})
	if err == nil {
		t.Error("a row with a value too few was taken")
	}
	_, rows := s.mirrored(t, m)
	if len(rows) != 0 {
		t.Errorf("%d rows of refused pages", len(rows))
	}
}

func testMirrorWide[TTx any](t *testing.T, s *suite[TTx]) {
	m := &jobs.MirrorTable{Name: "salesforce_wide"}
	for i := range 800 {
		m.Columns = append(m.Columns, jobs.MirrorColumn{Name: fmt.Sprintf("field_%d__c", i), Field: fmt.Sprintf("Field_%d__c", i), Type: jobs.ColumnText})
	}
	must(t, s.store.EnsureMirror(t.Context(), m))
	var want []jobs.MirrorRow
	for i := range 100 {
		row := jobs.MirrorRow{ID: fmt.Sprintf("a00%015d", i), Values: make([]*string, len(m.Columns))}
		for j := range row.Values {
			if (i+j)%7 != 0 {
				row.Values[j] = text(fmt.Sprint(i, "/", j))
			}
		}
		want = append(want, row)
	}
	s.upsert(t, m, riverOrg(1), want...)
	// No function takes 800 arguments: two of the columns are read back.
	narrow := &jobs.MirrorTable{Name: m.Name, Columns: []jobs.MirrorColumn{m.Columns[0], m.Columns[799]}}
	_, got := s.mirrored(t, narrow)
	for i := range want {
		want[i].Values = []*string{want[i].Values[0], want[i].Values[799]}
	}
	diff(t, "rows", got, want)
	var filled int
	must(t, s.exec.QueryRow(t.Context(), `SELECT count(*) FROM salesforce_wide WHERE field_400__c IS NOT NULL`).Scan(&filled))
	if filled != 86 {
		t.Errorf("%d rows have the middle column, want 86", filled)
	}
}
