// Package admin is what administrators do through locksmith-server: it says whether
// they may, does it in their name, and has refusals noted in the history. The API and
// the dashboard both go through it.
//
// It knows nothing of HTTP, nor of how the store keeps things.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// Store is where the slots are kept. internal/etcd implements it.
type Store interface {
	Status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error)
	Machine(ctx context.Context, idOrHostnameOrPrefix string) (locksmith.MachineStatus, error)

	TryAcquire(ctx context.Context, req locksmith.Request) (locksmith.Slots, error)
	Unlock(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error
	SetMax(ctx context.Context, group locksmith.Group, n int, actor string) (old int, err error)
	Pause(ctx context.Context, p locksmith.Pause) error
	Resume(ctx context.Context, scope locksmith.PauseScope, actor string) error
	Forget(ctx context.Context, id string) error

	// Refuse notes a refusal in the history.
	Refuse(ctx context.Context, entry locksmith.HistoryEntry) error
}

// maxReason bounds a reason, in bytes.
const maxReason = 500

// Forbidden is why a caller may not do something.
type Forbidden struct {
	Who  access.Caller
	What string      // "unlock", "set-max", …
	Need access.Role // the least that may; empty: the role would do, the groups do not
	In   string      // where: "group web", "all groups"
}

func (f *Forbidden) Error() string {
	if f.Need == "" {
		return fmt.Sprintf("%s may not %s in %s: the %s's groups are %s", f.Who.Name, f.What, f.In, f.Who.Role, groupNames(f.Who.Groups))
	}
	return fmt.Sprintf("%s may not %s in %s: that takes the role %s, not %s", f.Who.Name, f.What, f.In, f.Need, f.Who.Role)
}

func groupNames(groups []locksmith.Group) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.String()
	}
	return strings.Join(names, ", ")
}

// Invalid is an argument that cannot be used.
type Invalid struct{ Reason string }

func (i *Invalid) Error() string { return i.Reason }

// Admin does what callers ask for, where they may. Errors are *Forbidden, *Invalid, or
// the store's. Its methods may be called concurrently.
type Admin struct {
	store    Store
	log      *slog.Logger
	refusals refusals
	lines    lines
	now      func() time.Time
}

// New is an Admin. A nil log discards.
func New(store Store, log *slog.Logger) *Admin {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Admin{store: store, log: log, now: time.Now, refusals: refusals{seen: make(map[string]time.Time)}}
}

// Unlock takes a machine's slot away. reason may be empty.
func (a *Admin) Unlock(ctx context.Context, who access.Caller, group locksmith.Group, machine, reason string) error {
	if err := a.may(ctx, who, "unlock", access.RoleOperator, group, machine); err != nil {
		return err
	}
	reason, err := line("reason", reason, false)
	if err != nil {
		return err
	}
	if err := locksmith.CheckMachineID(machine); err != nil {
		return &Invalid{err.Error()}
	}
	outcome := locksmith.OutcomeUnlocked
	if reason != "" {
		outcome += ": " + reason
	}
	err = a.store.Unlock(ctx, group, machine, locksmith.Result{Actor: who.Actor(), Outcome: outcome})
	return a.did(err, who, "unlock", "group", group, "machine", machine)
}

// Lock holds a slot for a machine until it is unlocked.
func (a *Admin) Lock(ctx context.Context, who access.Caller, group locksmith.Group, machine, reason string) error {
	if err := a.may(ctx, who, "lock", access.RoleOperator, group, machine); err != nil {
		return err
	}
	reason, err := line("reason", reason, false)
	if err != nil {
		return err
	}
	if err := locksmith.CheckMachineID(machine); err != nil {
		return &Invalid{err.Error()}
	}
	_, err = a.store.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{group}, MachineID: machine,
		By: locksmith.ByLock, Actor: who.Actor(), Reason: reason, Priority: locksmith.DefaultPriority})
	return a.did(err, who, "lock", "group", group, "machine", machine)
}

// SetMax changes how many slots a group has, and returns how many there were. A group
// that does not exist yet takes an administrator.
func (a *Admin) SetMax(ctx context.Context, who access.Caller, group locksmith.Group, n int) (old int, err error) {
	if err := a.may(ctx, who, "set-max", access.RoleOperator, group, ""); err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, &Invalid{fmt.Sprintf("invalid max %d: must be 0 or more", n)}
	}
	if !who.Is(access.RoleAdmin) {
		status, err := a.store.Status(ctx, group)
		if err != nil {
			return 0, err
		}
		if !status.Exists {
			return 0, a.forbid(ctx, &Forbidden{Who: who, What: "make a group with set-max", Need: access.RoleAdmin, In: where(group)}, &group, "")
		}
	}
	old, err = a.store.SetMax(ctx, group, n, who.Actor())
	return old, a.did(err, who, "set-max", "group", group, "max", n)
}

