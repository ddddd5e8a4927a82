package agent

import (
	"context"
	"errors"
	"log/slog"

	"github.com/locksmith-reboot/locksmith"
)

// running is one run of an agent, from a boot or a start to its end.
type running struct {
	*Agent
	stop func() // SIGTERM, and wait
	done chan struct{}
	err  error
}

// run starts an agent on the world's machine.
func (w *world) run(change ...func(*Config)) *running {
	w.t.Helper()
	cfg := Config{MachineID: "m", BootID: w.bootID(), Groups: []locksmith.Group{""}, Strategy: locksmith.StrategyEtcdLock,
		Lock: w, Machine: w, Triggers: []Trigger{w}, Steps: w, Blockers: []Check{named{w, "check"}}, Verifiers: []Check{named{w, "verify"}}, Window: w.window, LoginDelay: DefaultLoginDelay}
	if w.remembers {
		cfg.Memory, cfg.Remember = w.memory(), w.remember
	}
	if w.logs != nil {
		cfg.Log = slog.New(w.logs)
	}
	for _, f := range change {
		f(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	w.mu.Lock()
	w.died, w.changed = cancel, nil
	w.mu.Unlock()
	r := &running{Agent: a, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = a.Run(ctx)
	}()
	r.stop = func() { cancel(errors.New("SIGTERM")); <-r.done }
	w.t.Cleanup(r.stop)
	return r
}

// reboots waits for the machine to go down, and boots it again.
func (w *world) reboots(r *running) {
	<-r.done
	if !errors.Is(r.err, errMachineDown) {
		w.t.Fatalf("the agent ended with %v", r.err)
	}
	w.boot()
}

// boot is the machine up again, after a reboot or a loss of power.
func (w *world) boot() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.methods); w.accident || n > 0 && w.methods[n-1] == locksmith.MethodSoftReboot {
		w.soft++
	} else {
		w.boots, w.soft = w.boots+1, 0
	}
	w.prepared, w.verified = false, false
	w.note("booted")
}

func (w *world) useLock(answer bool) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) { return answer, nil }
}

// unlockedMachine reboots without asking the lock.
type unlockedMachine struct{ *world }

func (u *unlockedMachine) Reboot(ctx context.Context, method locksmith.Method) error {
	if err := u.do(ctx, "rebooted unlocked"); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.need, u.methods = u.after, append(u.methods, method)
	u.died(errMachineDown)
	return nil
}
