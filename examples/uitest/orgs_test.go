package uitest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// The orgs page as an operator uses it: 300 orgs, of which 40 are held.
func TestOrgsPage(t *testing.T) {
	t.Parallel()
	e := startExample(t)
	ids := e.addCustomers(t)
	tab := openBrowser(t)
	trouble := watchTrouble(t, tab)
	page := e.url + "/orgs.html"

	do(t, tab, "the page asks who is there", chromedp.Navigate(page), until(`document.querySelector("form input[type=password]") !== null`))
	screenshot(t, tab, "login")
	wellMade(t, tab, "login")
	trouble.forget() // the page before the log-in is answered with 401
	do(t, tab, "the token opens it", chromedp.SendKeys(`input[type=password]`, e.token+"\r"), until(shows("Orgs", "Customer 000")))
	screenshot(t, tab, "orgs")

	// All orgs are there, page by page.
	seen := make(map[string]bool)
	for {
		for _, id := range strings.Fields(evaluate[string](t, tab, `[...document.querySelectorAll("ul.orgs > li")].map(li => li.id).join(" ")`)) {
			seen[id] = true
		}
		if !evaluate[bool](t, tab, `document.querySelector("a[rel=next]") !== null`) {
			break
		}
		first := evaluate[string](t, tab, `document.querySelector("ul.orgs > li").id`)
		do(t, tab, "the next page", chromedp.Click(`a[rel=next]`), until(fmt.Sprintf(`document.querySelector("ul.orgs > li").id !== %q`, first)))
	}
	for _, id := range ids {
		if !seen[id] {
			t.Errorf("org %s is on no page", id)
		}
	}

	// Those that are held, and why, and what to do.
	do(t, tab, "only those that are held", chromedp.Navigate(page), until(shows("Customer 000")),
		chromedp.Click(`#held`), chromedp.Click(`form.filter button`), until(`location.search.includes("held=true")`), until(shows("Customer 039")))
	screenshot(t, tab, "held")
	if n := evaluate[int](t, tab, `document.querySelectorAll("ul.orgs > li").length`); n != heldCustomers {
		t.Errorf("%d orgs are shown as held, want %d", n, heldCustomers)
	}
	for _, want := range []string{"maintenance (write) since", "api_disabled", "reauth", "operator", "Next probe:", "Only a person ends it.", "Nothing to do: Salesforce has the org in read-only mode", "connect the org again"} {
		if !evaluate[bool](t, tab, shows(want)) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		prefer(t, tab, scheme)
		wellMade(t, tab, "held, "+scheme)
		screenshot(t, tab, "held-"+scheme)
		do(t, tab, "phone", chromedp.EmulateViewport(390, 844))
		wellMade(t, tab, "held on a phone, "+scheme)
		screenshot(t, tab, "held-phone-"+scheme)
		do(t, tab, "desktop", chromedp.EmulateViewport(1440, 1000))
	}
	prefer(t, tab, "light")

	// One customer, by a part of its name; paused by keyboard alone, resumed by
	// mouse.
	calm := ids[200]
	do(t, tab, "search by keyboard", chromedp.Navigate(page), until(shows("Customer 000")),
		chromedp.Focus(`#q`), chromedp.KeyEvent("mer 200\r"), until(`document.querySelectorAll("ul.orgs > li").length === 1`), until(shows("Customer 200", calm, "Sync: open")))
	do(t, tab, "pause by keyboard", chromedp.Focus(`button[value=pause]`), chromedp.KeyEvent("\r"), until(shows("Customer 200", "Sync: held", "operator")))
	screenshot(t, tab, "paused")
	var org struct{ State string }
	e.ask(t, "GET", e.url+"/orgs/"+calm, nil, &org)
	if org.State != "held" {
		t.Errorf("after a pause the org is %s", org.State)
	}
	wellMade(t, tab, "paused")

	// River UI beside it: the lane, by the page's own link.
	do(t, tab, "River UI shows the lane as paused", chromedp.Click(fmt.Sprintf(`li[id=%q] a[href*=riverui]`, calm)),
		until(shows("Paused", "sf_"+strings.ToLower(calm)+"_sync")))
	screenshot(t, tab, "riverui-lane")
	do(t, tab, "resume by mouse", chromedp.Navigate(page+"?q=Customer+200"), until(shows("Sync: held")),
		chromedp.Click(`button[value=resume]`), until(shows("Customer 200", "Sync: open", "Write: open")))

	// Probe now: an org that has left read-only mode resumes.
	back := ids[0]
	e.ask(t, "POST", e.sim+"/_sim/orgs/"+back+"/state", map[string]any{"read_only": "off"}, nil)
	do(t, tab, "probe now", chromedp.Navigate(page+"?q=Customer+000"), until(shows("maintenance")), chromedp.Click(`button[value=probe]`))
	eventually(t, "the org resumes", func() bool {
		e.ask(t, "GET", e.url+"/orgs/"+back, nil, &org)
		return org.State == "open"
	})
	trouble.report(t)
}

