package cli

import (
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 1500 * time.Millisecond: "1s", 59 * time.Second: "59s", time.Minute: "1m0s",
		192 * time.Second: "3m12s", time.Hour - 1: "59m59s", time.Hour: "1h00m", 2*time.Hour + 5*time.Minute: "2h05m",
		47 * time.Hour: "47h00m", 103 * time.Hour: "4d7h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", " a\nb\tc ": "a b c", "\x1b[2Jx": "\ufffd[2Jx", "ünïcode": "ünïcode", "\u009b1m": "\ufffd1m",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"web": "web", "prod/database": "prod/database", "my group": "'my group'", "": "''", "it's": `'it'\''s'`,
		"-x": "'-x'", "$(reboot)": "'$(reboot)'",
	} {
		if got := quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	for _, tt := range []struct {
		colours bool
		want    string
	}{
		{false, "ID    STATE\nä     up\nlong  -\n"},
		{true, "\x1b[1mID\x1b[0m    \x1b[1mSTATE\x1b[0m\nä     \x1b[31mup\x1b[0m\nlong  -\n"},
	} {
		tab := newTable(tt.colours, "ID", "STATE")
		tab.add(cell{text: "ä"}, cell{"up", red})
		tab.add(cell{text: "long"}, cell{})
		if got := tab.String(); got != tt.want {
			t.Errorf("colours %v:\n%q\nwant\n%q", tt.colours, got, tt.want)
		}
	}
}

// Who is absent from etcd matters only of those who should be there.
func TestAgentState(t *testing.T) {
	for _, tt := range []struct {
		by      string
		present bool
		want    string
	}{
		{locksmith.ByAgent, true, "up"}, {locksmith.ByAgent, false, "stale"}, {locksmith.ByReboot, false, "stale"},
		{"", false, "stale"}, {locksmith.ByLock, false, ""}, {locksmith.ByLock, true, "up"}, {locksmith.ByWithLock, false, ""},
	} {
		h := locksmith.HolderStatus{Holder: locksmith.Holder{By: tt.by}, Present: tt.present}
		if got := agentState(h, time.Now()).text; got != tt.want {
			t.Errorf("by %q, present %v: %q, want %q", tt.by, tt.present, got, tt.want)
		}
	}
}
