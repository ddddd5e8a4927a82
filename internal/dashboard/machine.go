package dashboard

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// machineView is the page of one machine: why it has or has not rebooted, and its past.
type machineView struct {
	ID, Name string
	Groups   []locksmith.Group
	Heading  string // its phase, in words
	Since    int64  // of the phase; 0: not known
	Absent   string // how old what follows is; empty: it is of now
	Stale    bool
	Next     string
	Need     string
	Rows     []rowView
	Says     string // its own words, where no row has them
	Failure  string
	Last     string
	LastAt   int64
	About    [][2]string
	Pauses   []pauseView // of the machine itself
	Pause    *link
	Unlocks  []link
	Past     []entryView
	Short    bool // its past may be longer
}

// rowView is one condition.
type rowView struct{ State, Tone, Name, Text string }

// maxPast is how many entries of a machine's past are shown.
const maxPast = 50

func (d *dashboard) machine(r *http.Request, who access.Caller) (page, error) {
	ctx, now, id := r.Context(), clock(), r.URL.Query().Get("id")
	if err := locksmith.CheckMachineID(id); err != nil {
		return page{}, &problem{Status: http.StatusBadRequest, Title: "No such machine", Text: sentence(err.Error()) + "."}
	}
	m, err := d.reads.machine(ctx, id)
	if err == nil && !who.SeesMachine(m.AllGroups()) { // as if it were not there
		err = fmt.Errorf("%w %q", locksmith.ErrUnknownMachine, id)
	}
	if err != nil {
		return page{}, err
	}
	w := locksmith.Why{Time: now.Unix(), Machine: m}
	var holders []locksmith.HolderStatus
	var failed []string
	v := machineView{ID: m.MachineID, Name: m.Name()}
	for _, g := range m.AllGroups() {
		if !who.Sees(g) {
			continue
		}
		v.Groups = append(v.Groups, g)
		s, err := d.reads.status(ctx, g)
		if err != nil {
			failed = append(failed, scopeName(g)+": "+err.Error())
			continue
		}
		w.Places = append(w.Places, locksmith.PlaceOf(s, m.MachineID))
		i := slices.IndexFunc(s.Holders, func(h locksmith.HolderStatus) bool { return h.MachineID == m.MachineID })
		if i >= 0 {
			holders = append(holders, s.Holders[i])
			if l := unlockLink(who, g, s.Holders[i].Holder); l != nil {
				l.Text = "Unlock in " + scopeName(g) + "…"
				v.Unlocks = append(v.Unlocks, *l)
			}
		}
		if err := d.past(r, &v, g); err != nil {
			return page{}, err
		}
	}
	w.StoreError = strings.Join(failed, "; ")
	v.tell(w, holders, now)
	v.tellPauses(m, who, now)
	slices.SortStableFunc(v.Past, func(a, b entryView) int { return cmp.Compare(b.At, a.At) })
	if len(v.Past) > maxPast {
		v.Past, v.Short = v.Past[:maxPast], true
	}
	return page{View: "machine", Title: v.Name, Nav: "machines", Say: v.Name + ": " + v.Heading + ". Next: " + v.Next, Main: v}, nil
}

// past adds what is known of the machine in one group's history.
func (d *dashboard) past(r *http.Request, v *machineView, g locksmith.Group) error {
	entries, err := d.reads.history(r.Context(), g)
	if _, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
		return nil // its conditions matter more
	}
	for _, e := range entries {
		if e.Machine == v.ID {
			v.Past = append(v.Past, entryViewOf(groupEntry{e, g, true}))
		}
	}
	return err
}

// tell says what locksmithctl why says.
func (v *machineView) tell(w locksmith.Why, holders []locksmith.HolderStatus, now time.Time) {
	m := w.Machine
	phase, since := m.Where()
	v.Heading, v.Since, v.Stale = w.PhaseWords(phase), since, m.Stale(now)
	foreign := m.Holds != nil && m.Holds.By == locksmith.ByFleetLock
	switch {
	case foreign:
		v.Heading, v.Since = "holds a slot, taken over FleetLock", m.Holds.StartTime
		v.Absent = "It speaks FleetLock, so that nothing is known of it but its slot."
		v.Stale = slices.ContainsFunc(holders, func(h locksmith.HolderStatus) bool { return h.Stale(now) })
	case m.Present:
	case m.Holds != nil && m.Holds.Booting(now):
		at := locksmith.When(m.Holds.PhaseTime)
		v.Absent = fmt.Sprintf("It was asked to reboot at %s, %s ago, and may well be silent now. What follows is of before.",
			locksmith.Clock(at, now), locksmith.Span(now.Sub(at)))
	case m.LastSeen().IsZero():
		v.Absent = "locksmithd was never seen on it."
	default:
		v.Absent = fmt.Sprintf("Last seen %s, %s ago; what follows was true then.", locksmith.Clock(m.LastSeen(), now), locksmith.Span(now.Sub(m.LastSeen())))
	}
	if foreign {
		v.Next = "gives its slot back once it is up and asks its server to."
	} else {
		v.Next = w.Next(now)
		v.Need, _ = w.Need(now)
	}
	v.Heading = sentence(v.Heading)
	v.conditions(w, now)
	if phase == locksmith.PhaseFailed {
		v.Failure = cmp.Or(m.Failure(), "it does not say why")
	}
	if m.LastReboot > 0 {
		v.Last, v.LastAt = m.LastOutcome, m.LastReboot
	}
	for _, a := range [][2]string{{"Machine id", m.MachineID}, {"Operating system", m.OS}, {"Kernel", m.Kernel}, {"locksmithd", m.Version},
		{"Strategy", string(m.Strategy)}, {"Boot", m.BootID}} {
		if a[1] != "" {
			v.About = append(v.About, a)
		}
	}
}

func (v *machineView) conditions(w locksmith.Why, now time.Time) {
	said := w.Machine.Waiting
	for _, row := range w.Rows(now) {
		v.Rows = append(v.Rows, rowViewOf(row))
	}
	for _, c := range w.Machine.Conditions {
		if c.Text != "" && (strings.Contains(said, c.Text) || strings.Contains(c.Text, said)) {
			said = ""
		}
	}
	if w.Machine.Phase != locksmith.PhaseFailed { // Failure has it
		v.Says = said
	}
}

func rowViewOf(r locksmith.Row) rowView {
	v := rowView{State: string(r.State), Tone: toneBad, Name: r.Name, Text: r.Text}
	switch r.State {
	case locksmith.CondMet:
		v.State, v.Tone = "ok", toneCalm
	case locksmith.CondWaiting:
		v.State, v.Tone = "waits", toneWarn
	case locksmith.CondPending:
		v.State, v.Tone = "not yet", ""
	}
	return v
}

func (v *machineView) tellPauses(m locksmith.MachineStatus, who access.Caller, now time.Time) {
	scope := locksmith.PauseScope{Machine: m.MachineID}
	for _, p := range m.Pauses {
		v.Pauses = append(v.Pauses, pauseView{"This machine is paused", pauseText(p, now), p.At, resumeLink(who, p.Scope, m.AllGroups())})
	}
	if len(v.Pauses) == 0 {
		v.Pause = pauseLink(who, scope, m.AllGroups())
	}
}