// Pause keeps everybody in the scope of p from starting a reboot. Of p only the scope,
// Until and the reason, which is required, are taken.
func (a *Admin) Pause(ctx context.Context, who access.Caller, p locksmith.Pause) (err error) {
	if p.Scope, err = a.mayScope(ctx, who, "pause", p.Scope); err != nil {
		return err
	}
	if p.Reason, err = line("reason", p.Reason, true); err != nil {
		return err
	}
	now := a.now()
	if p.Until != 0 && !locksmith.When(p.Until).After(now) {
		return &Invalid{fmt.Sprintf("the pause would be over already: %s is past", locksmith.When(p.Until).UTC().Format(time.RFC3339))}
	}
	p.By, p.At = who.Actor(), now.Unix()
	return a.did(a.store.Pause(ctx, p), who, "pause", "scope", p.Scope.String(), "reason", p.Reason)
}

// Resume ends a pause.
func (a *Admin) Resume(ctx context.Context, who access.Caller, scope locksmith.PauseScope) error {
	scope, err := a.mayScope(ctx, who, "resume", scope)
	if err != nil {
		return err
	}
	return a.did(a.store.Resume(ctx, scope, who.Actor()), who, "resume", "scope", scope.String())
}

// Forget removes what is remembered of a machine that is gone.
func (a *Admin) Forget(ctx context.Context, who access.Caller, id string) error {
	if !who.Is(access.RoleAdmin) || !who.Everywhere() {
		f := &Forbidden{Who: who, What: "forget machines", Need: access.RoleAdmin, In: "all groups"}
		if who.Is(access.RoleAdmin) {
			f.Need = ""
		}
		return a.forbid(ctx, f, nil, id)
	}
	return a.did(a.store.Forget(ctx, id), who, "forget", "machine", id)
}

// may refuses what a caller may not do in a group.
func (a *Admin) may(ctx context.Context, who access.Caller, what string, need access.Role, group locksmith.Group, machine string) error {
	switch {
	case !who.Is(need):
		return a.forbid(ctx, &Forbidden{Who: who, What: what, Need: need, In: where(group)}, &group, machine)
	case !who.In(group):
		return a.forbid(ctx, &Forbidden{Who: who, What: what, In: where(group)}, &group, machine)
	}
	return nil
}

// mayScope is may for a pause. A machine is named by its id afterwards, and takes a
// role in all of its groups.
func (a *Admin) mayScope(ctx context.Context, who access.Caller, what string, scope locksmith.PauseScope) (locksmith.PauseScope, error) {
	switch {
	case scope.All:
		need := &Forbidden{Who: who, What: what, Need: access.RoleAdmin, In: "all groups"}
		if !who.Is(access.RoleAdmin) {
			return scope, a.forbid(ctx, need, nil, "")
		} else if need.Need = ""; !who.Everywhere() {
			return scope, a.forbid(ctx, need, nil, "")
		}
		return scope, nil
	case scope.Machine == "":
		return scope, a.may(ctx, who, what, access.RoleOperator, scope.Group, "")
	}
	if err := locksmith.CheckMachineID(scope.Machine); err != nil {
		return scope, &Invalid{err.Error()}
	}
	if !who.Is(access.RoleOperator) {
		return scope, a.forbid(ctx, &Forbidden{Who: who, What: what, Need: access.RoleOperator, In: "machine " + scope.Machine}, nil, scope.Machine)
	}
	m, err := a.store.Machine(ctx, scope.Machine)
	switch {
	case errors.Is(err, locksmith.ErrUnknownMachine):
		m.MachineID, m.Groups = scope.Machine, nil
	case !who.Everywhere() && refused(err): // it names machines that may not be the caller's to know
		return scope, &Invalid{fmt.Sprintf("machine %q is not the name of one machine: give its id", scope.Machine)}
	case err != nil:
		return scope, err
	}
	scope.Machine = m.MachineID
	if !who.Everywhere() && (len(m.Groups) == 0 || slices.ContainsFunc(m.Groups, func(g locksmith.Group) bool { return !who.In(g) })) {
		return scope, a.forbid(ctx, &Forbidden{Who: who, What: what, In: "all groups of machine " + m.MachineID}, nil, m.MachineID)
	}
	return scope, nil
}

// refused says whether a store's error is about what was asked for, not about the store.
func refused(err error) bool {
	var r interface{ Refused() bool }
	return errors.As(err, &r) && r.Refused()
}

func where(group locksmith.Group) string {
	if group == "" {
		return "the default group"
	}
	return "group " + string(group)
}

// did logs what was done, and passes err on.
func (a *Admin) did(err error, who access.Caller, what string, args ...any) error {
	args = append([]any{"action", what, "by", who.Name, "from", who.From}, args...)
	if err != nil {
		a.log.Info("an administrator's action failed", append(args, "error", err)...)
	} else {
		a.log.Info("an administrator acted", args...)
	}
	return err
}

// line is a text for people in one line, without the spaces around it.
func line(what, s string, required bool) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "" && required:
		return "", &Invalid{"a " + what + " is missing: whoever waits wants to know why"}
	case len(s) > maxReason:
		return "", &Invalid{fmt.Sprintf("the %s is %d bytes long, at most %d are allowed", what, len(s), maxReason)}
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "", &Invalid{"the " + what + " must be one line of UTF-8 without control characters"}
	}
	return s, nil
}
