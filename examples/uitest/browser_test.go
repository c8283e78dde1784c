package uitest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browserEnv names the browser's program where it is not in the PATH, and
// screenshotsEnv a directory for what the browser showed, to be looked at.
const (
	browserEnv     = "CHROMIUM"
	screenshotsEnv = "UITEST_SCREENSHOTS"
)

// patience is how long a page may take to show what it must.
const patience = time.Minute

// browserPath finds Chromium or Chrome. Without one the test fails: a check
// that skips itself is none.
func browserPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(browserEnv); path != "" {
		return path
	}
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("this test looks at River UI in a browser, and found neither Chromium nor Chrome.\n"+
		"Install one (Debian: apt-get install chromium; Fedora: dnf install chromium; macOS: brew install --cask chromium),\n"+
		"or set %s to its program.", browserEnv)
	return ""
}

// openBrowser returns the context of a new tab of a new browser, desktop size.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	path := browserPath(t)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1440, 1000),
		// The sandbox does not start as root, nor in most containers. The
		// browser opens nothing but pages of this test.
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	tab, closeTab := chromedp.NewContext(allocator, chromedp.WithErrorf(t.Logf))
	t.Cleanup(func() {
		closing, cancel := context.WithTimeout(tab, 20*time.Second)
		defer cancel()
		if err := chromedp.Cancel(closing); err != nil {
			t.Logf("close browser: %v", err)
		}
		closeTab()
		stop() // waits for the process
	})
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return tab
}

// do runs actions and fails the test, with a picture, when they do not succeed.
func do(t *testing.T, tab context.Context, what string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		screenshot(t, tab, "failed")
		t.Fatalf("%s: %v; the page reads:\n%s", what, err, text(t, tab))
	}
}

// text is what a person can read on the page.
func text(t *testing.T, tab context.Context) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	if err != nil {
		t.Fatalf("read the page: %v", err)
	}
	return s
}

// until waits until a JavaScript expression is true of the whole page, or of the
// next one: while the browser goes from one to the other there is none to ask.
func until(expression string) chromedp.Action[chromedp.Void] {
	expression = `document.readyState === "complete" && (` + expression + `)`
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			ok, err := chromedp.Evaluate[bool](expression)(ctx, tab)
			if err == nil && ok {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return errors.Join(fmt.Errorf("never true: %.300s", expression), err)
			}
		}
	})
}

// screenshot keeps what the tab shows, for people, where they asked for it.
func screenshot(t *testing.T, tab context.Context, name string) {
	t.Helper()
	dir := os.Getenv(screenshotsEnv)
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600)
	}
	if err != nil {
		t.Logf("screenshot %s: %v", name, err) // the picture is missing, nothing else
	}
}