// A customer's admin connects an org: the page of consent at Salesforce, and
// back.
func TestConsent(t *testing.T) {
	t.Parallel()
	e := startExample(t)
	var org struct{ ID string }
	e.ask(t, "POST", e.sim+"/_sim/orgs", map[string]any{"config": map[string]any{"Name": "Acme"}}, &org)
	tab := openBrowser(t)
	trouble := watchTrouble(t, tab)
	do(t, tab, "log in", chromedp.Navigate(e.url+"/connect?label=Acme"), until(`document.querySelector("form input[type=password]") !== null`))
	trouble.forget()
	do(t, tab, "the consent page of the simulated Salesforce", chromedp.SendKeys(`input[type=password]`, e.token+"\r"), until(shows("Default App")))
	screenshot(t, tab, "consent")
	do(t, tab, "refused", chromedp.Click(`button[value=deny]`), until(shows("access_denied")))
	screenshot(t, tab, "refused")
	wellMade(t, tab, "refused")
	trouble.forget() // that page is a 400
	do(t, tab, "allowed", chromedp.Navigate(e.url+"/connect?label=Acme"), until(shows("Default App")),
		chromedp.Click(`button[value=allow]`), until(shows(org.ID)))
	screenshot(t, tab, "connected")
	wellMade(t, tab, "connected")
	var connected struct{ State, Label string }
	e.ask(t, "GET", e.url+"/orgs/"+org.ID, nil, &connected)
	if connected.State != "open" || connected.Label != "Acme" {
		t.Errorf("connected org: %+v", connected)
	}
	trouble.report(t)
}

func evaluate[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// prefer has the browser prefer light or dark.
func prefer(t *testing.T, tab context.Context, scheme string) {
	t.Helper()
	do(t, tab, "prefer "+scheme, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// trouble is what a browser complains of.
type trouble struct {
	mu   sync.Mutex
	list []string
}

func watchTrouble(t *testing.T, tab context.Context) *trouble {
	t.Helper()
	seen := &trouble{}
	err := chromedp.Listen(tab, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			seen.add("exception: %s", ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
				seen.add("console %s", ev.Type)
			}
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.EntryLevelError {
				seen.add("%s: %s", ev.Entry.URL, ev.Entry.Text)
			}
		case *network.EventLoadingFailed:
			if !ev.Canceled {
				seen.add("%s was not loaded: %s", ev.Type, ev.ErrorText)
			}
		}
	})
	check(t, err)
	return seen
}

func (s *trouble) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf(format, args...))
}

func (s *trouble) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

func (s *trouble) report(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.list {
		t.Errorf("the browser says: %s", text)
	}
}

// wellMade checks what does not show at a glance: names for screen readers,
// contrast, the width of the page, and that nothing comes from elsewhere.
func wellMade(t *testing.T, tab context.Context, what string) {
	t.Helper()
	for _, problem := range evaluate[[]string](t, tab, inspection) {
		t.Errorf("%s: %s", what, problem)
	}
}

// inspection returns what is wrong with the page. The ratios are those of
// https://www.w3.org/TR/WCAG22/#contrast-minimum.
const inspection = `(() => {
	const problems = [];
	const root = document.documentElement;
	if (!root.lang) problems.push("the page has no language");
	if (!document.title) problems.push("the page has no title");
	if (document.querySelectorAll("h1").length !== 1) problems.push("the page has not one h1");
	if (root.scrollWidth > root.clientWidth) problems.push("the page is " + root.scrollWidth + " wide, the window " + root.clientWidth);
	const name = el => (el.getAttribute("aria-label") || [...(el.labels || [])].map(l => l.innerText).join(" ") || el.innerText || "").trim();
	for (const el of document.querySelectorAll("a, button, input:not([type=hidden]), select, meter, summary, nav, [role=img]"))
		if (!name(el)) problems.push("no name: " + el.outerHTML.slice(0, 120));
	for (const el of document.querySelectorAll("table"))
		if (!el.caption || !el.querySelector("th")) problems.push("a table without caption or headings");
	const ids = [...document.querySelectorAll("[id]")].map(el => el.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) problems.push("twice on the page: id " + id);
	for (const el of document.querySelectorAll("button, input:not([type=hidden]), select")) {
		const box = el.getBoundingClientRect();
		if (box.width && (box.height < 24 && el.type !== "checkbox")) problems.push("too small to touch: " + name(el) + " " + box.height);
	}
	for (const r of performance.getEntriesByType("resource"))
		if (new URL(r.name).origin !== location.origin && !r.name.startsWith("data:")) problems.push("from elsewhere: " + r.name);

	const canvas = document.createElement("div");
	canvas.style.background = "Canvas";
	document.body.append(canvas);
	const parse = s => { const m = s.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 } };
	const paper = parse(getComputedStyle(canvas).backgroundColor);
	canvas.remove();
	const over = (top, under) => ({ r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a), b: top.b * top.a + under.b * (1 - top.a), a: 1 });
	const ground = el => {
		const layers = [];
		for (let e = el; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
		return layers.reverse().reduce((under, top) => over(top, under), paper);
	};
	const light = c => {
		const [r, g, b] = [c.r, c.g, c.b].map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
		return .2126 * r + .7152 * g + .0722 * b;
	};
	const faint = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walk.nextNode()); ) {
		const el = node.parentElement, style = getComputedStyle(el);
		if (!node.data.trim() || style.visibility === "hidden" || !el.getClientRects().length) continue;
		if (["SCRIPT", "STYLE", "METER", "OPTION"].includes(el.tagName)) continue;
		const back = ground(el), front = over(parse(style.color), back);
		const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
		const ratio = (a + .05) / (b + .05), size = parseFloat(style.fontSize);
		const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) faint.add(ratio.toFixed(2) + " for " + style.color + " of " + JSON.stringify(node.data.trim().slice(0, 40)));
	}
	for (const f of [...faint].slice(0, 10)) problems.push("contrast: " + f);
	return problems;
})()`
