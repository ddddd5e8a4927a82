package locksmith_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The architecture, as docs/design.md tells it, in a form that can fail.

const module = "github.com/locksmith-reboot/locksmith"

// uses lists, for each package, the packages of this module it may import. The
// root package, written ".", is the vocabulary of all of them but those that need
// no words. Programs (cmd/…) and suites (test/…) wire everything and are not here.
var uses = map[string][]string{
	".":                {},
	"internal/window":  {},
	"internal/agent":   {"."},
	"internal/options": {"."},
	"internal/envfile": {"."},

	// Adapters: each knows one thing outside, and none of them knows another.
	// The bus is how three of them reach theirs. Of the agent they may use only
	// the types in which it says what it needs; agentTypes has the list.
	"internal/etcd":        {"."},
	"internal/bus":         {"."},
	"internal/login1":      {".", "internal/bus", "internal/agent"},
	"internal/systemd":     {".", "internal/bus", "internal/agent"},
	"internal/trigger":     {".", "internal/bus", "internal/command", "internal/agent"},
	"internal/packages":    {"internal/agent"},
	"internal/command":     {},
	"internal/hook":        {".", "internal/command", "internal/agent"},
	"internal/memory":      {"internal/agent", "internal/durable"},
	"internal/control":     {".", "internal/agent"},
	"internal/alerts":      {"internal/agent"},
	"internal/coordinator": {"."},
	"internal/journal":     {},
	"internal/metrics":     {".", "internal/agent"},
	"internal/embedded":    {},

	// Files that survive a loss of power, for whoever has one.
	"internal/durable": {},

	// locksmith-server: who may do what, what they do, and how they reach it.
	"fleetlock":             {},
	"internal/access":       {"."},
	"internal/admin":        {".", "internal/access"},
	"internal/api":          {"."},
	"internal/server":       {".", "fleetlock", "internal/access", "internal/admin", "internal/api"},
	"internal/rollout":      {"."},
	"internal/dashboard":    {".", "internal/access", "internal/admin", "internal/rollout"},
	"internal/fleetmetrics": {"."},

	// The slots of a machine whose lock is a FleetLock server.
	"internal/lockclient": {".", "fleetlock", "internal/durable"},

	"internal/cli":        {".", "internal/options", "internal/window"},
	"internal/cli/gendoc": {"internal/cli"},

	// Simulated machines are the real agent, whole.
	"internal/fleet": {".", "internal/agent"},

	// For tests.
	"internal/etcdtest": {"internal/embedded"},
	"internal/dbustest": {},
	"internal/skip":     {},
	"dist/hooks":        {},
	"dist/prometheus":   {},
}

// agentTypes are what adapters may use of internal/agent: what passes through its
// interfaces, and what it says of itself.
var agentTypes = []string{"Session", "Need", "Status", "Machine", "Trigger", "About", "Check", "Veto", "Memory", "Steps", "Rehearser"}

// libraries lists, for each library in use, who may import it ("*": everybody);
// "cmd/" stands for all below it. A library that is missing here is not in use:
// add it together with the reason why it is needed.
var libraries = map[string][]string{
	"go.etcd.io/etcd/server": {"internal/embedded"},
	"go.etcd.io/etcd/client": {"internal/etcd", "internal/etcdtest", "test/"},
	"go.etcd.io/etcd/api":    {"internal/etcd", "internal/etcdtest", "test/"},
	"google.golang.org/grpc": {"internal/etcd", "internal/etcdtest", "internal/embedded", "test/"},
	// Only to silence etcd, or to pass on what it says.
	"go.uber.org/zap":              {"internal/embedded", "internal/etcd", "internal/etcdtest", "test/"},
	"github.com/godbus/dbus":       {"internal/bus", "internal/login1", "internal/systemd", "internal/trigger", "internal/dbustest", "test/"},
	"github.com/coreos/go-systemd": {"cmd/"},
	// Watches the files that say "reboot needed".
	"github.com/fsnotify/fsnotify": {"internal/trigger"},
	"github.com/urfave/cli":        {"internal/cli", "internal/cli/gendoc", "internal/options", "cmd/", "test/"},
	// The exposition format, and the registry that holds its rules.
	"github.com/prometheus": {"internal/metrics", "internal/fleetmetrics"},
	// Restores snapshots.
	"go.etcd.io/etcd/etcdutl": {"internal/embedded"},
	// A real browser, and the API's description held against its answers: for tests.
	"github.com/chromedp":           {"internal/dashboard", "test/"},
	"github.com/getkin/kin-openapi": {"internal/server"},
	// Bounds the connections that are open at a time.
	"golang.org/x/net":  {"internal/server"},
	"golang.org/x/sync": {"*"},
	// Holds what clients of the lock were told against a model.
	"github.com/anishathalye/porcupine": {"test/"},
	// The disks of members of etcd, full and slow.
	"github.com/hanwen/go-fuse/v2": {"test/"},
	"golang.org/x/sys":             {"*"},
}

