package locksmith

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Row is one line of the list of a machine's conditions, for people.
type Row struct {
	State ConditionState
	Name  string // of the condition
	Text  string
}

// Rows are the conditions at now, where pauses and places in queues, which are newer
// than what the machine said, go before its own words.
func (w Why) Rows(now time.Time) []Row {
	needed := w.Machine.NeededSince > 0
	var rows []Row
	pauses, slots := w.pauseRows(now), needed
	for _, c := range w.Machine.Conditions {
		switch {
		case c.Name == CondNeed && (c.State == CondMet || !needed): // Need says it
		case c.Name == CondPause && len(pauses) > 0:
			rows, pauses = append(rows, pauses...), nil
		case !needed && c.State == CondPending:
		case c.Name == CondSlot:
			rows, slots = append(rows, w.slotRows(c, now)...), false
		default:
			rows = append(rows, c.row(now))
		}
	}
	rows = append(rows, pauses...) // of a machine that says nothing of them
	if slots && len(w.Machine.Conditions) == 0 {
		rows = append(rows, w.placeRows(CondPending, now)...)
	}
	if w.StoreError != "" {
		rows = append(rows, Row{CondUnknown, "etcd", "who is before it is not known: " + w.StoreError})
	}
	return rows
}

// Need says since when and why the machine needs a reboot; known is false where that
// cannot be found out.
func (w Why) Need(now time.Time) (text string, known bool) {
	m := w.Machine
	need, _ := w.condition(CondNeed)
	switch {
	case m.NeededSince > 0:
		at := When(m.NeededSince)
		text = fmt.Sprintf("Reboot needed since %s, %s", Clock(at, now), Span(now.Sub(at)))
		return text + behind(": ", cmp.Or(m.Reason, need.Text)), true
	case m.Phase == "" || need.State == CondUnknown:
		return "Whether a reboot is needed is not known" + behind(": ", need.Text) + ".", false
	}
	text = cmp.Or(need.Text, "no reboot is needed")
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:] + ".", true
}

func (c Condition) row(now time.Time) Row {
	text := cmp.Or(c.Text, c.standard())
	for _, sep := range []string{": ", " "} { // "window opens …" says what the line begins with
		text = strings.TrimPrefix(text, c.Name+sep)
	}
	return Row{c.State, c.Name, text + c.relative(now)}
}

// slotRows are the places in the queues, after what the machine says where that is
// no matter of a queue: that it takes no slot, or that it cannot ask for one.
func (w Why) slotRows(c Condition, now time.Time) []Row {
	places := w.placeRows(c.State, now)
	held := slices.ContainsFunc(w.Places, func(place Place) bool { return place.Holds })
	switch {
	case len(places) == 0, c.State == CondMet && !held:
		return []Row{c.row(now)}
	case c.State == CondUnknown || c.State == CondBlocked:
		return append([]Row{c.row(now)}, w.placeRows(CondPending, now)...)
	}
	return places
}

func (w Why) pauseRows(now time.Time) []Row {
	var rows []Row
	for _, p := range w.Pauses(now) {
		rows = append(rows, Row{CondBlocked, CondPause, w.ScopeWords(p.Scope) + " " + p.Words(now)})
	}
	return rows
}

// ScopeWords is what is paused; the machine that all of this is about needs no id.
func (w Why) ScopeWords(s PauseScope) string {
	if s.Machine != "" && s.Machine == w.Machine.MachineID {
		return "the machine itself"
	}
	return s.String()
}

func (w Why) placeRows(state ConditionState, now time.Time) []Row {
	var rows []Row
	for _, place := range w.Places {
		s := state
		switch {
		case place.Holds:
			s = CondMet
		case place.Position > 0 && s == CondPending:
			s = CondWaiting
		}
		rows = append(rows, Row{s, CondSlot, place.Words(now)})
	}
	return rows
}

// Failure is why the machine failed, empty where it does not say. A record says it
// only where it is of then: before, its reason is that of the reboot.
func (m MachineStatus) Failure() string {
	if m.Holds != nil && m.Holds.Phase == PhaseFailed {
		return cmp.Or(m.Holds.Reason, m.Waiting)
	}
	return m.Waiting
}

// AllGroups are the groups the machine is in, as it says itself, and those it holds
// a slot in; sorted.
func (m MachineStatus) AllGroups() []Group {
	groups := slices.Clone(m.Groups)
	if m.Holds != nil {
		groups = append(groups, m.Holds.Groups...)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// PhaseWords says what a machine in this phase does, together with the phase's name.
func (w Why) PhaseWords(phase Phase) string {
	words := map[Phase]string{
		PhaseRecovering: "finding out what an earlier run left",
		PhaseNeeded:     "about to ask for its reboot",
		PhaseWindow:     "not allowed to reboot yet",
		PhaseQueued:     "waiting for a slot",
		PhaseAcquired:   "has its slot",
		PhasePreparing:  "preparing for its reboot",
		PhaseNotifying:  "giving logged-in users their time",
		PhaseVerifying:  "being checked after its reboot",
		PhaseRestoring:  "undoing what was prepared",
		PhaseReleasing:  "giving its slot back",
		PhaseFailed:     "failing its checks after the reboot",
	}
	switch {
	case phase == "":
		return "its phase is not known"
	case phase == PhaseIdle && w.Machine.Waiting == RanDry:
		return "done with its dry run (idle)"
	case phase == PhaseIdle && w.Machine.NeededSince > 0:
		return "waiting for its next try (idle)"
	case words[phase] == "": // idle and rebooting say it themselves
		return string(phase)
	}
	return fmt.Sprintf("%s (%s)", words[phase], phase)
}

// standard says what a condition's state means where the machine does not.
func (c Condition) standard() string {
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
func (c Condition) relative(now time.Time) string {
	until, since := When(c.Until), When(c.Since)
	if now.Before(until) {
		left, at := Span(until.Sub(now)), Clock(until, now)
		if strings.Contains(c.Text, until.In(now.Location()).Format("15:04")) {
			at = ""
		}
		switch c.State {
		case CondMet:
			return behind(" until ", at) + ", " + left + " left"
		case CondWaiting:
			if at == "" {
				return ", in " + left
			}
		}
		if at != "" {
			left = "until " + at + ", " + left
		}
		return " (" + left + " left)"
	}
	if c.Since == 0 || c.State == CondMet || c.State == CondPending {
		return ""
	}
	return " (for " + Span(now.Sub(since)) + ")"
}

// behind is text after sep, or nothing where there is no text.
func behind(sep, text string) string {
	if text == "" {
		return ""
	}
	return sep + text
}
