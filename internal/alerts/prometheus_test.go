package alerts

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

const rules = `groups:
- name: test
  interval: 1s
  rules:
  - {alert: Broken, expr: "vector(1)", labels: {instance: "web-1:9100"}}
  - {alert: Soon, expr: "vector(1)", for: 1h}
  - {alert: Fine, expr: "vector(1) > 2"}
`

// A real Prometheus, behind a prefix, with one alert that fires, one that is pending
// and one that is not active.
func TestRealPrometheus(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		skip.Loudly(t, "against a real Prometheus: apt-get install prometheus")
	}
	url := startPrometheus(t, program)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := check(t, Config{URL: url, IncludePending: true})
	got := awaitVetoes(ctx, t, c, 2) // those of the first evaluation
	for i, want := range []string{
		`^alert Broken: firing since \d{4}-\d\d-\d\d \d\d:\d\d \S+ on web-1:9100$`,
		`^alert Soon: pending since \d{4}-\d\d-\d\d \d\d:\d\d \S+$`,
	} {
		if !regexp.MustCompile(want).MatchString(got[i]) {
			t.Errorf("got %s, want %s", got[i], want)
		}
	}
	if got := shown(check(t, Config{URL: url}).Run(ctx, agent.About{})); len(got) != 1 || !strings.HasPrefix(got[0], "alert Broken: firing since ") {
		t.Errorf("without pending ones: got %q", got)
	}
	if err := check(t, Config{URL: url, Ignore: regexp.MustCompile("Broken")}).Run(ctx, agent.About{}); err != nil {
		t.Errorf("ignored: got %v", err)
	}
	wrong := strings.TrimSuffix(url, "/prom")
	if err := check(t, Config{URL: wrong}).Run(ctx, agent.About{}); err == nil || !strings.HasSuffix(err.Error(), ": it answers 404 Not Found") {
		t.Errorf("without the prefix: got %v", err)
	}
}

// awaitVetoes asks again and again until there are n vetoes. Prometheus has no event
// for the evaluation of its rules.
func awaitVetoes(ctx context.Context, t *testing.T, c *Check, n int) []string {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		got := shown(c.Run(ctx, agent.About{}))
		if len(got) == n && !strings.HasPrefix(got[0], "no veto") {
			return got
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("not %d vetoes, but %q", n, got)
		}
	}
}

func startPrometheus(t *testing.T, program string) (url string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yml": rules, "prometheus.yml": "rule_files: [rules.yml]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--web.external-url=http://"+address+"/prom")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus says:\n%s", &log)
		}
	})
	return "http://" + address + "/prom"
}