// banned are never imported, not by tests either.
var banned = []string{
	"github.com/spf13/viper", "github.com/spf13/cobra", "github.com/sirupsen/logrus", "k8s.io/", "github.com/gorilla/",
	"github.com/golang/mock", "go.uber.org/mock", "github.com/stretchr/testify", "github.com/pkg/errors",
}

// pkg is what the go command says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Doc          string
	Dir          string
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
}

// path is the package's path below the module, "." for its root.
func (p pkg) path() string { return below(p.ImportPath) }

func below(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func ours(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// standard: the first part of a path outside the standard library has a dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func inTree(path, root string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,Imports,Deps,TestImports,XTestImports,GoFiles", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 15 {
		t.Fatalf("go list names %d packages", len(list))
	}
	return list
}

func TestArchitecture(t *testing.T) {
	// The results of tests are cached by the files they open. Opening all sources
	// here makes this test run again when one of them changes.
	sources(t)
	list := packages(t)
	t.Run("own packages", func(t *testing.T) { checkUses(t, list) })
	t.Run("libraries", func(t *testing.T) { checkLibraries(t, list) })
	t.Run("pure packages", func(t *testing.T) { checkPure(t, list) })
	t.Run("programs", func(t *testing.T) { checkPrograms(t, list) })
	t.Run("names and comments", func(t *testing.T) { checkNames(t, list) })
	t.Run("the agent's types", func(t *testing.T) { checkAgentTypes(t, list) })
}

func checkUses(t *testing.T, list []pkg) {
	for _, p := range list {
		path := p.path()
		if inTree(path, "cmd") || inTree(path, "test") {
			continue
		}
		allowed, known := uses[path]
		if !known {
			t.Errorf("package %s is new: say in the table of this test what it may import", path)
		}
		for _, i := range p.Imports {
			if ours(i) && !slices.Contains(allowed, below(i)) {
				t.Errorf("package %s must not import %s", path, below(i))
			}
		}
	}
}

func checkLibraries(t *testing.T, list []pkg) {
	for _, p := range list {
		for _, i := range p.Imports {
			if ours(i) || standard(i) {
				continue
			}
			var who []string
			for library, importers := range libraries {
				if inTree(i, library) {
					who = importers
				}
			}
			allowed := func(w string) bool {
				return w == "*" || w == p.path() || strings.HasSuffix(w, "/") && inTree(p.path(), w)
			}
			if !slices.ContainsFunc(who, allowed) {
				t.Errorf("package %s must not import %s", p.path(), i)
			}
		}
		for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, b := range banned {
				if inTree(i, b) {
					t.Errorf("package %s imports %s, which this project does without", p.path(), i)
				}
			}
		}
	}
}

func checkPure(t *testing.T, list []pkg) {
	for _, p := range list {
		for _, d := range p.Deps {
			switch p.path() {
			case ".", "internal/window":
				if !standard(d) {
					t.Errorf("package %s depends on %s, and may depend on the standard library only", p.path(), d)
				}
			case "internal/agent", "internal/fleet":
				if !standard(d) && !ours(d) || inTree(d, "net") {
					t.Errorf("package %s depends on %s: it must know neither etcd, D-Bus nor the network", p.path(), d)
				}
			}
		}
	}
}

