package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/envfile"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

var update = flag.Bool("update", false, "write docs/reference/locksmith-server.md instead of comparing it")

const reference = "../../docs/reference/locksmith-server.md"

// The reference is what the program says of itself.
func TestReference(t *testing.T) {
	var page, stderr bytes.Buffer
	fmt.Fprint(&page, "<!-- Made by: go test ./cmd/locksmith-server -run TestReference -update -->\n\n# locksmith-server\n")
	pages := [][]string{{"locksmith-server", "help"}}
	for _, c := range (&app{program: "locksmith-server"}).root().Commands {
		if c.Name != "help" {
			pages = append(pages, []string{"locksmith-server", "help", c.Name})
		}
	}
	for _, args := range pages {
		var text bytes.Buffer
		if status := run(t.Context(), args, &text, &stderr, surroundings{nil, connect}); status != 0 {
			t.Fatalf("%q: %d %s", args, status, stderr.String())
		}
		if len(args) > 2 {
			fmt.Fprintf(&page, "\n## %s\n", args[2])
		}
		fmt.Fprintln(&page)
		for line := range bytes.Lines(text.Bytes()) {
			if len(bytes.TrimSpace(line)) > 0 {
				page.WriteString("    ")
			}
			page.Write(line)
		}
	}
	if *update {
		if err := os.WriteFile(reference, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(got)); diff != "" {
		t.Errorf("the reference is out of date; run: go test ./cmd/locksmith-server -run TestReference -update\n%s", diff)
	}
}

// The example of settings names only settings that exist, and is accepted when all of
// it is switched on, with the embedded etcd and with a cluster.
func TestExampleOfSettings(t *testing.T) {
	text, err := os.ReadFile("../../dist/locksmith-server.env")
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
	if err != nil || len(vars) < 12 {
		t.Fatalf("%d settings, %v", len(vars), err)
	}
	for _, cluster := range []bool{false, true} {
		var environ []string
		for key, value := range vars {
			ofEmbedded := key == "LOCKSMITH_SERVER_ETCD_LISTEN"
			ofCluster := !ofEmbedded && strings.HasPrefix(key, "LOCKSMITH_SERVER_E")
			if cluster && !ofEmbedded || !cluster && !ofCluster {
				environ = append(environ, key+"="+value)
			}
		}
		if _, err := read(t, environ); err != nil {
			t.Errorf("%q: %v", environ, err)
		}
	}
}

// The unit is one that systemd understands, and says what the server relies on.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("../../dist/locksmith-server.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, line := range []string{
		"Type=notify",             // the server says when it is ready
		"WatchdogSec=60s",         // it pings
		"Restart=on-failure",      //
		"ProtectSystem=strict",    // everything but the state directory
		"StateDirectoryMode=0700", // the default of -data-dir; others may not enter it
		"StateDirectory=locksmith-server",
		"RestartPreventExitStatus=2",
		"LimitNOFILE=65536", // more than -max-connections
		"EnvironmentFile=-/etc/locksmith-server/locksmith-server.env",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("the unit lacks %s", line)
		}
	}
	if slices.Contains(lines, "ProcSubset=pid") {
		t.Error("ProcSubset=pid hides net.core.somaxconn, and the queue of new connections is short then")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		skip.Loudly(t, "whether systemd understands the unit: install Debian's systemd for systemd-analyze")
	}
	unit := filepath.Join(t.TempDir(), "locksmith-server.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), "/usr/bin/locksmith-server", "/bin/true", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "locksmith-server.service:") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=15", unit).CombinedOutput()
	if err != nil {
		t.Errorf("the unit is more exposed than 1.5 of 10: %v %s", err, out)
	}
}

// The page for operators names only commands and options that exist, and settings too.
func TestServerPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/server.md")
	if err != nil {
		t.Fatal(err)
	}
	root := (&app{program: "locksmith-server"}).root()
	options := func(c *cli.Command) []string {
		var names []string
		for _, f := range c.Flags {
			names = append(names, f.Names()...)
		}
		return names
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	lines := 0
	for line := range strings.Lines(joined) {
		line, _, _ = strings.Cut(line, " #")
		words := strings.Fields(line)
		if !strings.HasPrefix(line, "    ") || len(words) == 0 || words[0] != "locksmith-server" {
			continue
		}
		lines++
		c := root
		if len(words) > 1 && !strings.HasPrefix(words[1], "-") {
			if c = root.Command(words[1]); c == nil {
				t.Errorf("%s: no such command", line)
				continue
			}
		}
		for _, w := range words[1:] {
			if name, ok := strings.CutPrefix(w, "-"); ok && !slices.Contains(options(c), name) {
				t.Errorf("%s: there is no -%s", line, name)
			}
		}
	}
	if lines < 8 {
		t.Errorf("%d command lines", lines)
	}
	for _, m := range regexp.MustCompile(`LOCKSMITH_SERVER_([A-Z_]+)`).FindAllStringSubmatch(joined, -1) {
		if name := strings.ToLower(strings.ReplaceAll(m[1], "_", "-")); !slices.Contains(options(root), name) {
			t.Errorf("there is no option -%s for %s", name, m[0])
		}
	}
}
