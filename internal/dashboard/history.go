package dashboard

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// entryView is one thing that happened.
type entryView struct {
	At          int64
	Action      string // in words
	Group       locksmith.Group
	HasGroup    bool
	Machine     string // its id; may be empty
	Name        string
	Actor       string
	Held, Down  string // durations; empty: none
	Outcome     string
	Refused     bool
	MachineLink bool
}

// actionWords are the history's actions for people.
var actionWords = map[locksmith.Action]string{
	locksmith.ActionLock: "took a slot", locksmith.ActionUnlock: "gave its slot back", locksmith.ActionSetMax: "slots changed",
	locksmith.ActionPause: "paused", locksmith.ActionResume: "resumed", locksmith.ActionRefuse: "refused",
}

// groupEntry is an entry of a group's history.
type groupEntry struct {
	locksmith.HistoryEntry
	group    locksmith.Group
	hasGroup bool
}

func entryViews(entries []locksmith.HistoryEntry, g locksmith.Group) []entryView {
	var list []entryView
	for _, e := range entries {
		list = append(list, entryViewOf(groupEntry{e, g, true}))
	}
	return list
}

func entryViewOf(e groupEntry) entryView {
	v := entryView{At: e.Time.Unix(), Action: cmp.Or(actionWords[e.Action], string(e.Action)), Group: e.group, HasGroup: e.hasGroup,
		Machine: e.Machine, Name: cmp.Or(e.Hostname, e.Machine), Actor: e.Actor, Outcome: e.Outcome, Refused: e.Action == locksmith.ActionRefuse}
	v.Held, v.Down = span(e.Held), span(e.Down)
	v.MachineLink = e.Machine != "" && locksmith.CheckMachineID(e.Machine) == nil
	return v
}

func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return locksmith.Span(d)
}

// historyView is what happened in all groups, or in one.
type historyView struct {
	Groups  []choice
	Query   string
	Entries []entryView
	Pages   pagesView
	Unread  []string // groups whose history cannot be read
}

// choice is one of a list to choose from.
type choice struct {
	Value, Text string
	Chosen      bool
}

const historyPage = 100

func (d *dashboard) history(r *http.Request, who access.Caller) (page, error) {
	q := r.URL.Query()
	groups, err := d.seenGroups(r, who)
	if err != nil {
		return page{}, err
	}
	v := historyView{Query: strings.TrimSpace(q.Get("q"))}
	in := q.Get("in")
	all := in == ""
	v.Groups = append(v.Groups, choice{"", "All groups", all})
	var entries []groupEntry
	for _, g := range groups {
		chosen := in == groupValue(g)
		v.Groups = append(v.Groups, choice{groupValue(g), g.String(), chosen})
		if !all && !chosen {
			continue
		}
		list, err := d.reads.history(r.Context(), g)
		if _, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
			v.Unread = append(v.Unread, sentence(scopeName(g))+": "+err.Error())
			continue
		}
		if err != nil {
			return page{}, err
		}
		for _, e := range list {
			entries = append(entries, groupEntry{e, g, true})
		}
	}
	if all && who.Everywhere() { // who was refused what in no group is everybody's business who sees all
		list, err := d.reads.refusals(r.Context())
		if err != nil {
			return page{}, err
		}
		for _, e := range list {
			if e.Group == nil {
				entries = append(entries, groupEntry{HistoryEntry: e})
			} else if !slices.Contains(groups, *e.Group) {
				entries = append(entries, groupEntry{e, *e.Group, true})
			}
		}
	}
	entries = slices.DeleteFunc(entries, func(e groupEntry) bool { return !e.matches(v.Query) })
	slices.SortStableFunc(entries, func(a, b groupEntry) int { return cmp.Compare(b.Revision, a.Revision) })
	v.Pages = pagesOf(r.URL, len(entries), historyPage)
	from := v.Pages.From()
	for _, e := range entries[from:min(from+historyPage, len(entries))] {
		v.Entries = append(v.Entries, entryViewOf(e))
	}
	return page{View: "history", Title: "History", Nav: "history", Main: v}, nil
}

// matches says whether an entry has a text somewhere.
func (e groupEntry) matches(text string) bool {
	text = strings.ToLower(text)
	for _, s := range []string{e.Machine, e.Hostname, e.Actor, e.Outcome, string(e.Action), actionWords[e.Action]} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return false
}

// groupValue names a group where the empty value is all of them.
func groupValue(g locksmith.Group) string { return "group:" + string(g) }

// seenGroups are the groups that the caller may know of.
func (d *dashboard) seenGroups(r *http.Request, who access.Caller) ([]locksmith.Group, error) {
	summaries, err := d.reads.groups(r.Context())
	if err != nil {
		return nil, err
	}
	var groups []locksmith.Group
	for _, g := range summaries {
		if who.Sees(g.Group) {
			groups = append(groups, g.Group)
		}
	}
	return groups, nil
}
