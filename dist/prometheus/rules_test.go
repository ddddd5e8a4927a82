package prometheus_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

const rules = "locksmith.rules.yml"

// promtool runs it, and fails the test where it does.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		skip.Loudly(t, "promtool is missing (Debian's package prometheus)")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// alerts are the texts of the rules by the alerts' names.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	list := make(map[string]string)
	for _, part := range strings.Split(read(t, rules), "- alert: ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		list[name] = text
	}
	return list
}

func TestRules(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", rules)
	reference, page := read(t, "../../docs/reference/locksmithctl.md"), read(t, "../../docs/metrics.md")
	command := regexp.MustCompile("`(?:locksmithctl|{{ \\$ctl }})(?: -[a-z]+ [A-Z'][^ ]*)* ([a-z][a-z-]*)")
	for name, text := range alerts(t) {
		for _, part := range []string{"summary: ", "description: ", "severity: ", "for: "} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %s", name, part)
			}
		}
		commands := command.FindAllStringSubmatch(text, -1)
		if len(commands) == 0 {
			t.Errorf("%s names no command that helps", name)
		}
		for _, c := range commands {
			if !strings.Contains(reference, "\n## locksmithctl "+c[1]+"\n") && !strings.Contains(reference, "## "+c[1]+"\n") {
				t.Errorf("%s: there is no locksmithctl %s", name, c[1])
			}
		}
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
		known(t, name, text)
	}
}

// metric finds what may be a metric of ours or of the process.
var metric = regexp.MustCompile(`\b(?:locksmith|process|go)_[a-z_]+`)

// known fails the test where an expression names a metric that is not in the tables of
// docs/metrics.md, which the packages' own tests compare with what there is.
func known(t *testing.T, where, expr string) {
	t.Helper()
	names := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1)
	if len(names) < 40 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(names))
	}
	for _, used := range metric.FindAllString(expr, -1) {
		if !slices.ContainsFunc(names, func(n []string) bool {
			return used == n[1] || n[2] == "histogram" && slices.Contains([]string{n[1] + "_bucket", n[1] + "_sum", n[1] + "_count"}, used)
		}) {
			t.Errorf("%s names %s, which there is not", where, used)
		}
	}
}

// firing is one case: at the end of hours in which series had these values a minute,
// as promtool writes them, the alert fires for these labels, or for none.
type firing struct {
	alert  string
	hours  int
	series map[string]string
	labels string
}

// now is promtool's time at that hour, in seconds; it begins with 0.
func now(hour int) int { return hour * 3600 }

