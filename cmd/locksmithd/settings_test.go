package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// sources is where settings come from, weakest first.
type sources struct {
	coreos, flatcar string // the files' texts; empty: no file
	environ         string // KEY=value, a line each
	args            string // separated by spaces
}

// read reads the settings of a program from sources.
func read(t *testing.T, program string, src sources) (settings, error) {
	t.Helper()
	dir := t.TempDir()
	h := host{environ: strings.Split(src.environ, "\n")}
	for _, file := range []struct{ name, text string }{{"coreos.conf", src.coreos}, {"flatcar.conf", src.flatcar}} {
		path := filepath.Join(dir, file.name)
		h.updateConf = append(h.updateConf, path)
		if file.text == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(file.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got settings
	ran := false
	cmd := commandLine(program, func(_ context.Context, s settings) error {
		got, ran = s, true
		return nil
	}, h)
	err := cmd.Run(t.Context(), append([]string{program}, strings.Fields(src.args)...))
	if ran != (err == nil) {
		t.Fatalf("the daemon started: %t, error: %v", ran, err)
	}
	return got, err
}

func TestPrecedence(t *testing.T) {
	const (
		etcdLock, reboot, bestEffort, off = locksmith.StrategyEtcdLock, locksmith.StrategyReboot, locksmith.StrategyBestEffort, locksmith.StrategyOff
	)
	tests := []struct {
		name    string
		program string // empty: locksmithd
		src     sources
		want    locksmith.Strategy
	}{
		{"default", "", sources{}, bestEffort},
		{"first file", "", sources{coreos: "REBOOT_STRATEGY=off"}, off},
		{"second file alone", "", sources{flatcar: "REBOOT_STRATEGY=off"}, off},
		{"later file wins", "", sources{coreos: "REBOOT_STRATEGY=off", flatcar: "REBOOT_STRATEGY=reboot"}, reboot},
		{"environment beats files", "", sources{coreos: "REBOOT_STRATEGY=off", flatcar: "REBOOT_STRATEGY=reboot", environ: "REBOOT_STRATEGY=etcd-lock"}, etcdLock},
		{"command line beats all", "", sources{"REBOOT_STRATEGY=off", "REBOOT_STRATEGY=off", "REBOOT_STRATEGY=off", "-reboot-strategy reboot"}, reboot},
		{"command line with two dashes and equals", "", sources{environ: "REBOOT_STRATEGY=off", args: "--reboot-strategy=reboot"}, reboot},
		{"empty variable counts as unset", "", sources{coreos: "REBOOT_STRATEGY=off", environ: "REBOOT_STRATEGY="}, off},
		{"empty line in a file hides nothing", "", sources{coreos: "REBOOT_STRATEGY=off", flatcar: "REBOOT_STRATEGY=\"\""}, off},
		{"all empty is the default", "", sources{"REBOOT_STRATEGY=", "REBOOT_STRATEGY=''", "REBOOT_STRATEGY=", ""}, bestEffort},
		{"with the prefix", "", sources{environ: "LOCKSMITHD_REBOOT_STRATEGY=off"}, off},
		{"with the prefix in a file", "", sources{coreos: "LOCKSMITHD_REBOOT_STRATEGY=off"}, off},
		{"prefix beats no prefix", "", sources{environ: "REBOOT_STRATEGY=off\nLOCKSMITHD_REBOOT_STRATEGY=reboot"}, reboot},
		{"empty with the prefix falls back", "", sources{environ: "REBOOT_STRATEGY=off\nLOCKSMITHD_REBOOT_STRATEGY="}, off},
		{"other program's prefix is nothing to us", "", sources{environ: "REBOOTLOCKD_REBOOT_STRATEGY=off"}, bestEffort},
		{"installed under the other name", "rebootlockd", sources{environ: "REBOOTLOCKD_REBOOT_STRATEGY=off\nLOCKSMITHD_REBOOT_STRATEGY=reboot"}, off},
		{"a bad variable that is overridden", "", sources{environ: "REBOOT_STRATEGY=nonsense", args: "-reboot-strategy off"}, off},
		{"update engine's lines are not ours", "", sources{coreos: "GROUP=stable\nSERVER=https://x/?a=\"b\"\nREBOOT_STRATEGY=off"}, off},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			program := tt.program
			if program == "" {
				program = "locksmithd"
			}
			got, err := read(t, program, tt.src)
			if err != nil {
				t.Fatal(err)
			}
			if got.strategy != tt.want {
				t.Errorf("strategy is %s, want %s", got.strategy, tt.want)
			}
			if got.groups[0] != "" {
				t.Errorf("group is %q", got.groups[0])
			}
		})
	}
}

func TestEverySetting(t *testing.T) {
	want := settings{
		etcd: options.Etcd{Endpoints: []string{"https://a:1", "https://b:1"}, EndpointSet: true,
			CAFile: "ca.pem", CertFile: "cert.pem", KeyFile: "key.pem", Username: "u", Password: "p", Timeout: 3 * time.Second},
		groups: []locksmith.Group{"rack-7", "web"}, strategy: locksmith.StrategyEtcdLock, priority: 2,
		fleetLock: fleetLock{url: "https://f/x", credentials: "/cred", id: "zincati", caFile: "fca.pem", certFile: "fcert.pem", keyFile: "fkey.pem"},
		dryRun:    true, method: locksmith.MethodCommand, command: []string{"/bin/reboot", "now"},
		hookDir: "/hooks", hookTimeout: time.Minute, hookTotalTimeout: time.Hour, hookRunner: "direct", proceed: true,
		verifyUnits: []string{"a.service", "b.socket"}, verifySystem: []string{"running", "degraded"}, verifyTimeout: 7 * time.Minute, verifySoak: time.Second,
		maxPerDay: 9, minUptime: time.Hour,
		loginPolicy: "block", rebootGrace: time.Minute, leaseTTL: 9 * time.Second,
		control: "/c.sock", metrics: ":1", stateDir: "/state", coordinator: "/c.conf", logFormat: "json", debug: true,
	}
	values := map[string]string{
		"endpoint": "https://a:1,https://b:1", "etcd-cafile": "ca.pem", "etcd-certfile": "cert.pem", "etcd-keyfile": "key.pem",
		"etcd-username": "u", "etcd-password": "p", "timeout": "3s", "group": "web,rack-7", "reboot-strategy": "etcd-lock",
		"fleetlock-url": "https://f/x", "fleetlock-credentials-file": "/cred", "fleetlock-id": "zincati",
		"fleetlock-cafile": "fca.pem", "fleetlock-certfile": "fcert.pem", "fleetlock-keyfile": "fkey.pem",
		"reboot-window-start": "Thu_23:00", "reboot-window-length": "1h30m", "reboot-window-timezone": "Europe/Berlin",
		"priority": "2", "login-delay": "0s", "reboot-grace": "1m", "lease-ttl": "9s",
		"control-socket": "/c.sock", "coordinator-file": "/c.conf", "log-format": "json", "debug": "true",
		"trigger": "kernel; file:/run/x,y;uptime:30d", "reboot-method": "command:/bin/reboot now", "dry-run": "true",
		"reboot-window": "Mon..Fri_22:00_4h;Sat,Sun_00:00_24h", "no-reboot-window": "2026-12-20..2027-01-03_UTC",
		"hook-dir": "/hooks", "hook-timeout": "1m", "hook-total-timeout": "1h", "hook-runner": "direct", "prepare-failure": "proceed",
		"verify-units": "a,b.socket", "verify-system": "running,degraded", "verify-timeout": "7m", "verify-soak": "1s",
		"max-reboots-per-day": "9", "min-uptime": "1h",
		"block-on-alerts": "http://p:9090", "alerts-match": "A.*|B", "alerts-ignore": "AB", "alerts-pending": "true",
		"login-policy": "block", "metrics-address": ":1", "state-dir": "/state",
	}
	var environ []string
	for name, value := range values {
		environ = append(environ, options.Variable("LOCKSMITHD_", name)+"="+strings.ReplaceAll(value, "_", " "))
	}
	lines := strings.Join(environ, "\n")
	for _, src := range []sources{{environ: lines}, {coreos: lines}} {
		got, err := read(t, "locksmithd", src)
		if err != nil {
			t.Fatal(err)
		}
		if want := "Thu 23:00 1h30m Europe/Berlin, Mon..Fri 22:00 4h Europe/Berlin, Sat,Sun 00:00 24h Europe/Berlin, except 2026-12-20..2027-01-03 UTC"; windowText(got) != want {
			t.Errorf("windows are %s, want %s", windowText(got), want)
		}
		var triggers []string
		for _, s := range got.triggers {
			triggers = append(triggers, s.String())
		}
		if want := []string{"kernel", "file:/run/x,y", "uptime:30d"}; !slices.Equal(triggers, want) {
			t.Errorf("triggers are %q, want %q", triggers, want)
		}
		if got.alerts == nil {
			t.Error("alerts are not asked")
		}
		got.windows, got.triggers, got.alerts = nil, nil, nil
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(settings{}, fleetLock{})); diff != "" {
			t.Error(diff)
		}
	}
	for _, d := range options.Describe(flags("LOCKSMITHD_"), "LOCKSMITHD_") {
		name := strings.Fields(strings.TrimLeft(d.Synopsis, "-"))[0]
		if _, tested := values[name]; !tested && name != "version" && name != "etcd-password-file" {
			t.Errorf("option -%s is not in this test", name)
		}
	}
}

