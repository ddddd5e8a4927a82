package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// hook puts a script among the machine's hooks.
func (m *machine) hook(name, script string) {
	m.t.Helper()
	m.write("hooks/"+name, "#!/bin/sh\n"+script)
	if err := os.Chmod(m.path("hooks/"+name), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// awaitStatus waits until the daemon says of itself what is looked for.
func (m *machine) awaitStatus(what string, is func(agent.Status) bool) agent.Status {
	m.t.Helper()
	for giveUp := time.Now().Add(limit); ; {
		s, err := m.client().Status(m.t.Context())
		if err == nil && is(s) {
			return s
		}
		if time.Now().After(giveUp) {
			m.t.Fatalf("not %s within %v: %+v, %v", what, limit, s, err)
		}
		m.awaitNote("STATUS=") // each change of the status is announced
	}
}

// A whole cycle with the site's own programs: what was prepared is restored after the
// boot, once, and the machine remembers the reboot.
func TestHooksAroundAReboot(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	log := m.path("log")
	for _, step := range []string{"check", "prepare", "verify", "restore"} {
		m.hook(step+".d/10-say", `echo "`+step+` $LOCKSMITH_PHASE $LOCKSMITH_REASON" >> `+log+"\n")
	}
	p := m.start("REBOOT_STRATEGY=reboot").ready()
	m.request()
	m.awaitReboot()
	p.cmd.Process.Kill()
	p.wait()
	m.boot("boot-2")
	m.start("REBOOT_STRATEGY=reboot").ready()
	s := m.awaitStatus("back", func(s agent.Status) bool { return s.Phase == locksmith.PhaseIdle && s.LastReboot != nil })
	if s.LastReboot.Outcome != "rebooted" || s.Outcomes["rebooted"] != 1 {
		t.Errorf("remembers %+v, %v", s.LastReboot, s.Outcomes)
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "check window a test\nprepare preparing a test\ncheck rebooting a test\nverify verifying \nrestore restoring \n"
	if string(got) != want {
		t.Errorf("hooks said\n%swant\n%s", got, want)
	}
}

// A hook that does not pass is named as what blocks, everywhere.
func TestBlockedByAHook(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	m.hook("check.d/20-backup", "test -e "+m.path("done")+" || { echo running until 04:00; exit 1; }\n")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	m.start("REBOOT_STRATEGY=reboot", "LOCKSMITHD_METRICS_ADDRESS="+address).ready()
	m.request()
	s := m.awaitStatus("blocked", func(s agent.Status) bool { return s.Waiting != "" && s.Phase == locksmith.PhaseWindow })
	if s.Waiting != "blocked by 20-backup: running until 04:00" {
		t.Errorf("waits for %q", s.Waiting)
	}
	why, err := m.client().Why(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range why.Machine.Conditions {
		found = found || c.Name == "20-backup" && c.State == locksmith.CondBlocked && c.Text == "running until 04:00"
	}
	if !found {
		t.Errorf("why says %+v", why.Machine.Conditions)
	}
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), `locksmith_blocked{by="20-backup"} 1`) {
		t.Errorf("metrics are\n%s", body)
	}
	m.write("done", "")
	m.awaitReboot()
}

// A dry run takes no slot and reboots nothing, and says what it would have done.
func TestDryRun(t *testing.T) {
	needRoot(t)
	server := etcdtest.Start(t, etcdtest.Embedded)
	m := newMachine(t)
	m.hook("prepare.d/10-drain", "touch "+m.path("drained")+"\n")
	p := m.start("REBOOT_STRATEGY=etcd-lock", "LOCKSMITHD_DRY_RUN=true", "LOCKSMITHD_ENDPOINT="+server.Endpoint).ready()
	m.request()
	m.awaitStatus("done", func(s agent.Status) bool { return strings.HasPrefix(s.Waiting, "dry run: would have rebooted") })
	for _, said := range []string{"would run hook\" group=\"\" boot_id=boot-1 machine=" + machineID + " hook=prepare.d/10-drain", "dry run: would reboot now"} {
		if !strings.Contains(p.said(), said) {
			t.Errorf("the log does not say %q:\n%s", said, p.said())
		}
	}
	if _, err := os.Stat(m.path("drained")); err == nil {
		t.Error("prepared")
	}
	select {
	case <-m.reboots:
		t.Error("rebooted")
	default:
	}
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if s, err := store.Status(t.Context(), ""); err != nil || s.Exists || len(s.Queue) > 0 {
		t.Errorf("in etcd: %+v, %v", s, err)
	}
}

// Firing alerts keep the machine from rebooting, and those that do not count do not.
func TestBlockedByAlerts(t *testing.T) {
	needRoot(t)
	var firing atomic.Value
	firing.Store(`{"labels":{"alertname":"HighErrorRate"},"state":"firing"},`)
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":"success","data":{"alerts":[%s{"labels":{"alertname":"Watchdog"},"state":"firing"}]}}`, firing.Load())
	}))
	defer prometheus.Close()
	m := newMachine(t)
	m.start("REBOOT_STRATEGY=reboot", "LOCKSMITHD_BLOCK_ON_ALERTS="+prometheus.URL, "LOCKSMITHD_ALERTS_IGNORE=Watch.*").ready()
	m.request()
	s := m.awaitStatus("blocked", func(s agent.Status) bool { return s.Waiting != "" && s.Phase == locksmith.PhaseWindow })
	if !strings.Contains(s.Waiting, "HighErrorRate") || strings.Contains(s.Waiting, "Watchdog") {
		t.Errorf("waits for %q", s.Waiting)
	}
	firing.Store("")
	m.awaitReboot()
}
