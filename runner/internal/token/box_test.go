package token_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

func TestNewReportsEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := token.New(nil, nil, nil, &token.Config{Lease: -1, RefreshAhead: -2, SessionTimeout: -1, Rate: -1})
	if err == nil {
		t.Fatal("New took it all")
	}
	for _, want := range []string{"credential store", "App", "sealer", "lease", "refresh ahead", "session timeout", "rate"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want it to name the %s", err, want)
		}
	}
}

// Ciphertext that was moved to another org or column does not open.
func TestSecretsAreBoundToTheirPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newMemory())
	other := w.sim.AddOrg(nil)
	w.connect(other)
	theirs, err := w.db.Credential(t.Context(), sfapi.OrgID(other.ID()))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := w.db.Credential(t.Context(), w.id)
	if err != nil {
		t.Fatal(err)
	}
	moved := *ours
	moved.Access = theirs.Access
	if err := w.db.connect(t.Context(), &moved); err != nil {
		t.Fatal(err)
	}
	if _, err := w.process(nil).Source(w.id).Token(t.Context()); !errors.Is(err, token.ErrWrongKey) {
		t.Errorf("token sealed for another org: %v, want %v", err, token.ErrWrongKey)
	}
	moved = *ours
	moved.Access = ours.Refresh
	if err := w.db.connect(t.Context(), &moved); err != nil {
		t.Fatal(err)
	}
	if _, err := w.process(nil).Source(w.id).Token(t.Context()); !errors.Is(err, token.ErrWrongKey) {
		t.Errorf("token sealed for another column: %v, want %v", err, token.ErrWrongKey)
	}
}

func TestCheckAndReseal(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t, newMemory())
	older, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	with := func(h *keyset.Handle) *token.Manager {
		t.Helper()
		if w.sealer, err = aead.New(h); err != nil {
			t.Fatal(err)
		}
		return w.process(nil)
	}
	if err := with(older).Check(ctx); !errors.Is(err, token.ErrWrongKey) {
		t.Errorf("check with a key of our own: %v, want %v", err, token.ErrWrongKey)
	}
	w.connect(w.org)
	if err := with(older).Check(ctx); err != nil {
		t.Errorf("check: %v", err)
	}

	both := keyset.NewManagerFromHandle(older)
	id, err := both.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := both.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	rotated, err := both.Handle()
	if err != nil {
		t.Fatal(err)
	}
	m := with(rotated)
	if err := m.Check(ctx); err != nil {
		t.Errorf("check after the key was rotated: %v", err)
	}
	before := w.token(m)
	if n, err := m.Reseal(ctx); n != 2 || err != nil {
		t.Errorf("reseal: %d, %v, want both secrets", n, err)
	}

	if err := both.Delete(older.KeysetInfo().GetPrimaryKeyId()); err != nil {
		t.Fatal(err)
	}
	newer, err := both.Handle()
	if err != nil {
		t.Fatal(err)
	}
	m = with(newer)
	if err := m.Check(ctx); err != nil {
		t.Errorf("check without the old key: %v", err)
	}
	if diff := cmp.Diff(before, w.token(m), cmp.Comparer(func(a, b sfapi.Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
		t.Errorf("token after re-sealing (-want +got):\n%s", diff)
	}
	if err := with(older).Check(ctx); !errors.Is(err, token.ErrWrongKey) {
		t.Errorf("check with the old key alone: %v, want %v", err, token.ErrWrongKey)
	}
	if _, err := with(older).Reseal(ctx); !errors.Is(err, token.ErrWrongKey) {
		t.Errorf("reseal with the old key alone: %v, want %v", err, token.ErrWrongKey)
	}
	w.clean(errText(err))
}

func TestCheckOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newMemory())
	if err := w.processOn(newMemory(), nil).Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}