func cases() []firing {
	web, web2 := `{group="web",instance="a"}`, `{group="web",instance="b"}`
	const held, queue, free = "locksmith_group_oldest_holder_since_timestamp_seconds", "locksmith_group_queue_length", "locksmith_group_slots_free"
	const paused, newest = "locksmith_group_paused_since_timestamp_seconds", "locksmith_group_newest_holder_since_timestamp_seconds"
	requests := func(code string) string {
		return `locksmith_server_requests_total{kind="api",instance="a",code="` + code + `"}`
	}
	idle := map[string]string{queue + web: "3x999", free + web: "1x999", paused + web: "0x999", newest + web: "60x999"}
	with := func(series map[string]string, key, value string) map[string]string {
		other := map[string]string{key: value}
		for k, v := range series {
			if k != key {
				other[k] = v
			}
		}
		return other
	}
	inWeb := `group="web",severity="warning"`
	return []firing{
		{"LocksmithHolderStale", 1, map[string]string{"locksmith_group_holders_stale" + web: "1x999", "locksmith_group_holders_stale" + web2: "1x999"}, inWeb},
		{"LocksmithHolderStale", 1, map[string]string{"locksmith_group_holders_stale" + web: "0x999"}, ""},
		{"LocksmithHolderStale", 1, map[string]string{"locksmith_group_holders_stale" + web: "0x57 1x9"}, ""},
		{"LocksmithChecksFailed", 1, map[string]string{"locksmith_group_holders_failed" + web: "1x999"}, `group="web",severity="critical"`},
		{"LocksmithChecksFailed", 1, map[string]string{"locksmith_group_holders_failed" + web: "0x999"}, ""},
		{"LocksmithNothingGranted", 4, idle, inWeb},
		{"LocksmithNothingGranted", 4, with(idle, newest+web, "60+60x999"), ""},
		{"LocksmithNothingGranted", 4, with(idle, newest+web, "60x200 12000x99"), ""},
		{"LocksmithNothingGranted", 4, with(idle, queue+web, "0x200 3x99"), ""},
		{"LocksmithNothingGranted", 4, with(idle, queue+web, "0x999"), ""},
		{"LocksmithNothingGranted", 4, with(idle, free+web, "0x999"), ""},
		{"LocksmithNothingGranted", 4, with(idle, paused+web, "60x999"), ""},
		{"LocksmithSlotHeldLong", 4, map[string]string{held + web: fmt.Sprintf("%dx999", now(1))}, inWeb},
		{"LocksmithSlotHeldLong", 4, map[string]string{held + web: fmt.Sprintf("%dx999", now(3))}, ""},
		{"LocksmithSlotHeldLong", 4, map[string]string{held + web: "0x999"}, ""},
		{"LocksmithPausedLong", 30, map[string]string{paused + web: fmt.Sprintf("%dx9999", now(1)), paused + web2: fmt.Sprintf("%dx9999", now(1))}, inWeb},
		{"LocksmithPausedLong", 30, map[string]string{paused + web: fmt.Sprintf("%dx9999", now(10))}, ""},
		{"LocksmithPausedLong", 30, map[string]string{paused + web: "0x9999"}, ""},
		{"LocksmithSemaphoreInconsistent", 1, map[string]string{"locksmith_group_faults" + web: "2x999"}, inWeb},
		{"LocksmithSemaphoreInconsistent", 1, map[string]string{"locksmith_group_faults" + web: "0x999"}, ""},
		{"LocksmithStoreAway", 1, map[string]string{`locksmith_server_store_reachable{instance="a"}`: "1x20 0x99"}, `instance="a",severity="critical"`},
		{"LocksmithStoreAway", 1, map[string]string{`locksmith_server_store_reachable{instance="a"}`: "0x58 1x99"}, ""},
		{"LocksmithServerErrors", 1, map[string]string{requests("200"): "0+90x99", requests("503"): "0+10x99"}, `instance="a",kind="api",severity="warning"`},
		{"LocksmithServerErrors", 1, map[string]string{requests("200"): "0+99x99", requests("503"): "0+1x99"}, ""},
		{"LocksmithServerErrors", 1, map[string]string{requests("200"): "0+90x99", requests("404"): "0+90x99"}, ""},
		{"LocksmithdChecksFailed", 1, map[string]string{`locksmith_phase{instance="m",phase="failed"}`: "1x99"}, `instance="m",phase="failed",severity="critical"`},
		{"LocksmithdChecksFailed", 1, map[string]string{`locksmith_phase{instance="m",phase="idle"}`: "1x99", `locksmith_phase{instance="m",phase="failed"}`: "0x99"}, ""},
		{"LocksmithdSlotHeldLong", 4, map[string]string{`locksmith_slot_held_since_timestamp_seconds{instance="m"}`: "60x999"}, `instance="m",severity="warning"`},
		{"LocksmithdSlotHeldLong", 4, map[string]string{`locksmith_slot_held_since_timestamp_seconds{instance="m"}`: "0x999"}, ""},
		{"LocksmithdStoreAway", 1, map[string]string{`locksmith_etcd_connected{instance="m"}`: "0x99"}, `instance="m",severity="warning"`},
		{"LocksmithdStoreAway", 1, map[string]string{`locksmith_etcd_connected{instance="m"}`: "1x50 0x9"}, ""},
		{"LocksmithdTriggerFails", 30, map[string]string{`locksmith_trigger_failed{instance="m",trigger="uptime"}`: "1x9999"}, `instance="m",severity="info",trigger="uptime"`},
		{"LocksmithdTriggerFails", 30, map[string]string{`locksmith_trigger_failed{instance="m",trigger="uptime"}`: "1x900 0x1 1x999"}, ""},
	}
}

