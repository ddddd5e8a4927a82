package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// lengths are how long a pause can last, in the order in which they are offered.
var lengths = []struct {
	text string
	d    time.Duration
}{
	{"until somebody resumes it", 0}, {"for 30 minutes", 30 * time.Minute}, {"for 1 hour", time.Hour}, {"for 2 hours", 2 * time.Hour},
	{"for 4 hours", 4 * time.Hour}, {"for 8 hours", 8 * time.Hour}, {"for 12 hours", 12 * time.Hour}, {"for 1 day", 24 * time.Hour},
	{"for 2 days", 48 * time.Hour}, {"for 1 week", 7 * 24 * time.Hour},
}

// atLayout is how browsers send a date and a time.
const atLayout = "2006-01-02T15:04"

// pauseOf is what is known of a scope: its pause, who is on their way, and who waits.
type pauseOf struct {
	scope   locksmith.PauseScope
	pause   *locksmith.Pause // nil: not paused
	name    string
	holding []string // of those that hold slots for a reboot: on their way down
	rest    []string // of those that hold slots for a reboot: not rebooting yet
	waiting int
	others  []locksmith.Pause // that hold for it as well
}

func (d *dashboard) askPause(ctx context.Context, _ access.Caller, form url.Values) (*confirmView, error) {
	p, err := d.lookAt(ctx, form)
	if err != nil {
		return nil, err
	}
	now := clock()
	c := &confirmView{Title: "Pause " + p.name, Button: "Pause " + p.name, Says: p.pauseMeans(), facts: p.facts(), Hidden: hidden(p.scope)}
	if p.pause != nil {
		c.Warns = append(c.Warns, "It is paused already, and this pause replaces that one. "+pauseText(*p.pause, now))
	}
	until := field{Name: "for", Label: "How long", Kind: "select"}
	for _, l := range lengths {
		value := ""
		if l.d > 0 {
			value = l.d.String()
		}
		until.Choices = append(until.Choices, choice{value, l.text, value == form.Get("for")})
	}
	c.Fields = []field{
		{Name: "reason", Label: "Reason", Kind: "text", Value: form.Get("reason"), Required: true, Hint: "Shown wherever somebody waits."},
		until,
		{Name: "at", Label: "Or until a date and time", Kind: "datetime-local", Value: form.Get("at"), Hint: "In the server's time zone, " + now.Format("MST (UTC-07:00)") + "."},
	}
	return c, nil
}

func (d *dashboard) askResume(ctx context.Context, _ access.Caller, form url.Values) (*confirmView, error) {
	p, err := d.lookAt(ctx, form)
	if err != nil {
		return nil, err
	}
	if p.pause == nil {
		return nil, locksmith.ErrNotPaused
	}
	c := &confirmView{Title: "Resume " + p.name, Button: "Resume " + p.name, facts: p.facts(), Hidden: hidden(p.scope),
		Says: append([]string{pauseText(*p.pause, clock())}, p.resumeMeans()...)}
	for _, o := range p.others {
		c.Warns = append(c.Warns, fmt.Sprintf("%s stays paused by another pause: %s", sentence(p.name), pauseText(o, clock())))
	}
	return c, nil
}

func hidden(s locksmith.PauseScope) [][2]string {
	params := scopeParams(s)
	return [][2]string{{params[0], params[1]}}
}

// lookAt reads what is known of what a form is about.
func (d *dashboard) lookAt(ctx context.Context, form url.Values) (*pauseOf, error) {
	scope, err := formScope(form)
	if err != nil {
		return nil, err
	}
	p := &pauseOf{scope: scope, name: scope.String()}
	switch {
	case scope.Machine != "":
		return p, d.lookAtMachine(ctx, p)
	case scope.All:
		return p, d.lookAtAll(ctx, p)
	}
	s, err := d.reads.status(ctx, scope.Group)
	if err != nil {
		return nil, err
	}
	p.take(s)
	return p, nil
}

func (d *dashboard) lookAtAll(ctx context.Context, p *pauseOf) error {
	groups, err := d.reads.groups(ctx)
	if err != nil {
		return err
	}
	read := 0
	for _, g := range groups {
		if g.Err != nil || g.Held+g.Waiting == 0 && !g.Paused && read > 0 {
			continue
		}
		s, err := d.reads.status(ctx, g.Group)
		if _, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
			continue // it is paused and resumed all the same
		}
		if err != nil {
			return err
		}
		read++
		p.take(s)
	}
	return nil
}

func (d *dashboard) lookAtMachine(ctx context.Context, p *pauseOf) error {
	m, err := d.reads.machine(ctx, p.scope.Machine)
	if errors.Is(err, locksmith.ErrUnknownMachine) {
		return nil // it may come yet
	}
	if err != nil {
		return err
	}
	p.name = "machine " + m.Name()
	for _, pause := range m.Pauses {
		p.pause = &pause
	}
	for _, g := range m.AllGroups() {
		s, err := d.reads.status(ctx, g)
		if err != nil {
			return err
		}
		for _, w := range s.Queue {
			if w.MachineID == m.MachineID {
				p.waiting = 1
			}
		}
		p.holders(slices.DeleteFunc(slices.Clone(s.Holders), func(h locksmith.HolderStatus) bool { return h.MachineID != m.MachineID }))
		p.others = append(p.others, s.Pauses...)
	}
	return nil
}

// take adds what a group knows.
func (p *pauseOf) take(s locksmith.GroupStatus) {
	for _, pause := range s.Pauses {
		if pause.Scope == p.scope {
			p.pause = &pause
		} else if !p.scope.All {
			p.others = append(p.others, pause)
		}
	}
	p.waiting += len(s.Queue)
	p.holders(s.Holders)
}

func (p *pauseOf) holders(list []locksmith.HolderStatus) {
	for _, h := range list {
		names := &p.rest
		switch {
		case h.By == locksmith.ByLock || h.By == locksmith.ByWithLock:
			continue
		case h.Phase == locksmith.PhaseRebooting, h.By == locksmith.ByFleetLock, h.Phase == locksmith.PhaseVerifying,
			h.Phase == locksmith.PhaseRestoring, h.Phase == locksmith.PhaseReleasing, h.Phase == locksmith.PhaseFailed, !h.Recorded:
			names = &p.holding
		}
		if !slices.Contains(*names, h.Name()) {
			*names = append(*names, h.Name())
		}
	}
}

func (p *pauseOf) facts() []string {
	if p.pause == nil {
		return []string{"not paused"}
	}
	return []string{p.pause.By, strconv.FormatInt(p.pause.At, 10)}
}

// some is "a, b and 3 more".
func some(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}

func (p *pauseOf) pauseMeans() []string {
	says := []string{"No machine of " + p.name + " is given a slot for a reboot, and none starts one."}
	switch {
	case p.scope.All:
		says[0] = "No machine anywhere is given a slot for a reboot, and none starts one."
	case p.scope.Machine != "":
		says[0] = sentence(p.name) + " is given no slot for a reboot, and does not start one. The others go on."
	}
	switch {
	case p.waiting > 0 && p.scope.Machine != "":
		says = append(says, "It waits in a queue just now, and leaves it so that nobody waits behind it.")
	case p.waiting > 0:
		says = append(says, sentence(wait(p.waiting))+" for a slot now.")
	case p.scope.Machine == "":
		says = append(says, "Nobody waits for a slot now.")
	}
	if len(p.rest) > 0 {
		says = append(says, "Hold a slot and do not start their reboot: "+some(p.rest)+".")
	}
	if len(p.holding) > 0 {
		says = append(says, "On their way through their reboot already, and not held up: "+some(p.holding)+".")
	}
	return append(says, "Slots held by hand or by commands are no reboots, and are not held up.")
}

func (p *pauseOf) resumeMeans() []string {
	switch {
	case len(p.others) > 0:
		return []string{"Nobody reboots yet for all that: see below."}
	case p.scope.Machine != "":
		return []string{"The machine reboots again when it needs to, once it has a slot."}
	case p.waiting > 0:
		return []string{sentence(wait(p.waiting)) + " for a slot. Free ones are given at once, and who is given one may reboot."}
	}
	return []string{"Nobody waits for a slot now. Who needs one is given it from now on."}
}

// pauseEnd is when a pause is to end, 0 for never.
func pauseEnd(form url.Values, now time.Time) (int64, error) {
	length, at := form.Get("for"), form.Get("at")
	switch {
	case length != "" && at != "":
		return 0, &admin.Invalid{Reason: "a pause lasts for a time or until a time: choose one of them"}
	case at != "":
		t, err := time.ParseInLocation(atLayout, at, now.Location())
		if err != nil {
			return 0, &admin.Invalid{Reason: fmt.Sprintf("invalid date and time %q: must be like %s", at, now.Format(atLayout))}
		}
		return t.Unix(), nil
	case length != "":
		d, err := time.ParseDuration(length)
		if err != nil || d <= 0 {
			return 0, &admin.Invalid{Reason: fmt.Sprintf("invalid length %q: must be a duration such as 4h", length)}
		}
		return now.Add(d).Unix(), nil
	}
	return 0, nil
}

func (d *dashboard) pause(ctx context.Context, who access.Caller, form url.Values) (string, error) {
	scope, err := formScope(form)
	if err != nil {
		return "", err
	}
	now := clock()
	until, err := pauseEnd(form, now)
	if err != nil {
		return "", err
	}
	if err := d.cfg.Admin.Pause(ctx, who, locksmith.Pause{Scope: scope, Until: until, Reason: form.Get("reason")}); err != nil {
		return "", err
	}
	if until == 0 {
		return "Paused " + scope.String() + " until somebody resumes it.", nil
	}
	return "Paused " + scope.String() + " until " + locksmith.Clock(locksmith.When(until), now) + ".", nil
}

func (d *dashboard) resume(ctx context.Context, who access.Caller, form url.Values) (string, error) {
	scope, err := formScope(form)
	if err != nil {
		return "", err
	}
	if err := d.cfg.Admin.Resume(ctx, who, scope); err != nil {
		return "", err
	}
	return "Resumed " + scope.String() + ".", nil
}
