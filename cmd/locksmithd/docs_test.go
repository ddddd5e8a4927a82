package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/internal/envfile"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

var update = flag.Bool("update", false, "write docs/reference/locksmithd.md instead of comparing it")

const reference = "../../docs/reference/locksmithd.md"

// writeReference writes the daemon's page of the command reference.
func writeReference(w io.Writer) {
	cmd := commandLine("locksmithd", func(context.Context, settings) error { return nil }, host{})
	fmt.Fprintf(w, "<!-- Made by: go test ./cmd/locksmithd -run TestReference -update -->\n\n# %s\n\n%s.\n\n    %s\n\n%s\n",
		cmd.Name, strings.ToUpper(cmd.Usage[:1])+cmd.Usage[1:], options.UsageLine(cmd), indentLists(options.DescriptionText(cmd)))
	fmt.Fprint(w, "\nInstalled as `rebootlockd`, the program is the same, with the prefix `REBOOTLOCKD_`.\n\n"+
		"## Options\n\nOptions take one dash or two, and their value after a space or an equals sign.\n\n"+
		"| option | variable | default | meaning |\n|---|---|---|---|\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, d := range options.Describe(cmd.Flags, options.Prefix(cmd.Name)) {
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", d.Synopsis, code(d.Variable), code(d.Default), d.Usage)
	}
	fmt.Fprint(w, "| `-help` | | | show help |\n")
}

// indentLists turns what help indents by two into code blocks.
func indentLists(text string) string {
	var b strings.Builder
	listed := false
	for line := range strings.Lines(text) {
		if is := strings.HasPrefix(line, "  "); is != listed && line != "\n" {
			listed = is
			if is {
				b.WriteString("\n")
			}
		}
		if listed && line != "\n" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestReference(t *testing.T) {
	var want bytes.Buffer
	writeReference(&want)
	if *update {
		if err := os.MkdirAll(filepath.Dir(reference), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(reference, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("the reference is out of date; run: go test ./cmd/locksmithd -run TestReference -update\n%s", diff)
	}
}

// The example of settings names only settings that exist, and is accepted when
// all of it is switched on.
func TestExampleOfSettings(t *testing.T) {
	text, err := os.ReadFile("../../dist/locksmithd.env")
	if err != nil {
		t.Fatal(err)
	}
	var enabled strings.Builder
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = rest
		}
		enabled.WriteString(line)
	}
	vars, err := envfile.Parse(enabled.String(), func(string) bool { return true })
	if err != nil || len(vars) < 8 {
		t.Fatalf("%d settings, %v", len(vars), err)
	}
	known := knownVariables(flags("LOCKSMITHD_"), "LOCKSMITHD_")
	for _, key := range slices.Sorted(maps.Keys(vars)) {
		if !known[key] {
			t.Errorf("unknown setting %s", key)
		}
	}
	if _, err := read(t, "locksmithd", sources{coreos: enabled.String()}); err != nil {
		t.Error(err)
	}
}

// The unit is one that systemd understands, and says what the daemon relies on.
func TestUnit(t *testing.T) {
	const path = "../../dist/locksmithd.service"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, line := range []string{
		"Type=notify",          // the daemon says when it is ready
		"Restart=on-failure",   // with "always" the strategy off would start it over and over
		"WatchdogSec=90s",      // it pings
		"UMask=0022",           // the directories it makes are for others to enter
		"ProtectSystem=strict", // everything below but what the next lines allow
		"StateDirectory=locksmith",
		"RuntimeDirectory=locksmith update-engine", // the defaults of -control-socket and -coordinator-file
		"RuntimeDirectoryPreserve=yes",             // a request for a reboot outlives a crash
		"EnvironmentFile=-/etc/coreos/update.conf",
		"EnvironmentFile=-/etc/flatcar/update.conf",
		"EnvironmentFile=-/etc/locksmith/locksmithd.env",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("the unit lacks %s", line)
		}
	}
	for _, line := range lines {
		key, _, _ := strings.Cut(line, "=")
		if slices.Contains([]string{"ProtectProc", "ProcSubset", "ProtectKernelTunables", "ProtectControlGroups", "MountAPIVFS"}, key) {
			t.Errorf("%s mounts another /proc, which hides a container's own boot id", line)
		}
	}
	coreos, flatcar := slices.Index(lines, "EnvironmentFile=-/etc/coreos/update.conf"), slices.Index(lines, "EnvironmentFile=-/etc/flatcar/update.conf")
	if coreos > flatcar {
		t.Error("the later file must win, as in the daemon")
	}
	verifyUnit(t, string(text))
}

// verifyUnit has systemd read the unit, with a program that exists here.
func verifyUnit(t *testing.T, text string) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		skip.Loudly(t, "whether systemd understands the unit: install Debian's systemd for systemd-analyze")
	}
	unit := filepath.Join(t.TempDir(), "locksmithd.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(text, "/usr/bin/locksmithd", "/bin/true", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "locksmithd.service:") {
		t.Errorf("%v: %s", err, out)
	}
}
