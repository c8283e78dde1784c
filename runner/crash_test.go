package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// A worker process of a test is this test binary again, told by its
// environment what to work on.
const (
	workerDatabase = "WEIR_TEST_WORKER_DATABASE"
	workerLogin    = "WEIR_TEST_WORKER_LOGIN"
	workerKeyset   = "WEIR_TEST_WORKER_KEYSET"
	workerProbes   = "WEIR_TEST_WORKER_PROBES" // the first wait before a probe; empty: the default
	workerDead     = "WEIR_TEST_WORKER_DEAD"   // DeadWorkerAfter; empty: a second
	workerDies     = "WEIR_TEST_WORKER_DIES"   // the step at which it kills itself; empty: none
)

func TestMain(m *testing.M) {
	if os.Getenv(workerDatabase) != "" {
		if err := workerMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// workerMain works until it is killed, or told to end.
func workerMain() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := pgxpool.ParseConfig(os.Getenv(workerDatabase))
	if err != nil {
		return err
	}
	app := workerApp(os.Getenv(workerLogin))
	if step := os.Getenv(workerDies); step != "" {
		if err := dieAt(step, config, app); err != nil {
			return err
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	keys, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(os.Getenv(workerKeyset))))
	if err != nil {
		return err
	}
	sealer, err := aead.New(keys)
	if err != nil {
		return err
	}
	handlers := jobs.NewHandlers[pgx.Tx]()
	jobs.AddMirror(handlers, jobs.AnyObject, nil)
	jobs.AddWorker(handlers, askOnce)
	probe, dead := time.Duration(0), time.Second
	for name, into := range map[string]*time.Duration{workerProbes: &probe, workerDead: &dead} {
		if text := os.Getenv(name); text != "" {
			if *into, err = time.ParseDuration(text); err != nil {
				return err
			}
		}
	}
	r, err := runner.New(runnerpgx.New(pool), &runner.Config[pgx.Tx]{
		App:             app,
		Sealer:          sealer,
		ProbeMin:        probe,
		ProbeMax:        2 * probe,
		Handlers:        handlers,
		DeadWorkerAfter: dead,
		Logger:          slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return r.Stop(ending)
}

func workerApp(login string) *sfapi.App {
	return &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: login}
}

// workerProcess is a worker in a process of its own.
type workerProcess struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

func startWorker(t *testing.T, env ...string) *workerProcess {
	t.Helper()
	w := &workerProcess{cmd: exec.Command(os.Args[0]), log: new(bytes.Buffer)}
	w.cmd.Env = append(os.Environ(), env...)
	w.cmd.Stderr = w.log
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kill)
	return w
}

// shareSealer gives the fixture a sealer that worker processes can have too,
// and returns the keyset to hand them.
func shareSealer(t *testing.T, f *fixture[pgx.Tx]) string {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var keysetJSON bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&keysetJSON)); err != nil {
		t.Fatal(err)
	}
	if f.sealer, err = aead.New(handle); err != nil {
		t.Fatal(err)
	}
	return keysetJSON.String()
}

// kill ends the process as a power cut would.
func (w *workerProcess) kill() {
	if w.cmd.ProcessState == nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	}
}

// A worker killed in the middle of a sync and of writes, again and again: the
// mirror equals the org in the end, each upserted record is there once, and the
// writes of each record arrived in order.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	const (
		accounts = 30_000
		keys     = 400
		rounds   = 10 // of writes to every key
		kills    = 5
	)
	url := pgtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := fixtureOn(t, pool)
	server := httptest.NewServer(f.sim)
	t.Cleanup(server.Close)
	f.sim.SetBaseURL(server.URL)
	f.org.SetRotation(true)
	f.org.Seed("Account", accounts, 11)
	// Slow enough that each kill meets a page or a call under way.
	f.org.Inject(sftest.Latency(30*time.Millisecond).On("", "/query"))
	f.org.Inject(sftest.Latency(30*time.Millisecond).On("", "/composite/sobjects"))

	keysetJSON := shareSealer(t, f)
	r := f.migrated(t, func(c *runner.Config[pgx.Tx]) {
		c.App, c.Transport, c.Handlers = workerApp(server.URL), nil, nil
	})
	f.connect(t, r)
	if _, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil); err != nil {
		t.Fatal(err)
	}
	var writes []int64
	for round := range rounds {
		records := make([]contact, keys)
		for k := range records {
			records[k] = contact{"Ext__c": fmt.Sprint("k-", k), "LastName": strconv.Itoa(round)}
		}
		receipt, err := r.Write(t.Context(), &jobs.Write{Org: f.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: records})
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, receipt.ID)
	}

	env := []string{workerDatabase + "=" + url, workerLogin + "=" + server.URL, workerKeyset + "=" + keysetJSON}
	random := rand.New(rand.NewPCG(1, 2))
	for range kills {
		w := startWorker(t, env...)
		before := f.org.Calls()
		moreCalls := before + 2 + random.Int64N(4)
		eventually(t, "the worker calls", func() bool { return f.org.Calls() >= moreCalls })
		w.kill()
		if t.Failed() {
			t.Log(w.log.String())
		}
	}
	last := startWorker(t, env...)
	done := func() bool {
		for _, id := range writes {
			c, err := r.Writes().Counts(t.Context(), f.orgID, id)
			if err != nil {
				t.Fatal(err)
			}
			if c.Done != keys {
				return false
			}
		}
		s := f.state(t, r, "Account")
		return !s.Running && s.LastRun != nil && s.LastRun.Error == ""
	}
	eventually(t, "the last worker finishes", done)
	if err := last.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := last.cmd.Wait(); err != nil {
		t.Errorf("worker: %v\n%s", err, last.log)
	}

	f.mirrorEqualsOrg(t, "Account")
	there := f.byExt(t, "Contact")
	if len(there) != keys {
		t.Errorf("the org has %d records, want %d", len(there), keys)
	}
	for k := range keys {
		ext := fmt.Sprint("k-", k)
		if got := there[ext].Fields["LastName"]; got != strconv.Itoa(rounds-1) {
			t.Errorf("%s ended as %v", ext, got)
		}
		newest := -1
		for _, w := range f.org.Writes(ext) {
			n, err := strconv.Atoi(fmt.Sprint(w.Fields["LastName"]))
			if err != nil {
				t.Fatal(err)
			}
			if n < newest {
				t.Errorf("%s: %d was written after %d", ext, n, newest)
			}
			newest = n
		}
	}
}
