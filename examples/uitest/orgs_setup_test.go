package uitest_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

// example is the service example as people run it, and a simulated Salesforce.
type example struct {
	url   string // of the service
	sim   string // of Salesforce
	token string // API_TOKEN
}

// build builds a program of another directory of the project.
func build(t *testing.T, dir, pkg, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, text)
	}
	return out
}

// launch starts a program until the test ends; found reads its output until it
// returns what it looks for.
func launch(t *testing.T, env []string, found func(line string) string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = env
	out, in, err := os.Pipe()
	check(t, err)
	cmd.Stdout, cmd.Stderr = in, in
	check(t, cmd.Start())
	check(t, in.Close())
	text := make(chan string, 1)
	ended := make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(ended)
		said := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			if s := found(lines.Text()); s != "" && !said {
				said = true
				text <- s
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(program), log.String())
		}
	})
	select {
	case s := <-text:
		return s
	case <-ended:
		t.Fatalf("%s ended:\n%s", program, log.String())
	case <-time.After(patience):
		t.Fatalf("%s did not begin", program)
	}
	return ""
}

// startExample starts the service on SQLite. Probes are an hour apart, so that
// holds last as long as the test.
func startExample(t *testing.T) *example {
	t.Helper()
	e := &example{token: "a token for the test"}
	e.sim = launch(t, os.Environ(), func(line string) string {
		if strings.HasPrefix(line, "http://") {
			return strings.TrimSpace(line)
		}
		return ""
	}, build(t, "../..", "./sfapi/sftest/sftestd", "sftestd"), "-listen", "127.0.0.1:0")
	key := make([]byte, 18)
	_, err := rand.Read(key[2:])
	check(t, err)
	key[0], key[1] = 0x1a, 16 // AesGcmKey: field 3, 16 bytes
	type object = map[string]any
	keyset, err := json.Marshal(object{"primaryKeyId": 7, "key": []object{{
		"keyData": object{"typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmKey", "value": key, "keyMaterialType": "SYMMETRIC"},
		"status":  "ENABLED", "keyId": 7, "outputPrefixType": "TINK",
	}}})
	check(t, err)
	addr := launch(t, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LISTEN_ADDR=127.0.0.1:0", "API_TOKEN=" + e.token,
		"DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "weir.db"), "WEIR_KEYSET=" + string(keyset),
		"SALESFORCE_CLIENT_ID=" + sftest.DefaultClientID, "SALESFORCE_CLIENT_SECRET=" + sftest.DefaultClientSecret,
		"SALESFORCE_LOGIN_URL=" + e.sim, "WEIR_PROBE_MIN=1h", "WEIR_PROBE_MAX=1h",
	}, func(line string) string {
		var entry struct{ Msg, Addr string }
		_ = json.Unmarshal([]byte(line), &entry)
		if entry.Msg == "listening" {
			return entry.Addr
		}
		return ""
	}, build(t, "../service", ".", "service"))
	e.url = "http://" + addr
	eventually(t, "the service is ready", func() bool {
		res, err := http.Get(e.url + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return e
}

// ask makes a call of the service or the simulator, and reads its answer.
func (e *example) ask(t *testing.T, method, url string, body any, into any) {
	t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		check(t, err)
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, content)
	check(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+e.token)
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	check(t, err)
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s", method, url, res.StatusCode, answer)
	}
	if into != nil {
		check(t, json.Unmarshal(answer, into))
	}
}

// customers are what the page is to show: so many orgs, of which the first ones
// are held, for several reasons.
const customers, heldCustomers = 300, 40

// addCustomers connects them and brings the holds about, as they come about. It
// returns the ids, and their labels begin with the number.
func (e *example) addCustomers(t *testing.T) []string {
	t.Helper()
	ids := make([]string, customers)
	var wg sync.WaitGroup
	const atOnce = 6
	for part := range atOnce {
		wg.Go(func() {
			for i := part; i < customers; i += atOnce {
				var org struct{ ID string }
				e.ask(t, "POST", e.sim+"/_sim/orgs", map[string]any{"config": map[string]any{"Name": fmt.Sprint("Org ", i)}}, &org)
				ids[i] = org.ID
				var grant struct {
					RefreshToken string `json:"refresh_token"`
				}
				e.ask(t, "POST", e.sim+"/_sim/orgs/"+org.ID+"/grant", map[string]any{}, &grant)
				e.ask(t, "POST", e.url+"/orgs", map[string]any{"refresh_token": grant.RefreshToken, "label": fmt.Sprintf("Customer %03d", i)}, nil)
				if i < heldCustomers {
					e.hold(t, i, org.ID)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "the orgs are held", func() bool {
		var list struct{ Orgs []any }
		e.ask(t, "GET", e.url+"/orgs?held=true&limit=200", nil, &list)
		return len(list.Orgs) == heldCustomers
	})
	return ids
}

func (e *example) hold(t *testing.T, i int, id string) {
	t.Helper()
	state, org := e.sim+"/_sim/orgs/"+id+"/state", e.url+"/orgs/"+id
	switch i % 4 {
	case 0:
		e.ask(t, "POST", state, map[string]any{"read_only": "on"}, nil)
		e.ask(t, "POST", org+"/writes", map[string]any{
			"object": "Contact", "operation": "upsert", "external_id": "Ext_Id__c", "records": []any{map[string]any{"Ext_Id__c": "a", "LastName": "x"}},
		}, nil)
	case 1:
		e.ask(t, "POST", state, map[string]any{"api_enabled": false}, nil)
		e.ask(t, "POST", org+"/syncs", map[string]any{"object": "Account"}, nil)
	case 2:
		e.ask(t, "POST", state, map[string]any{"revoke_all": true}, nil)
		e.ask(t, "POST", org+"/syncs", map[string]any{"object": "Account"}, nil)
	default:
		e.ask(t, "POST", org+"/pause", map[string]any{}, nil)
	}
}
