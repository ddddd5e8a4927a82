package window

import "time"

const day = 24 * time.Hour

// firstInstant is the first instant at which a clock in loc shows wall, whose
// own location is UTC, or, where it is put forward past it, a later time. A later
// wall never has an earlier first instant.
//
// time.Date does not promise which of two instants it picks, nor which side of
// a gap, hence the walk over the zone's periods of constant offset.
func firstInstant(wall time.Time, loc *time.Location) time.Time {
	// Offsets are below 16 hours, so wall cannot have been shown two days before.
	at := wall.Add(-2 * day).In(loc)
	for {
		_, offset := at.Zone()
		from, to := at.ZoneBounds()
		if !to.IsZero() && !to.After(at) {
			// Past the last change that a zone's file lists, Go (1.26) ends a period with
			// each year, and takes years for 365 days long: on 31 December of a leap
			// year the period seems to be over. Clocks are not changed on that day.
			to = at.Add(time.Hour)
		}
		t := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		switch {
		case !to.IsZero() && !t.Before(to):
			at = to
		case t.Before(from): // a zero from is before everything
			return from
		default:
			return t
		}
	}
}

// dateOf is the date that a clock in loc shows at t, as its midnight in UTC: there
// each day has 24 hours and exists.
func dateOf(t time.Time, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// cursor walks over the windows of a Spec in the order of their starts, which is
// also the order of their ends: all have one length, or none overlaps. Empty ones,
// of days that a zone left out, are passed over.
type cursor struct {
	spec       *Spec
	start, end time.Time // the present window, once at is true
	at         bool
	day        time.Time // recurring windows: the next date to look at
	over       bool      // dates: their only window was had
}

// step moves to the next window and says whether there is one.
func (c *cursor) step() bool {
	if c.spec.dated() {
		if c.over {
			return false
		}
		c.start, c.end, c.over = firstInstant(c.spec.from, c.spec.loc), firstInstant(c.spec.to, c.spec.loc), true
		c.at = c.end.After(c.start)
		return c.at
	}
	for {
		date := c.day
		c.day = date.Add(day)
		if !c.spec.startsOn(date) {
			continue
		}
		if c.start, c.end = c.spec.on(date); c.end.After(c.start) {
			c.at = true
			return true
		}
	}
}

// seek moves on to the first window that ends after t and says whether there is
// one. It never moves back.
func (c *cursor) seek(t time.Time) bool {
	// Where the clock has shown a later date than a window's, one length before t,
	// it has shown the window's start too, and the window is over.
	if first := dateOf(t.Add(-c.spec.length), c.spec.loc); c.day.Before(first) {
		c.day = first
	}
	for !c.at || !c.end.After(t) {
		if !c.step() {
			return false
		}
	}
	return true
}

// contains seeks t and says whether the window found there contains it.
func (c *cursor) contains(t time.Time) bool { return c.seek(t) && !c.start.After(t) }
