package sftest

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// trickyTexts are values that careless clients damage.
var trickyTexts = []string{
	"plain", "Grüße aus Köln", "日本語テキスト", "emoji 👩‍🚀🚀 and ZWJ", "עברית ו العربية", "line one\nline two", "windows\r\nlines\r\nhere",
	`"quoted" and 'single'`, "comma, semicolon; tab\tend", `back\slash \n not a newline`, "<b>&amp; html</b>", "null", "NULL", "#N/A",
	"0012", "1e5", "true", "=1+1", "a\u0301 combining", "  padded  ", "'; DROP TABLE salesforce_account; --", "\u2028line separator",
	"100% _under_", "{}[]", "%00", "ﬀ ligature", "İstanbul ı",
}

// Seed adds n records of an object with values drawn from seed: the same seed
// in a new org gives the same records. Text has unicode, line breaks (LF and
// CRLF), quotes and commas; about one value in eight is null; where an empty
// text is possible some are empty. External ids are "<object>-1" and up, on from
// the records that are there. Some 50 records share each SystemModstamp, and all
// of them lie a day in the past, so that an incremental read does not see them.
func (o *Org) Seed(object string, n int, seed uint64) []ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	rnd := rand.New(rand.NewPCG(seed, uint64(len(object))))
	start := time.Now().UTC().Truncate(time.Second).Add(-24 * time.Hour)
	epoch := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	parents := map[string][]string{}
	for i := range t.def.Fields {
		f := &t.def.Fields[i]
		if p := o.tables[strings.ToLower(f.ReferenceTo)]; f.Type == TypeReference && !f.ReadOnly && p != nil && p != t {
			for _, r := range p.ordered()[:min(500, len(p.ordered()))] {
				if !r.deleted && !r.hidden {
					parents[f.Name] = append(parents[f.Name], r.id)
				}
			}
		}
	}
	ids := make([]ID, n)
	base := int(t.next)
	for i := range n {
		vals := o.values(t.def, nil, nil)
		for j := range t.def.Fields {
			f := &t.def.Fields[j]
			if f.ReadOnly || !f.stored() || f.Name == "OwnerId" {
				continue
			}
			vals[j] = f.seedValue(rnd, base+i+1, t.def.Name, epoch, parents[f.Name])
		}
		vals[t.def.stamp.index] = start.Add(time.Duration(i/50) * time.Second)
		o.stampNew(t.def, vals, o.admin, true)
		ids[i] = t.newID()
		t.put(newRow(t.def, ids[i], vals, false, false))
	}
	return ids
}

// seedValue draws one value.
func (f *Field) seedValue(rnd *rand.Rand, n int, object string, epoch time.Time, parents []string) any {
	if f.ExternalID {
		if !f.Unique {
			return fmt.Sprintf("L%d", n/3)
		}
		return fmt.Sprintf("%s-%d", strings.ToLower(strings.TrimSuffix(object, "__c")), n)
	}
	null := rnd.IntN(8) == 0 && !f.Required
	switch f.Type {
	case TypeBoolean:
		return rnd.IntN(2) == 0
	case TypeReference:
		if null || len(parents) == 0 {
			return nil
		}
		return parents[rnd.IntN(len(parents))]
	}
	if null {
		return nil
	}
	switch f.Type {
	case TypeString:
		s := trickyTexts[rnd.IntN(len(trickyTexts))]
		if f.Name == "Name" || f.Name == "LastName" {
			s = fmt.Sprintf("%s %d", s, n)
		}
		return clipRunes(s, f.Length)
	case TypeTextarea:
		if rnd.IntN(10) == 0 {
			return ""
		}
		var b strings.Builder
		for range 1 + rnd.IntN(5) {
			b.WriteString(trickyTexts[rnd.IntN(len(trickyTexts))])
			b.WriteString([]string{"\n", "\r\n", " "}[rnd.IntN(3)])
		}
		return clipRunes(b.String(), f.Length)
	case TypePicklist:
		if len(f.Picklist) == 0 {
			return nil
		}
		return f.Picklist[rnd.IntN(len(f.Picklist))]
	case TypeDouble:
		return math.Round((rnd.Float64()-0.5)*1e9) / 1e6
	case TypeCurrency:
		return float64(rnd.IntN(2_000_000_000_00)) / 100
	case TypePercent:
		return float64(rnd.IntN(100_00)) / 100
	case TypeInt:
		return int64(rnd.IntN(2_000_000) - 1_000_000)
	case TypeDate:
		return epoch.AddDate(0, 0, rnd.IntN(3000)-10000*rnd.IntN(2)).Format("2006-01-02")
	case TypeDateTime:
		return epoch.Add(time.Duration(rnd.IntN(200_000_000_000)) * time.Millisecond)
	case TypeEmail:
		return fmt.Sprintf("user+%d@example.com", n)
	case TypePhone:
		return fmt.Sprintf("+49 (30) %07d", rnd.IntN(10_000_000))
	case TypeURL:
		return fmt.Sprintf("https://example.com/%d?q=a%%20b&x=1", n)
	case TypeBase64:
		return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "blob %d", n))
	}
	return nil
}

func clipRunes(s string, n int) string {
	r := []rune(s)
	return string(r[:min(n, len(r))])
}