func checkPrograms(t *testing.T, list []pkg) {
	seen := 0
	for _, p := range list {
		if !inTree(p.path(), "cmd") {
			continue
		}
		seen++
		for _, d := range p.Deps {
			server := inTree(d, "go.etcd.io/etcd/server") || inTree(d, "go.etcd.io/bbolt") || d == module+"/internal/embedded"
			if server && p.path() != "cmd/locksmith-server" {
				t.Errorf("%s links the etcd server: %s", p.path(), d)
			}
			if d == "testing" || ours(d) && strings.HasSuffix(d, "test") || ours(d) && inTree(below(d), "test") {
				t.Errorf("%s links what is for tests: %s", p.path(), d)
			}
		}
	}
	if seen < 3 {
		t.Errorf("%d programs, want at least locksmithctl, locksmithd and locksmith-server", seen)
	}
}

func checkNames(t *testing.T, list []pkg) {
	vague := []string{"util", "utils", "common", "types", "pkg", "helper", "helpers", "misc", "base", "shared"}
	for _, p := range list {
		for _, part := range append(strings.Split(p.path(), "/"), p.Name) {
			if slices.Contains(vague, part) {
				t.Errorf("package %s: %q says nothing about what is in it", p.path(), part)
			}
		}
		start := "Package " + p.Name + " "
		if p.Name == "main" {
			start = "Command " + filepath.Base(p.ImportPath) + " "
		}
		if len(p.GoFiles) > 0 && !strings.HasPrefix(p.Doc, start) {
			t.Errorf("package %s has no comment that starts with %q", p.path(), start)
		}
	}
}

// checkAgentTypes looks at what adapters use of the agent. The programs and the
// simulated machines have all of it.
func checkAgentTypes(t *testing.T, list []pkg) {
	for _, p := range list {
		path := p.path()
		if path == "internal/fleet" || inTree(path, "cmd") || inTree(path, "test") ||
			!slices.Contains(p.Imports, module+"/internal/agent") {
			continue
		}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, used := range selected(file, module+"/internal/agent") {
				if !slices.Contains(agentTypes, used) {
					t.Errorf("%s/%s uses agent.%s: adapters may use only its interfaces and what passes through them", path, name, used)
				}
			}
		}
	}
}

// selected is what file uses of the package at importPath.
func selected(file *ast.File, importPath string) []string {
	name := ""
	for _, i := range file.Imports {
		if p, _ := strconv.Unquote(i.Path.Value); p == importPath {
			name = p[strings.LastIndex(p, "/")+1:]
			if i.Name != nil {
				name = i.Name.Name
			}
		}
	}
	var used []string
	if name == "" {
		return used
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == name {
				used = append(used, s.Sel.Name)
			}
		}
		return true
	})
	return used
}

// sources is the text of every Go file of the module, and of go.mod.
func sources(t *testing.T) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata"):
			return fs.SkipDir
		case filepath.Ext(path) == ".go" || path == "go.mod":
			files[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// longest is how many lines a file may have. Most have less than 400; one that
// needs more than this has two subjects.
const longest = 500

func TestSources(t *testing.T) {
	for path, text := range sources(t) {
		if filepath.Ext(path) != ".go" {
			continue
		}
		lines := 0
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			lines++
		}
		if lines > longest {
			t.Errorf("%s has %d lines, more than %d: split it", path, lines, longest)
		}
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, i := range file.Imports { // the go command leaves such files out where cgo is off
			if i.Path.Value == `"C"` {
				t.Errorf("%s uses cgo", path)
			}
		}
		// SetOutput only says where to go with what Go's own packages write there.
		if used := selected(file, "log"); slices.ContainsFunc(used, func(name string) bool { return name != "SetOutput" }) {
			t.Errorf("%s writes to the log package: loggers are handed in, as *slog.Logger", path)
		}
		for _, used := range selected(file, "log/slog") {
			if slices.Contains([]string{"Default", "SetDefault", "Debug", "Info", "Warn", "Error", "Log", "With"}, used) {
				t.Errorf("%s uses slog.%s, the program's global logger: loggers are handed in", path, used)
			}
		}
	}
}
