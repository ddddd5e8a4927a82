package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

// says is a check that answers at once, or once its context has ended.
type says struct {
	name  string
	err   error
	waits bool
}

func (s says) Name() string { return s.name }
func (s says) Run(ctx context.Context, _ About) error {
	if s.waits {
		<-ctx.Done()
		return fmt.Errorf("backup runs: %w", context.Cause(ctx))
	}
	return s.err
}

func TestRunChecks(t *testing.T) {
	backup, yum := &Veto{By: "20-backup", Reason: "running until 04:00"}, &Veto{By: "yum (pid 7)", Reason: "at work"}
	for _, tt := range []struct {
		name   string
		checks []Check
		want   []Veto
	}{
		{"none", nil, nil},
		{"all pass", []Check{says{name: "a"}, says{name: "b"}}, nil},
		{"an error under the check's name", []Check{says{name: "a"}, says{name: "b", err: errBoom}}, []Veto{{"b", "errBoom"}}},
		{"a veto under its own", []Check{says{name: "check.d", err: backup}}, []Veto{*backup}},
		{"in their order", []Check{says{name: "a", err: errBoom}, says{name: "b", err: yum}, says{name: "c", err: errBoom}},
			[]Veto{{"a", "errBoom"}, *yum, {"c", "errBoom"}}},
		{"joined, each under its own", []Check{says{name: "check.d", err: errors.Join(backup, yum)}}, []Veto{*backup, *yum}},
		{"wrapped and joined", []Check{says{name: "check.d", err: fmt.Errorf("check.d: %w", errors.Join(backup, fmt.Errorf("x: %w", yum)))}}, []Veto{*backup, *yum}},
		{"joined with an error that is none", []Check{says{name: "check.d", err: errors.Join(backup, errors.New("30-x is writable by others"))}},
			[]Veto{*backup, {"check.d", "30-x is writable by others"}}},
		{"joined errors in one line", []Check{says{name: "check.d", err: errors.Join(errBoom, errBoom)}}, []Veto{{"check.d", "errBoom; errBoom"}}},
		{"text around an error stays", []Check{says{name: "a", err: fmt.Errorf("query: %w", errBoom)}}, []Veto{{"a", "query: errBoom"}}},
		{"no answer in time", []Check{says{name: "a", waits: true}, says{name: "b", err: yum}}, []Veto{{"a", "backup runs: no answer within 1m0s"}, *yum}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := runChecks(t.Context(), tt.checks, About{}, time.Minute)
				if diff := cmp.Diff(tt.want, vetoesOf(err)); diff != "" || (err == nil) != (tt.want == nil) {
					t.Errorf("%v: %s", err, diff)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// What blocks is shown under its names, asked again with growing pauses of up to a
// minute, and asked once more right before the reboot.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.failing["check"] = errors.Join(&Veto{By: "20-backup", Reason: "running"}, &Veto{By: "apt-get (pid 7)", Reason: "at work"})
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Hour)
		s := r.Status()
		if s.Phase != locksmith.PhaseWindow || s.Waiting != "blocked by 20-backup: running; apt-get (pid 7): at work" || w.count("queue") != 0 {
			t.Errorf("%+v", s)
		}
		if n := w.count("check"); n < 55 || n > 130 {
			t.Errorf("asked %d times in an hour", n)
		}
		var names []string
		for _, c := range s.Conditions {
			if c.State == locksmith.CondBlocked {
				names = append(names, c.Name)
			}
		}
		if diff := cmp.Diff([]string{"20-backup", "apt-get (pid 7)"}, names); diff != "" {
			t.Error(diff)
		}
		// It passes, but no longer when it comes to the reboot.
		prepared := w.gate("prepare")
		w.change(func() { delete(w.failing, "check") })
		time.Sleep(recheckBlocked)
		w.change(func() { w.failing["check"] = errDown })
		prepared()
		synctest.Wait()
		if s := r.Status(); s.Held || w.count(" reboot") != 0 || w.count("release: aborted: blocked by check: unit x is down") != 1 || w.owed {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

// The checks of before a wait for the store say nothing of after it.
func TestCheckedAgainAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.failing["advance to rebooting"] = errors.New("etcd is away")
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseRebooting || s.Waiting != "the slot cannot be confirmed: etcd is away" {
			t.Fatalf("%+v", s)
		}
		w.change(func() { w.failing["check"] = errDown; delete(w.failing, "advance to rebooting") })
		time.Sleep(retryFirst)
		synctest.Wait()
		if s := r.Status(); s.Held || w.count(" reboot") != 0 {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

func TestConfigOfChecks(t *testing.T) {
	w := newWorld(t)
	_, err := New(Config{MachineID: "m", BootID: "b", Groups: []locksmith.Group{""}, Strategy: locksmith.StrategyReboot, Machine: w,
		Triggers: []Trigger{w}, VerifySoak: -1, MaxRebootsPerDay: -1, MinUptime: time.Hour})
	want := "agent: durations must not be negative\nagent: MaxRebootsPerDay must not be negative\nagent: MinUptime needs Booted"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
