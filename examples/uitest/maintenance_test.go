package uitest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi/sftest"
)

// An operator sees in River UI that an org in read-only mode has its writes
// paused, how many wait, and why; and a Resume pressed there asks the org
// again, which it passes or does not.
func TestMaintenanceInRiverUI(t *testing.T) {
	t.Parallel()
	tab := openBrowser(t)
	s := startService(t)
	s.org.SetReadOnly(sftest.ReadOnly)
	writes := []int64{s.write(t, "first")}
	hold := s.hold(t)
	for i := range 4 {
		writes = append(writes, s.write(t, fmt.Sprint("more-", i)))
	}
	lane := breaker.Write.Queue(s.orgID)
	backlog := fmt.Sprint(len(writes)) // one job each

	// The list of queues: the lane is paused, with what waits in it.
	paused, active := row(lane, backlog, "Paused"), row("sf_run_write", "0", "Active")
	do(t, tab, "the lane is listed as paused, the run queue as active",
		chromedp.Navigate(s.ui+"/queues"), until(paused), until(active))
	screenshot(t, tab, "1-queues")

	// The lane's own page, by its link.
	do(t, tab, "the lane's page shows the pause and the backlog",
		chromedp.Click(fmt.Sprintf(`//a[contains(., %q)]`, lane)), until(shows("Paused", "Available "+backlog)))
	screenshot(t, tab, "2-lane")

	// The probe job says why.
	probe := fmt.Sprint(s.ui, "/jobs/", s.probeJob(t))
	story := []string{
		"salesforce_probe", string(s.orgID), `"reason" : "maintenance"`, `"lanes" : "write"`, `"status" : "held"`,
		hold.Advice, hold.Evidence[0], "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE",
		`"since" : "` + hold.Since.UTC().Format(time.DateTime), `"next_probe" : "` + hold.NextProbe.UTC().Format(time.DateTime),
	}
	do(t, tab, "the probe job's page tells the story of the hold", chromedp.Navigate(probe), until(shows(story...)))
	screenshot(t, tab, "3-probe")

	// Resume means "probe now": the org is asked, still is read-only, and the
	// lane is paused again.
	before := s.probes()
	do(t, tab, "the lane can be resumed", chromedp.Navigate(s.ui+"/queues/"+lane), until(shows("Paused")), pressResume)
	eventually(t, "the org is asked again", func() bool { return s.probes() > before })
	do(t, tab, "the lane is paused again", chromedp.Reload(), until(shows("Paused", "Available "+backlog)))
	screenshot(t, tab, "4-paused-again")
	after := s.hold(t)
	do(t, tab, "the probe's answer and the next one's time are shown", chromedp.Navigate(probe),
		until(shows(`"last_answer" : "probe: Organization.IsReadOnly is true`, `"next_probe" : "`+after.NextProbe.UTC().Format(time.DateTime))))
	screenshot(t, tab, "5-probed")

	// Once the org takes writes again, Resume resumes.
	s.org.SetReadOnly(sftest.ReadWrite)
	do(t, tab, "the lane can be resumed", chromedp.Navigate(s.ui+"/queues/"+lane), until(shows("Paused")), pressResume,
		until(shows("Active", "Available 0")))
	screenshot(t, tab, "6-resumed")
	for _, id := range writes {
		eventually(t, fmt.Sprintf("write %d is done", id), func() bool {
			c, err := s.weir.Writes().Counts(t.Context(), s.orgID, id)
			check(t, err)
			return c.Done == c.Accepted
		})
	}
}

// pressResume presses the button of a queue's page.
var pressResume = chromedp.Click(`//button[contains(., "Resume")]`)

// shows is true of a page that reads each of the texts, whatever white space
// stands in it and in them.
func shows(texts ...string) string {
	var all []string
	for _, s := range texts {
		all = append(all, fmt.Sprintf(`text.includes(%q)`, strings.Join(strings.Fields(s), " ")))
	}
	return `(() => { const text = document.body.innerText.replace(/\s+/g, " "); return ` + strings.Join(all, " && ") + ` })()`
}

// row is true of a list of queues with a row that has these cells.
func row(queue, available, status string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("tr")].some(tr => {
		const cells = [...tr.children].map(td => td.innerText.trim());
		return cells[0] === %q && cells.includes(%q) && cells.includes(%q);
	})`, queue, available, status)
}
