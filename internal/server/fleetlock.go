package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// Slots is where machines that speak FleetLock get their slots. internal/etcd's Batcher
// is one.
type Slots interface {
	// Acquire returns nil once the machine holds a slot of its one group, also where it
	// held one before that was taken over FleetLock. Otherwise it waits for at most so
	// long, and not beyond the end of ctx. Errors: *locksmith.FullError,
	// *locksmith.PausedError, *locksmith.HeldError, locksmith.ErrUnknownGroup,
	// *locksmith.UnreadableError, and the store's, some of which are Transient.
	Acquire(ctx context.Context, req locksmith.Request, wait time.Duration) error

	// Release gives a slot back. That the machine holds none is no error.
	Release(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error
}

// FleetLockConfig is what NewFleetLock needs.
type FleetLockConfig struct {
	Slots Slots        // required
	Guard access.Guard // required
	Admin *admin.Admin // required; notes refusals

	// DefaultGroupName is FleetLock's name of the default group, which is empty and so has
	// none there. Empty means "default". A group that is really called so cannot be
	// reached over FleetLock.
	DefaultGroupName string

	Wait       time.Duration // how long a request waits for its slot; 0: it is answered at once
	MaxWaiting int           // requests of each call at a time; 0: any number

	Observe func(call string, code int, took time.Duration) // as in fleetlock.Handler; may be nil
	Log     *slog.Logger                                    // nil discards
}

// NewFleetLock answers FleetLock's requests. It has to be mounted as fleetlock.Handler
// says: at /v1/, before anything that redirects, behind wrappers that have a method Unwrap;
// and it has to be closed when the server stops, before the slots are.
func NewFleetLock(cfg FleetLockConfig) *fleetlock.Handler {
	if cfg.DefaultGroupName == "" {
		cfg.DefaultGroupName = "default"
	}
	f := &fleetLock{cfg}
	return &fleetlock.Handler{Backend: f, Admit: f.admit, MaxWaiting: cfg.MaxWaiting, Observe: cfg.Observe, Log: cfg.Log}
}

// fleetLock translates between the protocol and the slots.
type fleetLock struct{ cfg FleetLockConfig }

// PreReboot implements fleetlock.Backend.
func (f *fleetLock) PreReboot(ctx context.Context, req fleetlock.Request) error {
	who := callerOf(ctx)
	return f.explain(req, f.cfg.Slots.Acquire(ctx, locksmith.Request{
		Groups:    []locksmith.Group{f.group(req)},
		MachineID: req.ID,
		By:        locksmith.ByFleetLock,
		Actor:     actor(who),
		Address:   who.From,
		Reason:    locksmith.ReasonFleetLock,
		Priority:  locksmith.DefaultPriority,
	}, f.cfg.Wait))
}

// SteadyState implements fleetlock.Backend.
func (f *fleetLock) SteadyState(ctx context.Context, req fleetlock.Request) error {
	result := locksmith.Result{Actor: actor(callerOf(ctx)), Outcome: locksmith.OutcomeSteady}
	return f.explain(req, f.cfg.Slots.Release(ctx, f.group(req), req.ID, result))
}

func (f *fleetLock) group(req fleetlock.Request) locksmith.Group {
	if req.Group == f.cfg.DefaultGroupName {
		return ""
	}
	return locksmith.Group(req.Group)
}

type callerKey struct{}

func callerOf(ctx context.Context) access.Caller {
	who, _ := ctx.Value(callerKey{}).(access.Caller)
	return who
}

// actor is the caller in the history. Where nobody has a name, how they came is one.
func actor(who access.Caller) string {
	if who.Open {
		who.Name = locksmith.ByFleetLock
	}
	return who.Actor()
}

// admit lets machines act for themselves: in the groups of their role and, where they are
// bound to one, under their own id.
func (f *fleetLock) admit(r *http.Request, req fleetlock.Request) (context.Context, error) {
	group := f.group(req)
	if _, err := locksmith.ParseGroup(string(group)); err != nil { // . and .., which FleetLock allows
		return nil, &fleetlock.Error{Kind: fleetlock.KindInvalid, Value: err.Error()}
	}
	what := "take a slot over FleetLock"
	if r.URL.Path == fleetlock.SteadyStatePath {
		what = "give a slot back over FleetLock"
	}
	who, err := f.cfg.Guard.Caller(r)
	if err != nil {
		return nil, f.refuseStranger(r, group, req.ID, what, err)
	}
	if value := forbidden(who, group, req, what); value != "" {
		f.refused(r, who, group, req.ID, value)
		return nil, &fleetlock.Error{Kind: fleetlock.KindForbidden, Value: value}
	}
	return context.WithValue(r.Context(), callerKey{}, who), nil
}

// forbidden says why a caller may not, if it may not.
func forbidden(who access.Caller, group locksmith.Group, req fleetlock.Request, what string) string {
	in := "the default group"
	if group != "" {
		in = "group " + string(group)
	}
	switch {
	case !who.Is(access.RoleMachine):
		return (&admin.Forbidden{Who: who, What: what, Need: access.RoleMachine, In: in}).Error()
	case !who.In(group):
		return (&admin.Forbidden{Who: who, What: what, In: in}).Error()
	case who.Machine != "" && who.Machine != req.ID:
		return fmt.Sprintf("%s may not %s for machine %s: it may do so only for machine %s", who.Name, what, req.ID, who.Machine)
	}
	return ""
}

// refuseStranger is for who cannot say who it is.
func (f *fleetLock) refuseStranger(r *http.Request, group locksmith.Group, id, what string, err error) error {
	var refusal *access.Refusal
	if !errors.As(err, &refusal) {
		return fmt.Errorf("who makes the request is not known: %w", err)
	}
	f.refused(r, access.Caller{From: address(r.RemoteAddr)}, group, id, what+": "+refusal.Reason)
	if refusal.Status == http.StatusForbidden {
		return &fleetlock.Error{Kind: fleetlock.KindForbidden, Value: refusal.Reason}
	}
	return &fleetlock.Error{Kind: fleetlock.KindUnauthorized,
		Value: refusal.Reason + "; a FleetLock client takes its credentials from its base URL, such as https://name:token@host/"}
}

// noteLimit bounds how long a refusal waits to get into the history.
const noteLimit = 2 * time.Second

func (f *fleetLock) refused(r *http.Request, who access.Caller, group locksmith.Group, id, what string) {
	// Who hangs up at once is noted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), noteLimit)
	defer cancel()
	f.cfg.Admin.Refused(ctx, who, &group, id, what)
}

// address is the IP address of a peer.
func address(remote string) string {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap.Addr().Unmap().WithZone("").String()
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// explain says in the protocol's words what became of a request. What it does not know
// is passed on, to be logged and not told.
func (f *fleetLock) explain(req fleetlock.Request, err error) error {
	var (
		full       *locksmith.FullError
		paused     *locksmith.PausedError
		held       *locksmith.HeldError
		unreadable *locksmith.UnreadableError
		passing    interface{ Transient() bool }
	)
	fail := func(kind fleetlock.Kind, value string) error { return &fleetlock.Error{Kind: kind, Value: value} }
	switch {
	case err == nil, errors.Is(err, locksmith.ErrNotHolder):
		return nil
	case errors.As(err, &full):
		return fail(fleetlock.KindFull, fullText(req.Group, full))
	case errors.As(err, &paused):
		return fail(fleetlock.KindPaused, paused.Error())
	case errors.As(err, &held):
		return fail(fleetlock.KindHeld, fmt.Sprintf("machine %s in group %s: %v", req.ID, req.Group, held))
	case errors.Is(err, locksmith.ErrUnknownGroup):
		return fail(fleetlock.KindNoGroup, f.noGroupText(req))
	case errors.As(err, &unreadable):
		if f.cfg.Log != nil {
			f.cfg.Log.Error("a FleetLock request failed", "group", req.Group, "machine", req.ID, "error", err)
		}
		return fail(fleetlock.KindInternal, unreadable.Error())
	case errors.As(err, &passing) && passing.Transient():
		return fail(fleetlock.KindStore, err.Error())
	}
	return err
}

// namedHolders is how many holders an answer names.
const namedHolders = 20

func fullText(group string, full *locksmith.FullError) string {
	text := "no slot of group " + group + " is free"
	names := full.Holders
	switch {
	case len(names) == 0:
		return fmt.Sprintf("%s: the semaphore is at %d", text, full.Semaphore)
	case len(names) > namedHolders:
		return fmt.Sprintf("%s: held by %s and %d more", text, strings.Join(names[:namedHolders], ", "), len(names)-namedHolders)
	}
	return text + ": held by " + strings.Join(names, ", ")
}

func (f *fleetLock) noGroupText(req fleetlock.Request) string {
	command := "locksmithctl set-max 1"
	if g := f.group(req); g != "" {
		command = "locksmithctl -group " + string(g) + " set-max 1"
	}
	return fmt.Sprintf("there is no group %s; create it with: %s (or start locksmith-server with -create-groups)", req.Group, command)
}
