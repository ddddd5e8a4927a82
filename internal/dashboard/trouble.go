package dashboard

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// trouble is something that does not go on by itself, and what to do about it.
type trouble struct {
	Key   string // the same from one look to the next
	Tone  string
	Mark  string // "Stuck", "Paused": the tone in a word
	Title string
	URL   string // of what it is about
	Text  string // what it is, and what to do
	Since int64  // 0: not known
	Do    *link
}

// markPaused is the Mark of a pause.
const markPaused = "Paused"

// holdUp is how long the first in line may leave a free slot untaken before somebody
// should look: it needs a few round trips.
const holdUp = 2 * time.Minute

// troubles are what is stuck in a group.
func troubles(s locksmith.GroupStatus, who access.Caller, now time.Time) []trouble {
	var list []trouble
	for _, h := range s.Holders {
		if t, stuck := holderTrouble(s, h, who, now); stuck {
			list = append(list, t)
		}
	}
	group := sentence(scopeName(s.Group))
	at := groupURL(s.Group)
	for _, p := range s.Pauses {
		list = append(list, pauseTrouble(s, p, who, now))
	}
	if s.Sem.Max == 0 && len(s.Queue) > 0 {
		t := trouble{Key: "max " + at, Tone: toneWarn, Mark: "Stopped", Title: group + " has no slots", URL: at,
			Text: fmt.Sprintf("Its maximum is 0, and %s. Raise it to let them go on.", wait(len(s.Queue)))}
		if mayIn(who, s.Group) {
			t.Do = &link{"Change slots…", address("/act/set-max", "group", string(s.Group)), "Change how many slots " + scopeName(s.Group) + " has"}
		}
		list = append(list, t)
	}
	if len(s.Queue) > 0 && s.Sem.Semaphore > 0 && len(s.Pauses) == 0 {
		if w := s.Queue[0]; len(w.Groups) == 1 && now.Sub(locksmith.When(w.Since)) > holdUp {
			list = append(list, trouble{Key: "first " + at, Tone: toneWarn, Mark: "Slow", Title: waiterName(w) + " leaves a slot untaken",
				URL: machineURL(w.MachineID), Since: w.Since,
				Text: "A slot of " + scopeName(s.Group) + " is free and it is first in line: look at its page, and at its log. Stopping its locksmithd lets the next one go on."})
		}
	}
	if len(s.Faults) > 0 {
		list = append(list, trouble{Key: "faults " + at, Tone: toneWarn, Mark: "Odd", Title: "What is stored of " + scopeName(s.Group) + " is inconsistent", URL: at,
			Text: sentence(strings.Join(s.Faults, "; ")) + ". The next change writes it back right; nothing is granted beyond the maximum."})
	}
	return list
}

func holderTrouble(s locksmith.GroupStatus, h locksmith.HolderStatus, who access.Caller, now time.Time) (trouble, bool) {
	state, tone, since := stateOf(h, now)
	if tone != toneBad {
		return trouble{}, false
	}
	t := trouble{Key: "holder " + string(s.Group) + " " + h.MachineID, Tone: tone, Mark: "Stuck", Title: h.Name() + ": " + lower(state),
		URL: machineURL(h.MachineID), Since: since, Do: unlockLink(who, s.Group, h.Holder)}
	behind := ""
	if n := len(s.Queue); n > 0 && s.Sem.Semaphore <= 0 {
		behind = " In " + scopeName(s.Group) + " " + wait(n) + "."
	}
	switch {
	case h.Phase == locksmith.PhaseFailed && h.Own():
		t.Text = "It says: " + cmp.Or(h.Reason, "nothing about which of them") + ". Repair it, and its slot goes back by itself."
	case h.By == locksmith.ByFleetLock:
		t.Text = "It took a slot of " + scopeName(s.Group) + " over FleetLock to reboot, and has not given it back. If it is gone for good, unlock it."
	default:
		t.Text = "It has a slot of " + scopeName(s.Group) + " and was " + h.NotSeen(now) + ". Look at the machine; if it is gone for good, unlock it."
	}
	t.Text += behind
	return t, true
}

func pauseTrouble(s locksmith.GroupStatus, p locksmith.Pause, who access.Caller, now time.Time) trouble {
	t := trouble{Key: "pause " + p.Scope.String(), Tone: toneWarn, Mark: markPaused, Title: sentence(p.Scope.String()) + " paused",
		URL: groupURL(s.Group), Since: p.At, Do: resumeLink(who, p.Scope, nil)}
	t.Text = pauseText(p, now)
	if !p.Scope.All && len(s.Queue) > 0 {
		t.Text += " " + sentence(wait(len(s.Queue))) + " there."
	}
	if p.Scope.All {
		t.URL = ""
	}
	return t
}

// pauseText is who paused, until when and why.
func pauseText(p locksmith.Pause, now time.Time) string {
	text := sentence(p.Words(now)) + "."
	if p.Until == 0 {
		text += " It ends only when somebody resumes it."
	}
	return text
}

// unreadable is a group of which a document cannot be read.
func unreadable(g locksmith.Group, err error) trouble {
	return trouble{Key: "unreadable " + string(g), Tone: toneBad, Mark: "Stuck", Title: sentence(scopeName(g)) + " cannot be read", URL: groupURL(g),
		Text: sentence(err.Error()) + ". Nothing is granted there until it is."}
}

func waiterName(w locksmith.Waiter) string { return cmp.Or(w.Hostname, w.MachineID) }

// wait is "2 machines wait".
func wait(n int) string {
	if n == 1 {
		return "1 machine waits"
	}
	return fmt.Sprintf("%d machines wait", n)
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }
