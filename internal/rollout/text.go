package rollout

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
)

// text shows the arithmetic.
func (r *reckoning) text(p Progress) string {
	var b strings.Builder
	b.WriteString(r.soFar(p))
	if !p.Ends.IsZero() {
		b.WriteString(r.ahead(p))
	}
	b.WriteString(".")
	if note := r.notes(p); note != "" {
		b.WriteString(" " + sentence(note))
	}
	return b.String()
}

// soFar is what was done and how fast that went.
func (r *reckoning) soFar(p Progress) string {
	of := fmt.Sprintf("%d of %s rebooted", p.Done, plural(p.Total, "machine", "machines"))
	switch {
	case r.last == 0:
		return fmt.Sprintf("%s, %s after the start", of, span2(r.now.Sub(p.Start)))
	case p.Pace <= 0:
		return of
	}
	text := fmt.Sprintf("%s in %s", of, span2(r.took))
	if !r.all {
		text = fmt.Sprintf("%s, the last %d of them in %s", of, r.last, span2(r.took))
	} else if r.last != p.Done {
		text = fmt.Sprintf("%s, with %s in %s", of, plural(r.last, "reboot", "reboots"), span2(r.took))
	}
	if r.overdue && p.Why == "" {
		text += fmt.Sprintf(" and none in the %s since", span2(r.since))
	}
	return text + fmt.Sprintf(", one every %s", span2(p.Pace))
}

// ahead is what the pace means for the rest.
func (r *reckoning) ahead(p Progress) string {
	n := r.moving()
	which := fmt.Sprintf("; the %d left", n)
	if n == 1 {
		which = "; the one left"
	}
	takes := verb(n, "takes", "take")
	if least := r.least(); least > times(n, p.Pace) {
		return fmt.Sprintf("%s %s about %s more, as one machine takes %s from slot to slot", which, takes, span2(least), span2(r.each))
	}
	return fmt.Sprintf("%s %s about %s at this pace", which, takes, locksmith.Span(times(n, p.Pace)))
}

// notes say what the arithmetic leaves out.
func (r *reckoning) notes(p Progress) string {
	var notes []string
	if !p.Ends.IsZero() && r.last < few {
		notes = append(notes, "so few tell the pace only roughly")
	}
	if stuck := len(r.left.failed) + len(r.left.stale); stuck > 0 && r.moving() > 0 && !p.Ends.IsZero() {
		notes = append(notes, fmt.Sprintf("%d stuck %s left out", stuck, verb(stuck, "one is", "ones are")))
	}
	if later := len(r.left.all) - r.left.asking; later > 0 && r.left.asking > 0 && !p.Ends.IsZero() {
		notes = append(notes, fmt.Sprintf("%d of them %s for no slot yet, which can make it longer", later, verb(later, "asks", "ask")))
	}
	if r.left.silent > 0 {
		notes = append(notes, fmt.Sprintf("%s not connected and not counted", plural(r.left.silent, "machine that needs a reboot is", "machines that need a reboot are")))
	}
	return strings.Join(notes, "; ")
}

// idle is for when no rollout is running.
func (r *reckoning) idle() string {
	text := "No rollout is running."
	if len(r.run.holds) > 0 {
		done := make(map[string]bool)
		for _, h := range r.run.holds {
			if h.State == Rebooted {
				done[h.Machine] = true
			}
		}
		text += fmt.Sprintf(" In the last one %s rebooted in %s; it ended %s ago.", plural(len(done), "machine", "machines"),
			locksmith.Span(r.run.end.Sub(r.run.start)), locksmith.Span(r.now.Sub(r.run.end)))
	}
	if r.left.silent > 0 {
		text += " " + sentence(r.notes(Progress{}))
	}
	return text
}

// span2 is a short duration to the second, where locksmith.Span has the minutes only:
// a pace is multiplied by the reader.
func span2(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < 10*time.Second && d%time.Second != 0:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		if s := int(d.Seconds()) % 60; d >= time.Minute && s != 0 {
			return fmt.Sprintf("%d min %d s", int(d.Minutes()), s)
		}
	}
	return locksmith.Span(d)
}

func plural(n int, one, many string) string { return fmt.Sprintf("%d %s", n, verb(n, one, many)) }

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// some names the first of many.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// sentence begins with a capital letter and ends with a full stop.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[size:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
