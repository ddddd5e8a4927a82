package locksmith

import (
	"fmt"
	"strings"
	"time"
)

// Pause is an administrative freeze: nobody in its scope starts a reboot until it
// is resumed or over.
type Pause struct {
	Scope  PauseScope `json:"scope"`
	By     string     `json:"by,omitempty"`     // who paused: "alice@jump-1"
	At     int64      `json:"at"`               // since when, seconds since the epoch
	Until  int64      `json:"until,omitempty"`  // over at that instant; 0: only once resumed
	Reason string     `json:"reason,omitempty"` // for people
}

// PauseScope says what a pause holds for: exactly one of every group, one group
// (the default group is Group ""), and one machine.
type PauseScope struct {
	All     bool   `json:"all,omitempty"`
	Machine string `json:"machine,omitempty"`
	Group   Group  `json:"group,omitempty"` // meaningful without All and Machine
}

// String is "all groups", "machine abc", "group lb" or "the default group".
func (s PauseScope) String() string {
	switch {
	case s.All:
		return "all groups"
	case s.Machine != "":
		return "machine " + s.Machine
	case s.Group == "":
		return "the default group"
	}
	return "group " + string(s.Group)
}

// Active says whether the pause holds at now.
func (p Pause) Active(now time.Time) bool { return p.Until == 0 || now.Before(time.Unix(p.Until, 0)) }

// String says who paused what, until when and why, in one line.
func (p Pause) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s paused", p.Scope)
	if p.By != "" {
		fmt.Fprintf(&b, " by %s", p.By)
	}
	if p.Until != 0 {
		fmt.Fprintf(&b, " until %s", time.Unix(p.Until, 0).Format("2006-01-02 15:04 MST"))
	}
	if p.Reason != "" {
		fmt.Fprintf(&b, ": %s", p.Reason)
	}
	return b.String()
}

// PausedError reports what keeps a machine from starting a reboot.
type PausedError struct{ Pauses []Pause }

func (e *PausedError) Error() string {
	texts := make([]string, len(e.Pauses))
	for i, p := range e.Pauses {
		texts[i] = p.String()
	}
	return strings.Join(texts, "; ")
}
