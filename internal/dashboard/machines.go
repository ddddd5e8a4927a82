package dashboard

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// machinesView is the list of all machines.
type machinesView struct {
	Query    string
	Show     []choice
	Groups   []choice
	Machines []machineRow
	Pages    pagesView
	Known    int // without the filters
}

// machineRow is one machine in the list.
type machineRow struct {
	ID, Name string
	Groups   []locksmith.Group
	Phase    string
	Tone     string
	Since    int64 // of the phase
	Needed   int64 // since when it needs a reboot; 0: it needs none
	Reason   string
	Seen     int64 // 0: it is connected now, or never was
	Present  bool
	Silent   bool // it speaks FleetLock, and says nothing of itself
	Stale    bool
	Paused   bool
	Last     int64 // when its last reboot ended; 0: not known
	Outcome  string
}

const machinesPage = 200

// shown are the choices of what to show.
var shown = []choice{{Value: "", Text: "All"}, {Value: "needed", Text: "Needing a reboot"}, {Value: "holding", Text: "Holding a slot"},
	{Value: "failed", Text: "Failed"}, {Value: "stale", Text: "Stale"}, {Value: "paused", Text: "Paused"}}

func (d *dashboard) machines(r *http.Request, who access.Caller) (page, error) {
	now := clock()
	all, err := d.reads.machines(r.Context())
	if err != nil {
		return page{}, err
	}
	groups, err := d.seenGroups(r, who)
	if err != nil {
		return page{}, err
	}
	f := filterOf(r.URL.Query())
	v := machinesView{Query: f.text}
	for _, c := range shown {
		c.Chosen = c.Value == f.show
		v.Show = append(v.Show, c)
	}
	v.Groups = append(v.Groups, choice{"", "All groups", f.in == ""})
	for _, g := range groups {
		v.Groups = append(v.Groups, choice{groupValue(g), g.String(), f.in == groupValue(g)})
	}
	var fit []int
	for i := range all {
		if !who.SeesMachine(all[i].AllGroups()) {
			continue
		}
		v.Known++
		if f.fits(&all[i], now) {
			fit = append(fit, i)
		}
	}
	v.Pages = pagesOf(r.URL, len(fit), machinesPage)
	from := v.Pages.From()
	for _, i := range fit[from:min(from+machinesPage, len(fit))] {
		v.Machines = append(v.Machines, machineRowOf(all[i], who, now))
	}
	return page{View: "machines", Title: "Machines", Nav: "machines", Main: v}, nil
}

// filter is which machines are wanted.
type filter struct{ text, show, in string }

func filterOf(q url.Values) filter {
	return filter{text: strings.TrimSpace(q.Get("q")), show: q.Get("show"), in: q.Get("in")}
}

func (f filter) fits(m *locksmith.MachineStatus, now time.Time) bool {
	phase, _ := m.Where()
	switch f.show {
	case "needed":
		if m.NeededSince == 0 {
			return false
		}
	case "holding":
		if m.Holds == nil {
			return false
		}
	case "failed":
		if phase != locksmith.PhaseFailed {
			return false
		}
	case "stale":
		if !m.Stale(now) {
			return false
		}
	case "paused":
		if len(m.Pauses) == 0 {
			return false
		}
	}
	return f.fitsGroup(m) && f.fitsText(m)
}

func (f filter) fitsGroup(m *locksmith.MachineStatus) bool {
	if f.in == "" {
		return true
	}
	for _, g := range m.AllGroups() {
		if groupValue(g) == f.in {
			return true
		}
	}
	return false
}

func (f filter) fitsText(m *locksmith.MachineStatus) bool {
	if f.text == "" {
		return true
	}
	text := strings.ToLower(f.text)
	for _, s := range []string{m.Name(), m.MachineID, m.OS, m.Kernel, m.Reason, m.Waiting} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return false
}

func machineRowOf(m locksmith.MachineStatus, who access.Caller, now time.Time) machineRow {
	phase, since := m.Where()
	row := machineRow{ID: m.MachineID, Name: m.Name(), Phase: string(phase), Since: since, Needed: m.NeededSince, Reason: m.Reason,
		Present: m.Present, Stale: m.Stale(now), Paused: len(m.Pauses) > 0, Last: m.LastReboot, Outcome: m.LastOutcome, Tone: toneCalm}
	for _, g := range m.AllGroups() {
		if who.Sees(g) {
			row.Groups = append(row.Groups, g)
		}
	}
	if seen := m.LastSeen(); !m.Present && !seen.IsZero() {
		row.Seen = seen.Unix()
	}
	switch {
	case m.Holds != nil && m.Holds.By == locksmith.ByFleetLock:
		row.Phase, row.Tone, row.Since, row.Silent = "rebooting, over FleetLock", toneWarn, m.Holds.StartTime, !m.Present && m.Seen == 0
	case phase == locksmith.PhaseFailed:
		row.Tone = toneBad
	case phase == locksmith.PhaseRebooting:
		row.Tone = toneWarn
	case phase.HoldsSlots():
		row.Tone = toneBusy
	case m.Holds != nil && !m.Holds.Own():
		row.Phase, row.Since = "held by "+m.Holds.By, m.Holds.StartTime
	}
	return row
}
