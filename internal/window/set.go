package window

import (
	"slices"
	"strings"
	"time"
)

// Set is when reboots are allowed: inside any of its windows, or at any time where
// it has none, and outside all of its deny windows. It is immutable; make one with
// NewSet.
type Set struct {
	allow, deny []*Spec
	anytime     bool // no window, or one that never closes: only deny windows count
}

// NewSet makes a Set of the windows in allow and the deny windows in deny. Where
// both are empty it is nil: always open, and no Set is needed to say so.
func NewSet(allow, deny []*Spec) *Set {
	if len(allow) == 0 && len(deny) == 0 {
		return nil
	}
	anytime := len(allow) == 0 || slices.ContainsFunc(allow, (*Spec).always)
	return &Set{slices.Clone(allow), slices.Clone(deny), anytime}
}

// Windows lists the windows as ParseSpec reads them, with their zones.
func (s *Set) Windows() []string { return texts(s.allow) }

// DenyWindows lists the deny windows as ParseSpec reads them, with their zones.
func (s *Set) DenyWindows() []string { return texts(s.deny) }

func texts(specs []*Spec) []string {
	var list []string
	for _, s := range specs {
		list = append(list, s.String())
	}
	return list
}

// String is the set for people, in one line.
func (s *Set) String() string {
	text := "at any time"
	if len(s.allow) > 0 {
		text = strings.Join(s.Windows(), ", ")
	}
	if len(s.deny) > 0 {
		text += ", except " + strings.Join(s.DenyWindows(), ", ")
	}
	return text
}

// Contains says whether reboots are allowed at t. The start of a window or deny
// window belongs to it, its end does not.
func (s *Set) Contains(t time.Time) bool {
	contains := func(spec *Spec) bool { return spec.Contains(t) }
	return (s.anytime || slices.ContainsFunc(s.allow, contains)) && !slices.ContainsFunc(s.deny, contains)
}

// sight is how far Next looks ahead: a little more than five years.
const sight = 5 * 366 * day

// dawn is how far it looks back. It is the same for every instant, so that the start
// of an open period stays what it is.
var dawn = time.Unix(0, 0)

// Next returns the start and end of the open period that contains t, or else of
// the next one after t. Windows that overlap or touch make one period, which deny
// windows cut.
//
// It looks five years ahead. A zero start means that no period starts in that time,
// a zero end that the period does not end in it. A period that began before 1970, if
// it ever did, is said to have begun with 1970, at Unix time 0.
func (s *Set) Next(t time.Time) (start, end time.Time) {
	start, end = s.ahead(t, t.Add(sight))
	if start.Equal(t) {
		start = s.since(t)
	}
	return start, end
}

// ahead is Next without the past: of a period that contains t the start is t. A
// zero start means that none starts until limit, a zero end that it lasts longer.
func (s *Set) ahead(t, limit time.Time) (start, end time.Time) {
	allow, deny := cursors(s.allow), cursors(s.deny)
	for start = t; ; {
		if !s.anytime {
			start = allow.next(start)
		}
		if start.IsZero() || start.After(limit) {
			return time.Time{}, time.Time{}
		}
		denied := deny.until(start, limit)
		if denied.Equal(start) {
			break
		}
		start = denied
	}
	cut := deny.next(start)
	if cut.After(limit) {
		cut = time.Time{}
	}
	if s.anytime {
		return start, cut
	}
	if !cut.IsZero() {
		limit = cut
	}
	if end = allow.until(start, limit); end.After(limit) {
		end = cut
	}
	return start, end
}

// since is when the open period began that contains t. Nearly all began not long
// ago: it looks a little way back first, and only then further.
func (s *Set) since(t time.Time) time.Time {
	if !t.After(dawn) {
		return t
	}
	for _, back := range []time.Duration{2 * day, 32 * day, 512 * day} {
		if start := s.sinceAfter(t.Add(-back), t); start.After(t.Add(-back)) {
			return start
		}
	}
	return s.sinceAfter(dawn, t)
}

// sinceAfter is since where that is after from, and else from.
func (s *Set) sinceAfter(from, t time.Time) time.Time {
	start, end := s.ahead(from, t)
	for !end.IsZero() && !end.After(t) {
		start, end = s.ahead(end, t)
	}
	return start
}

// Opening is a period in which reboots are allowed. A zero End is not in sight.
type Opening struct{ Start, End time.Time }

// Openings lists the first n open periods that end after t. There are fewer where
// no more are in sight.
func (s *Set) Openings(t time.Time, n int) []Opening {
	var list []Opening
	for len(list) < n {
		start, end := s.Next(t)
		if start.IsZero() {
			break
		}
		list = append(list, Opening{start, end})
		if end.IsZero() {
			break
		}
		t = end
	}
	return list
}

// walk is a cursor for each of several Specs. What it is asked must not go back in
// time.
type walk []*cursor

func cursors(specs []*Spec) walk {
	w := make(walk, len(specs))
	for i, s := range specs {
		w[i] = &cursor{spec: s}
	}
	return w
}

// next is t where a window contains it, or else the start of the next one; zero
// where none comes.
func (w walk) next(t time.Time) time.Time {
	var first time.Time
	for _, c := range w {
		switch {
		case !c.seek(t):
		case !c.start.After(t):
			return t
		case first.IsZero() || c.start.Before(first):
			first = c.start
		}
	}
	return first
}

// until is the first instant from t on that no window contains, or some instant
// after limit that one contains or touches.
func (w walk) until(t, limit time.Time) time.Time {
	for again := true; again && !t.After(limit); {
		again = false
		for _, c := range w {
			if c.contains(t) {
				t, again = c.end, true
			}
		}
	}
	return t
}
