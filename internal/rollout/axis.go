package rollout

import "time"

// steps are the distances of ticks that people can read times from.
var steps = []time.Duration{
	time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 2 * 24 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour,
}

// tick is one time of the axis.
type tick struct {
	at   time.Time
	text string
	day  bool // the first of a day
}

// ticks are the times to show between two instants, at most so many, at round times of
// loc's clocks.
func ticks(from, to time.Time, loc *time.Location, most int) []tick {
	span := to.Sub(from)
	i := 0
	for i < len(steps) && span/steps[i] > time.Duration(most) {
		i++
	}
	days := 0 // a step of so many days
	var step time.Duration
	if i < len(steps) && steps[i] < 24*time.Hour {
		step = steps[i]
	} else if days = int(span/(24*time.Hour))/most + 1; i < len(steps) {
		days = int(steps[i] / (24 * time.Hour))
	}
	begin := from.In(loc)
	t := time.Date(begin.Year(), begin.Month(), begin.Day(), 0, 0, 0, 0, loc)
	if days == 0 && step < time.Hour {
		t = t.Add(from.Sub(t) / step * step)
	}
	var list []tick
	last := -1
	for range most + 26 { // before from are the hours of a day at most
		if t.After(to) {
			break
		}
		if t.Before(from) {
			t = advance(t, step, days)
			continue
		}
		one := tick{at: t, text: t.Format("15:04"), day: t.YearDay() != last && (last >= 0 || days > 0 || t.Hour() == 0 && t.Minute() == 0)}
		switch {
		case days > 28:
			one.text = t.Format("Jan 2006")
		case one.day:
			one.text = t.Format("Jan 2")
		case step < time.Minute && days == 0:
			one.text = t.Format("15:04:05")
		}
		last = t.YearDay()
		list = append(list, one)
		t = advance(t, step, days)
	}
	return list
}

// advance is the tick after t: hours and days are those of the clock on the wall, also
// where it is changed between them.
func advance(t time.Time, step time.Duration, days int) time.Time {
	if days > 0 {
		return t.AddDate(0, 0, days)
	}
	if step >= time.Hour {
		next := time.Date(t.Year(), t.Month(), t.Day(), t.Hour()+int(step/time.Hour), 0, 0, 0, t.Location())
		if next.After(t) { // it is not where the clock leaps over that hour
			return next
		}
	}
	return t.Add(step)
}

// axis draws the ticks, and where now is.
func (d *drawing) axis() {
	bottom := d.height() - margin
	room := 64.0 // for a label and the space beside it
	most := max(2, int((d.x1-d.x0)/room))
	for _, t := range ticks(d.from, d.to, d.opts.Location, most) {
		x, class := d.x(t.at), "timeline-tick-label"
		if t.day {
			class += " timeline-day"
		}
		d.printf(`<line class="timeline-tick" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, axisHeight-4, bottom)
		d.printf(`<text class="%s" x="%.1f" y="%d" text-anchor="%s">%s</text>`+"\n", class, x, axisHeight-9, d.anchor(x), t.text)
	}
	if !d.now.Before(d.from) && !d.now.After(d.to) {
		x := d.x(d.now)
		d.printf(`<line class="timeline-now" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", x, x, axisHeight-4, bottom)
	}
}

// anchor keeps labels at the edges inside the drawing.
func (d *drawing) anchor(x float64) string {
	const half = 24
	switch {
	case x < half:
		return "start"
	case x > float64(d.opts.Width)-half:
		return "end"
	}
	return "middle"
}
