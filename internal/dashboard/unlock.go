package dashboard

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

func (d *dashboard) askUnlock(ctx context.Context, who access.Caller, form url.Values) (*confirmView, error) {
	g, err := formGroup(form)
	if err != nil {
		return nil, err
	}
	s, err := d.reads.status(ctx, g)
	if err != nil {
		return nil, err
	}
	id, now := form.Get("machine"), clock()
	i := slices.IndexFunc(s.Holders, func(h locksmith.HolderStatus) bool { return h.MachineID == id })
	if i < 0 {
		return nil, locksmith.ErrNotHolder
	}
	h := s.Holders[i]
	c := &confirmView{Title: "Unlock " + h.Name(), Button: "Unlock " + h.Name(), Harm: true,
		Says: []string{unlockGives(s, h)}, Warns: []string{unlockWarns(h, now)},
		Look:   []link{{Text: "Look at " + h.Name(), URL: machineURL(id)}},
		Hidden: [][2]string{{"group", string(g)}, {"machine", id}},
		Fields: []field{{Name: "reason", Label: "Reason, for the history", Kind: "text", Value: form.Get("reason"), Hint: "May be empty."}},
		facts:  []string{h.Nonce, strconv.FormatInt(h.StartTime, 10), string(h.Phase), strconv.FormatBool(h.Stale(now))}}
	for _, other := range h.Groups {
		if other != g && who.Sees(other) {
			c.Warns = append(c.Warns, fmt.Sprintf("It holds a slot of %s, too, which it keeps: unlock that afterwards if you want the others there to go on.", scopeName(other)))
		}
	}
	return c, nil
}

// unlockGives says who gets the slot.
func unlockGives(s locksmith.GroupStatus, h locksmith.HolderStatus) string {
	doing := "Unlocking " + h.Name() + " in " + scopeName(s.Group)
	free := s.Sem.Semaphore + 1
	switch {
	case free <= 0:
		return fmt.Sprintf("%s gives its slot to nobody yet: the maximum was lowered to %d, and %s will still be taken.", doing, s.Sem.Max, plural(len(s.Holders)-1, "slot"))
	case len(s.Queue) == 0:
		return doing + " frees its slot. Nobody waits for it just now; the next machine that asks can have it at once."
	case len(s.Pauses) > 0:
		return fmt.Sprintf("%s frees its slot, but nobody is given it while %s. Then %s is first in line.", doing, pausedWords(s.Pauses), waiterName(s.Queue[0]))
	}
	first := s.Queue[0]
	text := fmt.Sprintf("%s gives its slot to %s, which waits first, and may reboot at once.", doing, waiterName(first))
	if free > 1 {
		text = fmt.Sprintf("%s frees its slot; %d are free then, and %s waits first.", doing, free, waiterName(first))
	}
	if len(first.Groups) > 1 {
		text += " It takes one only where all its groups have one free."
	}
	return text
}

// pausedWords is "group web is paused".
func pausedWords(pauses []locksmith.Pause) string {
	var list []string
	for _, p := range pauses {
		if p.Scope.All {
			list = append(list, "all groups are paused")
		} else {
			list = append(list, p.Scope.String()+" is paused")
		}
	}
	return strings.Join(list, " and ")
}

// unlockWarns says what the machine is doing, and what that means.
func unlockWarns(h locksmith.HolderStatus, now time.Time) string {
	name, ago, lasting := h.Name(), "", ""
	if since := max(h.PhaseTime, h.StartTime); since > 0 {
		span := locksmith.Span(now.Sub(locksmith.When(since)))
		ago, lasting = " "+span+" ago", " for "+span
	}
	switch {
	case h.Phase == locksmith.PhaseFailed && h.Own():
		return name + " failed its checks after the reboot. Without its slot it goes on trying them, and what was prepared for the reboot stays prepared until they pass: it may still serve nobody."
	case h.By == locksmith.ByLock:
		return name + "'s slot is held by hand" + lasting + reasonWords(h.Reason) + ". Whoever took it counts on nobody else being down."
	case h.By == locksmith.ByWithLock:
		return "A command runs while " + name + "'s slot is held" + lasting + reasonWords(h.Reason) + ". It goes on without the slot."
	case h.By == locksmith.ByFleetLock:
		return name + " took its slot over FleetLock" + ago + " to reboot, and may still be down: look at it first. If it is up, it gives the slot back by itself."
	case !h.Recorded:
		return "An older client took " + name + "'s slot and left no record of when and why. It may be down: look at it first."
	}
	switch h.Phase {
	case locksmith.PhaseRebooting:
		return name + " was asked to reboot" + ago + " and may still be down: look at it first. The next one goes down as soon as it has the slot."
	case locksmith.PhaseVerifying, locksmith.PhaseRestoring, locksmith.PhaseReleasing:
		return name + " is back from its reboot and gives its slot back by itself once its checks pass and what was prepared is undone. Unlocking now skips that proof."
	}
	if !h.Present {
		return name + " was " + h.NotSeen(now) + ". If it is only cut off, it may be about to reboot: look at it first."
	}
	return name + " is up and about to reboot. Without its slot it gives that up, undoes what it prepared, and asks again later."
}

func reasonWords(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func (d *dashboard) unlock(ctx context.Context, who access.Caller, form url.Values) (string, error) {
	g, err := formGroup(form)
	if err != nil {
		return "", err
	}
	id := form.Get("machine")
	name := id
	if s, err := d.reads.status(ctx, g); err == nil && mayIn(who, g) {
		for _, h := range s.Holders {
			if h.MachineID == id {
				name = h.Name()
			}
		}
	}
	if err := d.cfg.Admin.Unlock(ctx, who, g, id, form.Get("reason")); err != nil {
		return "", err
	}
	return fmt.Sprintf("Unlocked %s in %s.", name, scopeName(g)), nil
}