// Each alert fires when it should, and does not when it should not.
func TestAlerts(t *testing.T) {
	fires, rests := make(map[string]bool), make(map[string]bool)
	path, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 2m\ntests:\n", path)
	for i, c := range cases() {
		fmt.Fprintf(&b, "  - name: %q\n    interval: 1m\n    input_series:\n", fmt.Sprintf("%s %d", c.alert, i))
		for series, values := range c.series {
			fmt.Fprintf(&b, "      - {series: '%s', values: %q}\n", series, values)
		}
		fmt.Fprintf(&b, "    promql_expr_test:\n      - expr: 'ALERTS{alertname=%q,alertstate=\"firing\"}'\n        eval_time: %dh\n        exp_samples:", c.alert, c.hours)
		if c.labels == "" {
			b.WriteString(" []\n")
			rests[c.alert] = true
			continue
		}
		fires[c.alert] = true
		fmt.Fprintf(&b, "\n          - {labels: 'ALERTS{alertname=%q,alertstate=\"firing\",%s}', value: 1}\n", c.alert, c.labels)
	}
	b.WriteString(annotations(t))
	promtool(t, "test", "rules", write(t, b.String()))
	for name := range alerts(t) {
		if !fires[name] || !rests[name] {
			t.Errorf("%s has no case in which it fires, or none in which it does not", name)
		}
	}
}

// annotations are cases for what an alert says: of the default group no -group, and
// names in quotes.
func annotations(t *testing.T) string {
	t.Helper()
	_, text, _ := strings.Cut(alerts(t)["LocksmithHolderStale"], "description: >-\n")
	_, text, _ = strings.Cut(text, "{{ end -}}\n") // what comes before picks the command
	text, _, _ = strings.Cut(text, "\n\n")
	text = strings.Join(strings.Fields(text), " ")
	var b strings.Builder
	for group, command := range map[string]string{"default group": "locksmithctl", "rack 7": "locksmithctl -group 'rack 7'"} {
		fmt.Fprintf(&b, "  - interval: 1m\n    input_series:\n      - {series: 'locksmith_group_holders_stale{group=%q}', values: \"2x99\"}\n", group)
		fmt.Fprintf(&b, "    alert_rule_test:\n      - eval_time: 1h\n        alertname: LocksmithHolderStale\n        exp_alerts:\n")
		fmt.Fprintf(&b, "          - exp_labels: {severity: warning, group: %q}\n            exp_annotations:\n", group)
		fmt.Fprintf(&b, "              summary: %q\n", "2 silent in group "+group+", and the slot is kept")
		fmt.Fprintf(&b, "              description: %q\n", strings.ReplaceAll(text, "{{ $ctl }}", command))
	}
	return b.String()
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.yml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// dashboard is what of a Grafana dashboard is checked.
type dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct{ List []struct{ Name, Expr string } }
}

type panel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  *struct{ UID string }
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct{ RefID, Expr string }
}

// The dashboard's queries are PromQL, about metrics that there are; its panels have
// places of their own and say what they show.
func TestDashboard(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "../grafana/locksmith.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.Title != "locksmith" || d.UID != "locksmith" || d.SchemaVersion < 36 || len(d.Panels) < 20 || len(d.Templating.List) != 2 {
		t.Errorf("%q %q, %d panels, %d variables", d.Title, d.UID, len(d.Panels), len(d.Templating.List))
	}
	exprs := make(map[string]string) // by where they are
	for _, v := range d.Templating.List {
		known(t, v.Name, v.Definition)
	}
	for _, a := range d.Annotations.List {
		exprs["annotation "+a.Name] = a.Expr
	}
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%s: id %d is not its own", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Errorf("%s lies over %q at %d, %d", p.Title, other, x, y)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource == nil || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d %q says not what it shows, or has no queries or another data source", p.ID, p.Title)
		}
		for _, q := range p.Targets {
			exprs[p.Title+" "+q.RefID] = q.Expr
		}
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$group", ".*")
	var b strings.Builder
	b.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for where, expr := range exprs {
		known(t, where, expr)
		plain := variables.Replace(expr)
		if strings.Contains(plain, "$") {
			t.Errorf("%s has a variable that there is not: %s", where, expr)
		}
		fmt.Fprintf(&b, "      - {record: %q, expr: %q}\n", fmt.Sprintf("q%d", strings.Count(b.String(), "\n")), plain)
	}
	promtool(t, "check", "rules", "--lint=none", write(t, b.String()))
}
