package cli

import (
	"cmp"
	"fmt"
	"slices"
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
	text := name + ": " + p.phaseWords(phase)
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

// phaseWords says what the machine does, together with the name of the phase.
func (p *whyPage) phaseWords(phase locksmith.Phase) string {
	words := map[locksmith.Phase]string{
		locksmith.PhaseRecovering: "finding out what an earlier run left",
		locksmith.PhaseNeeded:     "about to ask for its reboot",
		locksmith.PhaseWindow:     "not allowed to reboot yet",
		locksmith.PhaseQueued:     "waiting for a slot",
		locksmith.PhaseAcquired:   "has its slot",
		locksmith.PhasePreparing:  "preparing for its reboot",
		locksmith.PhaseNotifying:  "giving logged-in users their time",
		locksmith.PhaseVerifying:  "being checked after its reboot",
		locksmith.PhaseRestoring:  "undoing what was prepared",
		locksmith.PhaseReleasing:  "giving its slot back",
		locksmith.PhaseFailed:     "failing its checks after the reboot",
	}
	switch {
	case phase == "":
		return "its phase is not known"
	case phase == locksmith.PhaseIdle && p.w.Machine.Waiting == locksmith.RanDry:
		return "done with its dry run (idle)"
	case phase == locksmith.PhaseIdle && p.w.Machine.NeededSince > 0:
		return "waiting for its next try (idle)"
	case words[phase] == "": // idle and rebooting say it themselves
		return string(phase)
	}
	return fmt.Sprintf("%s (%s)", words[phase], phase)
}

func (p *whyPage) need() {
	m := p.w.Machine
	var need locksmith.Condition
	for _, c := range m.Conditions {
		if c.Name == locksmith.CondNeed {
			need = c
		}
	}
	switch {
	case m.NeededSince > 0:
		at := locksmith.When(m.NeededSince)
		text := fmt.Sprintf("Reboot needed since %s, %s", locksmith.Clock(at, p.now), locksmith.Span(p.now.Sub(at)))
		p.line(plain, text+after(": ", cmp.Or(m.Reason, need.Text)))
	case m.Phase == "" || need.State == locksmith.CondUnknown:
		p.line(red, "Whether a reboot is needed is not known"+after(": ", need.Text)+".")
	default:
		p.line(plain, sentence(cmp.Or(need.Text, "no reboot is needed"))+".")
	}
}

// row is one line of the list of conditions.
type row struct {
	state locksmith.ConditionState
	name  string
	text  string
}

func (p *whyPage) conditions() {
	rows := p.rows()
	width := 0
	for _, r := range rows {
		width = max(width, min(utf8.RuneCountInString(r.name), 20))
	}
	for _, r := range rows {
		state := stateCell(r.state)
		line := "  " + painted(state, p.c.colours()) + pad(state.text, 9) + r.name + pad(r.name, width+2) +
			wrap(oneLine(r.text), p.width, 2+9+width+2)
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

// rows are the conditions, where pauses and places in queues, which are newer than
// what the machine said, go before its own words.
func (p *whyPage) rows() []row {
	needed := p.w.Machine.NeededSince > 0
	var rows []row
	pauses, slots := p.pauseRows(), needed
	for _, c := range p.w.Machine.Conditions {
		switch {
		case c.Name == locksmith.CondNeed && (c.State == locksmith.CondMet || !needed): // said above
		case c.Name == locksmith.CondPause && len(pauses) > 0:
			rows, pauses = append(rows, pauses...), nil
		case !needed && c.State == locksmith.CondPending:
		case c.Name == locksmith.CondSlot:
			rows, slots = append(rows, p.slotRows(c)...), false
		default:
			rows = append(rows, p.row(c))
		}
	}
	rows = append(rows, pauses...) // of a machine that says nothing of them
	if slots && len(p.w.Machine.Conditions) == 0 {
		rows = append(rows, p.placeRows(locksmith.CondPending)...)
	}
	if p.w.StoreError != "" {
		rows = append(rows, row{locksmith.CondUnknown, "etcd", "who is before it is not known: " + p.w.StoreError})
	}
	return rows
}

func (p *whyPage) row(c locksmith.Condition) row {
	text := cmp.Or(c.Text, standard(c))
	for _, sep := range []string{": ", " "} { // "window opens …" says what the line begins with
		text = strings.TrimPrefix(text, c.Name+sep)
	}
	return row{c.State, oneLine(c.Name), text + relative(c, p.now)}
}

// slotRows are the places in the queues, after what the machine says where that is
// no matter of a queue: that it takes no slot, or that it cannot ask for one.
func (p *whyPage) slotRows(c locksmith.Condition) []row {
	places := p.placeRows(c.State)
	held := slices.ContainsFunc(p.w.Places, func(place locksmith.Place) bool { return place.Holds })
	switch {
	case len(places) == 0, c.State == locksmith.CondMet && !held:
		return []row{p.row(c)}
	case c.State == locksmith.CondUnknown || c.State == locksmith.CondBlocked:
		return append([]row{p.row(c)}, p.placeRows(locksmith.CondPending)...)
	}
	return places
}

func (p *whyPage) pauseRows() []row {
	var rows []row
	for _, pause := range p.w.Pauses(p.now) {
		rows = append(rows, row{locksmith.CondBlocked, locksmith.CondPause, p.scopeWords(pause.Scope) + " " + pausedBy(pause, p.now)})
	}
	return rows
}

// scopeWords is what is paused; the machine that all of this is about needs no id.
func (p *whyPage) scopeWords(s locksmith.PauseScope) string {
	if s.Machine != "" && s.Machine == p.w.Machine.MachineID {
		return "the machine itself"
	}
	return s.String()
}

func (p *whyPage) placeRows(state locksmith.ConditionState) []row {
	var rows []row
	for _, place := range p.w.Places {
		s := state
		switch {
		case place.Holds:
			s = locksmith.CondMet
		case place.Position > 0 && s == locksmith.CondPending:
			s = locksmith.CondWaiting
		}
		rows = append(rows, row{s, locksmith.CondSlot, placeText(place, p.now)})
	}
	return rows
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
		p.line(red, "Its checks fail: "+cmp.Or(whyFailed(m), "it does not say which"))
		p.unlock("Repair it, and its slot goes back by itself. To let the others go on without that:")
	} else if phase == locksmith.PhaseFailed {
		p.line(red, "It failed: "+cmp.Or(m.Waiting, "it does not say why"))
	}
	if m.Holds != nil && m.Holds.Own() && m.Stale(p.now) {
		p.unlock("If it is gone for good, give its slot to the next:")
	}
	for _, pause := range p.w.Pauses(p.now) {
		p.line(plain, "To end the pause of "+p.scopeWords(pause.Scope)+":")
		p.command(p.c.resumeCommand(pause.Scope))
	}
	if m.NeededSince > 0 && m.Holds == nil {
		p.staleHolders()
	}
}

// whyFailed is why the machine failed. A record says it only where it is of then:
// before, its reason is that of the reboot.
func whyFailed(m locksmith.MachineStatus) string {
	if m.Holds.Phase == locksmith.PhaseFailed {
		return cmp.Or(m.Holds.Reason, m.Waiting)
	}
	return m.Waiting
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
					h.Name(), locksmith.PauseScope{Group: place.Group}, notSeen(h, p.now)))
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

// standard says what a condition's state means where the machine does not.
func standard(c locksmith.Condition) string {
	switch c.Name + " " + string(c.State) {
	case "window met":
		return "open"
	case "window waiting":
		return "closed"
	case "pause met":
		return "nobody paused it"
	case "breaker met":
		return "does not hold it back"
	case "checks met":
		return "nothing blocks"
	case "checks pending":
		return "run before it asks for a slot"
	case "slot pending":
		return "asked for once all above is met"
	case "users pending":
		return "told before the reboot"
	}
	return ""
}

// relative is what a condition's times mean at now. The instant itself is added
// where the text does not have it, as one from another time zone.
func relative(c locksmith.Condition, now time.Time) string {
	until, since := locksmith.When(c.Until), locksmith.When(c.Since)
	if now.Before(until) {
		left, at := locksmith.Span(until.Sub(now)), locksmith.Clock(until, now)
		if strings.Contains(c.Text, until.In(now.Location()).Format("15:04")) {
			at = ""
		}
		switch c.State {
		case locksmith.CondMet:
			return after(" until ", at) + ", " + left + " left"
		case locksmith.CondWaiting:
			if at == "" {
				return ", in " + left
			}
		}
		if at != "" {
			left = "until " + at + ", " + left
		}
		return " (" + left + " left)"
	}
	if c.Since == 0 || c.State == locksmith.CondMet || c.State == locksmith.CondPending {
		return ""
	}
	return " (for " + locksmith.Span(now.Sub(since)) + ")"
}

// after is text behind sep, or nothing where there is no text.
func after(sep, text string) string {
	if text == "" {
		return ""
	}
	return sep + text
}
