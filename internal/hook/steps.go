package hook

import (
	"context"
	"slices"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// Prepare implements agent.Steps. It runs the hooks in prepare.d in lexical order up
// to the first that fails, which is the *agent.Veto it returns. Each is remembered as
// begun before it is started; where that cannot be done it is not. If one of them is
// refused, none is run, and that is an *agent.Veto too.
func (h *Hooks) Prepare(ctx context.Context, about agent.About) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	files, err := h.list(prepare)
	if err != nil {
		return err
	}
	step := h.begin(prepare, about)
	if err := step.refusal(ctx, files); err != nil {
		return err
	}
	r, err := h.readRecord()
	if err != nil {
		return err
	}
	if needed, err := h.recordNeeded(r, files); err != nil || !needed {
		return err
	}
	r = r.again(files.names())
	if err := h.writeRecord(r); err != nil {
		return err
	}
	for _, f := range files.hooks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !slices.Contains(r.Begun, f.name) {
			r.Begun = append(r.Begun, f.name)
			if err := h.writeRecord(r); err != nil {
				return err
			}
		}
		if err := step.run(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// recordNeeded says whether there is anything to remember. A machine without hooks
// needs no place for it. A restore.d that cannot be read is an error now rather than
// after the reboot.
func (h *Hooks) recordNeeded(r *record, files listing) (bool, error) {
	undo, err := h.list(restore)
	return r != nil || len(files.hooks) > 0 || len(undo.hooks) > 0, err
}

// Restore implements agent.Steps. It runs, in reverse order, the hooks in restore.d
// whose prepare hook of the same name was begun, and those that prepare.d had none of
// the name of, up to the first that fails: what was prepared later may need what was
// prepared before it, so it is undone first. A hook that succeeded is remembered at
// once and does not run again, until Prepare has been called again.
//
// Without a record of Prepare nothing is done. A record that cannot be read is an error
// that says what to do.
func (h *Hooks) Restore(ctx context.Context, about agent.About) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.readRecord()
	if err != nil || r == nil {
		return err
	}
	files, err := h.list(restore)
	if err != nil {
		return err
	}
	// A pair of hooks that came since has prepared nothing either.
	now, err := h.list(prepare)
	if err != nil {
		return err
	}
	r.Present = slices.Compact(slices.Sorted(slices.Values(append(r.Present, now.names()...))))
	due := slices.DeleteFunc(files.hooks, func(f file) bool { return !r.due(f.name) })
	slices.Reverse(due)
	step := h.begin(restore, about)
	for _, f := range due {
		if err := step.run(ctx, f); err != nil {
			return err
		}
		r.Restored = append(r.Restored, f.name)
		if err := h.writeRecord(r); err != nil {
			return err
		}
	}
	return h.removeRecord()
}

// refusal is the error of the first hook that is refused, nil if there is none.
func (r *run) refusal(ctx context.Context, files listing) error {
	for _, f := range files.hooks {
		if f.refused != nil {
			return r.run(ctx, f)
		}
	}
	return nil
}

// Rehearse implements agent.Rehearser: it logs the hooks that would be run. Those that
// would be refused are its error.
func (h *Hooks) Rehearse(ctx context.Context, about agent.About) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	step := prepare
	if about.Phase == locksmith.PhaseRestoring {
		step = restore
	}
	files, err := h.list(step)
	if err != nil {
		return err
	}
	if err := h.begin(step, about).refusal(ctx, files); err != nil {
		return err
	}
	if step == restore {
		slices.Reverse(files.hooks)
	}
	for _, f := range files.hooks {
		h.cfg.Log.Info("dry run: would run hook", "hook", step+".d/"+f.name)
	}
	return nil
}
