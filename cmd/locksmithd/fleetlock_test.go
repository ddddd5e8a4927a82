package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
)

func TestCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	for _, tt := range []struct {
		text                  string
		user, password, token string
		want                  string // in the error
	}{
		{"web:s3cret\n", "web", "s3cret", "", ""},
		{"web:with spaces: and colons\r\nsecond line", "web", "with spaces: and colons", "", ""},
		{"web:", "web", "", "", ""},
		{"dG9rZW4=", "", "", "dG9rZW4=", ""},
		{"", "", "", "", "is empty"},
		{"\nweb:s3cret", "", "", "", "is empty"},
		{":\n", "", "", "", "is empty"},
		{"a token", "", "", "", "holds a space"},
		{"a\x00b", "", "", "", "control character"},
		{strings.Repeat("x", maxCredentials+1), "", "", "", "too long"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := fleetLock{url: "https://f", credentials: path}.connect()
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%.20q: got %v, want %s", tt.text, err, tt.want)
		case tt.want == "" && (err != nil || c.Username != tt.user || c.Password != tt.password || c.Token != tt.token):
			t.Errorf("%.20q: %v, read as %q %q %q", tt.text, err, c.Username, c.Password, c.Token)
		}
	}
	for mode, refused := range map[os.FileMode]bool{0o400: false, 0o640: false, 0o644: true, 0o602: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := readCredentials(path)
		if got := err != nil && strings.Contains(err.Error(), "open to everybody"); got != refused {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// holders is a FleetLock server's backend with one slot.
type holders struct {
	mu   sync.Mutex
	held []string
	gone chan struct{} // a slot was given back
}

func (h *holders) PreReboot(_ context.Context, req fleetlock.Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	who := req.Group + "/" + req.ID
	if len(h.held) > 0 && h.held[0] != who {
		return &fleetlock.Error{Kind: fleetlock.KindFull, Value: "held by " + h.held[0]}
	}
	h.held = []string{who}
	return nil
}

func (h *holders) SteadyState(_ context.Context, req fleetlock.Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.held, req.Group+"/"+req.ID) {
		h.held = nil
		h.gone <- struct{}{}
	}
	return nil
}

func (h *holders) now() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.held)
}

// serveFleetLock is a FleetLock server over TLS that wants a password. It returns its URL
// and the file of its certificate.
func serveFleetLock(t *testing.T, m *machine, h *holders) (url, caFile string) {
	handler := &fleetlock.Handler{Backend: h}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "web" || password != "s3cret" {
			t.Errorf("asked by %q with %q", user, password)
		}
		handler.ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	m.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return server.URL, m.path("ca.pem")
}

// The whole cycle with a FleetLock server: need, slot, reboot, proof of the boot, slot
// given back; under the machine's own id and under Zincati's.
func TestCycleWithFleetLock(t *testing.T) {
	needRoot(t)
	zincati, err := fleetlock.ZincatiID(machineID)
	if err != nil {
		t.Fatal(err)
	}
	for id, who := range map[string]string{fleetLockMachine: "default/" + machineID, fleetLockZincati: "default/" + zincati} {
		t.Run(id, func(t *testing.T) { testFleetLock(t, id, who) })
	}
}

func testFleetLock(t *testing.T, id, who string) {
	m := newMachine(t)
	h := &holders{held: []string{who}, gone: make(chan struct{}, 8)} // of an installation that is gone
	url, caFile := serveFleetLock(t, m, h)
	m.write("credentials", "web:s3cret\n")
	if err := os.Chmod(m.path("credentials"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"REBOOT_STRATEGY=fleet-lock", "LOCKSMITHD_FLEETLOCK_URL=" + url, "LOCKSMITHD_FLEETLOCK_CAFILE=" + caFile,
		"LOCKSMITHD_FLEETLOCK_CREDENTIALS_FILE=" + m.path("credentials"), "LOCKSMITHD_FLEETLOCK_ID=" + id}
	p := m.start(env...).ready()
	<-h.gone
	m.awaitNote("STATUS=idle")
	m.request()
	m.awaitReboot()
	if got := h.now(); !slices.Equal(got, []string{who}) {
		t.Fatalf("rebooting with the holders %q, want %s", got, who)
	}
	whyHeld(t, m, url)
	p.stop(syscall.SIGTERM) // as the machine goes down
	if got := h.now(); len(got) != 1 {
		t.Fatalf("the slot was not kept over the stop: %q", got)
	}
	m.boot("boot-2")
	p = m.start(env...).ready()
	<-h.gone
	m.awaitNote("STATUS=idle")
	p.stop(syscall.SIGTERM)
	if out := p.said(); strings.Contains(out, "s3cret") || strings.Contains(out, "level=WARN") || strings.Contains(out, "level=ERROR") {
		t.Errorf("the log has what it should not have:\n%s", out)
	}
	if _, err := os.Stat(m.path("state/fleet-lock.json")); err == nil {
		t.Error("the file of the slot is left")
	}
}

// whyHeld looks at what the daemon says of its slot while it reboots.
func whyHeld(t *testing.T, m *machine, url string) {
	t.Helper()
	w, err := m.client().Why(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(w.Machine.Conditions, func(c locksmith.Condition) bool { return c.Name == locksmith.CondSlot })
	if i < 0 || w.Machine.Conditions[i].State != locksmith.CondMet ||
		!strings.HasPrefix(w.Machine.Conditions[i].Text, "held, kept by the FleetLock server "+url+", in its group default as ") {
		t.Errorf("conditions are %+v", w.Machine.Conditions)
	}
	if w.Machine.Holds == nil || w.Machine.Holds.By != locksmith.ByAgent || w.StoreError != "" || len(w.Places) > 0 {
		t.Errorf("why is %+v", w)
	}
	w.Machine.Phase = locksmith.PhaseFailed
	if text := w.Next(locksmith.When(w.Time)); strings.Contains(text, "etcd") {
		t.Errorf("next is %s", text)
	}
}

// A server that is not there keeps the daemon from its slot, and from nothing else.
func TestFleetLockServerAway(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html>")
	}))
	defer server.Close()
	m := newMachine(t)
	p := m.start("REBOOT_STRATEGY=fleet-lock", "LOCKSMITHD_FLEETLOCK_URL="+server.URL).ready()
	m.awaitNote("STATUS=recovering: what this machine holds is not known: the FleetLock server is in trouble: 502 unexpected_answer: Bad Gateway")
	if s, err := m.client().Status(t.Context()); err != nil || s.Phase != locksmith.PhaseRecovering {
		t.Errorf("%+v, %v", s, err)
	}
	p.stop(syscall.SIGTERM)
}