func TestWindowVariables(t *testing.T) {
	tests := []struct {
		name string
		src  sources
		want string
	}{
		{"none", sources{}, "always"},
		{"without the prefix", sources{environ: "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_TIMEZONE=UTC"}, "04:00 1h UTC"},
		{"each falls back by itself", sources{coreos: "REBOOT_WINDOW_LENGTH=1h", environ: "LOCKSMITHD_REBOOT_WINDOW_START=Sun 4:00\nREBOOT_WINDOW_START=5:00\nREBOOT_WINDOW_TIMEZONE=UTC"}, "Sun 04:00 1h UTC"},
		{"a prefixed one in a file beats one without in the environment", sources{coreos: "LOCKSMITHD_REBOOT_WINDOW_START=4:00", environ: "REBOOT_WINDOW_START=5:00\nREBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_TIMEZONE=UTC"}, "04:00 1h UTC"},
		{"local time", sources{coreos: "REBOOT_WINDOW_START=\"Thu 23:00\"\nREBOOT_WINDOW_LENGTH=1h30m"}, "Thu 23:00 1h30m Local"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(t, "locksmithd", tt.src)
			if err != nil {
				t.Fatal(err)
			}
			if text := windowText(got); text != tt.want {
				t.Errorf("window is %s, want %s", text, tt.want)
			}
		})
	}
}

// What is wrong on the command line is a wrong command line, and what is wrong
// elsewhere is not, whatever the option.
func TestWhoseFault(t *testing.T) {
	for _, src := range []sources{
		{args: "-reboot-strategy x"}, {args: "-priority 10"}, {args: "-group .."}, {args: "-log-format xml"},
		{args: "-reboot-window-start 4:00"}, {args: "-lease-ttl 1500ms"}, {args: "-priority x"}, {args: "-endpoint nonsense"},
		{args: "-nonsense"}, {args: "extra"}, {args: "-login-delay -1s"}, {args: "-reboot-grace 0s"}, {args: "-control-socket="},
		{args: "-trigger nonsense"}, {args: "-trigger control"}, {args: "-reboot-method halt"}, {args: "-reboot-method command:reboot"},
		{args: "-reboot-window tomorrow"}, {args: "-no-reboot-window 2026-13-01"}, {args: "-hook-timeout 0s"}, {args: "-hook-runner shell"},
		{args: "-prepare-failure ignore"}, {args: "-verify-system perfect"}, {args: "-verify-units a/b"}, {args: "-verify-soak -1s"},
		{args: "-max-reboots-per-day -1"}, {args: "-min-uptime -1s"},
		{args: "-alerts-match x"}, {args: "-block-on-alerts http://x -alerts-match ("}, {args: "-block-on-alerts prometheus"},
		{args: "-login-policy kick"}, {args: "-reboot-strategy fleet-lock"}, {args: "-fleetlock-url nonsense"}, {args: "-fleetlock-id hostname"},
		{args: "-fleetlock-certfile x"}, {args: "-reboot-strategy fleet-lock -fleetlock-url http://f -group a,b"}, {args: "-state-dir="}, {args: "-hook-dir hooks"},
		{args: "-reboot-window-start 25:00 -reboot-window-length 1h"}, {args: "-reboot-window-timezone Nowhere/None"},
	} {
		if _, err := read(t, "locksmithd", src); !isUsage(err) {
			t.Errorf("%s: got %v, want a wrong command line", src.args, err)
		}
	}
	for _, line := range []string{
		"REBOOT_STRATEGY=x", "LOCKSMITHD_PRIORITY=10", "LOCKSMITHD_GROUP=..", "LOCKSMITHD_LOG_FORMAT=xml", "LOCKSMITHD_PRIORITY=x",
		"LOCKSMITHD_TRIGGER=nonsense", "LOCKSMITHD_REBOOT_WINDOW=tomorrow", "LOCKSMITHD_REBOOT_METHOD=halt",
		"REBOOT_WINDOW_START=4:00", "LOCKSMITHD_LEASE_TTL=1500ms", "LOCKSMITHD_NONSENSE=1", "LOCKSMITHD_DEBUG=perhaps",
	} {
		for _, src := range []sources{{environ: line}, {coreos: line}, {flatcar: line}} {
			if _, err := read(t, "locksmithd", src); err == nil || isUsage(err) {
				t.Errorf("%s: got %v, want a wrong configuration", line, err)
			}
		}
	}
}
