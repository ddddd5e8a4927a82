package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
)

// whyPage is the answer to why on one screen.
type whyPage struct {
	c     *call
	w     locksmith.Why
	now   time.Time
	width int // of the screen, in columns
	b     strings.Builder
}

func (c *call) whyText(w locksmith.Why) string {
	p := &whyPage{c: c, w: w, now: c.deps.Now(), width: c.textWidth()}
	p.heading()
	p.need()
	p.conditions()
	p.waiting()
	p.hints()
	p.lastReboot()
	p.line(plain, "Next: "+w.Next(p.now))
	return p.b.String()
}

// line adds a paragraph, wrapped to the screen.
func (p *whyPage) line(paint colour, text string) {
	fmt.Fprintln(&p.b, painted(cell{wrap(oneLine(text), p.width, 0), paint}, p.c.colours()))
}

// command adds a command line to copy, which is never wrapped.
func (p *whyPage) command(text string) { fmt.Fprintf(&p.b, "    %s\n", text) }

func (p *whyPage) heading() {
	m := p.w.Machine
	name := m.Name()
	if name != m.MachineID {
		name += " (" + short(m.MachineID) + ")"
	}
	phase, since := m.Where()
	text := name + ": " + p.w.PhaseWords(phase)
	if since > 0 {
		at := locksmith.When(since)
		text += fmt.Sprintf(" since %s, %s", locksmith.Clock(at, p.now), locksmith.Span(p.now.Sub(at)))
	}
	p.line(bold, text)
	if !m.Present {
		p.absent()
	}
}

// absent says how old what follows is.
func (p *whyPage) absent() {
	m := p.w.Machine
	switch {
	case m.Holds != nil && m.Holds.Booting(p.now):
		at := locksmith.When(m.Holds.PhaseTime)
		p.line(yellow, fmt.Sprintf("It was asked to reboot at %s, %s ago, and may well be silent now. What follows is of before.",
			locksmith.Clock(at, p.now), locksmith.Span(p.now.Sub(at))))
	case m.LastSeen().IsZero():
		p.line(red, "locksmithd was never seen on it.")
	default:
		p.line(red, fmt.Sprintf("Last seen %s, %s ago; what follows was true then.",
			locksmith.Clock(m.LastSeen(), p.now), locksmith.Span(p.now.Sub(m.LastSeen()))))
	}
}

func (p *whyPage) need() {
	text, known := p.w.Need(p.now)
	paint := plain
	if !known {
		paint = red
	}
	p.line(paint, text)
}

func (p *whyPage) conditions() {
	rows := p.w.Rows(p.now)
	width := 0
	for i := range rows {
		rows[i].Name = oneLine(rows[i].Name)
	}
	for _, r := range rows {
		width = max(width, min(utf8.RuneCountInString(r.Name), 20))
	}
	for _, r := range rows {
		state := stateCell(r.State)
		line := "  " + painted(state, p.c.colours()) + pad(state.text, 9) + r.Name + pad(r.Name, width+2) +
			wrap(oneLine(r.Text), p.width, 2+9+width+2)
		fmt.Fprintln(&p.b, strings.TrimRight(line, " "))
	}
}

func stateCell(s locksmith.ConditionState) cell {
	switch s {
	case locksmith.CondMet:
		return cell{text: "ok"}
	case locksmith.CondWaiting:
		return cell{"waits", yellow}
	case locksmith.CondPending:
		return cell{"-", faint}
	}
	return cell{oneLine(string(s)), red}
}

// waiting is what the machine itself says, where no condition says the same.
func (p *whyPage) waiting() {
	said := p.w.Machine.Waiting
	if said == "" || p.w.Machine.Phase == locksmith.PhaseFailed {
		return // hints has it
	}
	for _, c := range p.w.Machine.Conditions {
		if c.Text != "" && (strings.Contains(said, c.Text) || strings.Contains(c.Text, said)) {
			return
		}
	}
	p.line(plain, "It says: "+said)
}

func (p *whyPage) lastReboot() {
	m := p.w.Machine
	if m.LastReboot == 0 {
		return
	}
	at, what := locksmith.When(m.LastReboot), "Last reboot"
	if strings.HasPrefix(m.LastOutcome, "aborted") {
		what = "Last try"
	}
	p.line(plain, fmt.Sprintf("%s: %s, %s ago%s", what, locksmith.Clock(at, p.now), locksmith.Span(p.now.Sub(at)), after(": ", m.LastOutcome)))
}

// hints say what an administrator may do, with the command lines for it.
func (p *whyPage) hints() {
	m := p.w.Machine
	phase, _ := m.Where()
	if m.Holds != nil && phase == locksmith.PhaseFailed {
		p.line(red, "Its checks fail: "+cmp.Or(m.Failure(), "it does not say which"))
		p.unlock("Repair it, and its slot goes back by itself. To let the others go on without that:")
	} else if phase == locksmith.PhaseFailed {
		p.line(red, "It failed: "+cmp.Or(m.Waiting, "it does not say why"))
	}
	if m.Holds != nil && m.Holds.Own() && m.Stale(p.now) {
		p.unlock("If it is gone for good, give its slot to the next:")
	}
	for _, pause := range p.w.Pauses(p.now) {
		p.line(plain, "To end the pause of "+p.w.ScopeWords(pause.Scope)+":")
		p.command(p.c.resumeCommand(pause.Scope))
	}
	if m.NeededSince > 0 && m.Holds == nil {
		p.staleHolders()
	}
}

// staleHolders names those in front that may never give their slot back.
func (p *whyPage) staleHolders() {
	for _, place := range p.w.Places {
		if place.Holds || place.Free > 0 {
			continue
		}
		for _, h := range place.Holders {
			if h.Stale(p.now) {
				p.line(red, fmt.Sprintf("%s has a slot of %s and was %s. If it is gone for good:",
					h.Name(), locksmith.PauseScope{Group: place.Group}, h.NotSeen(p.now)))
				p.command(p.c.unlockCommand(place.Group, h.MachineID))
			}
		}
	}
}

// unlock proposes to take all of a machine's slots away. Nothing is proposed where
// nobody knows in which groups they are.
func (p *whyPage) unlock(when string) {
	var groups []locksmith.Group
	for _, place := range p.w.Places {
		if place.Holds {
			groups = append(groups, place.Group)
		}
	}
	if len(p.w.Places) == 0 {
		groups = p.w.Machine.Holds.Groups
	}
	if len(groups) > 0 {
		p.line(plain, when)
	}
	for _, g := range groups {
		p.command(p.c.unlockCommand(g, p.w.Machine.MachineID))
	}
}

// after is text behind sep, or nothing where there is no text.
func after(sep, text string) string {
	if text == "" {
		return ""
	}
	return sep + text
}
