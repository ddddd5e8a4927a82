package cli

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// The types below are what -o json prints. Field names stay; new ones may come.
// Times are RFC 3339 in UTC, durations are seconds.

type statusDoc struct {
	Group     string      `json:"group"`
	Pauses    []pauseDoc  `json:"pauses,omitempty"` // of this group and of all groups; only in the long form
	Available int         `json:"available"`
	Max       int         `json:"max"`
	Holders   []holderDoc `json:"holders"`
	Queue     []waiterDoc `json:"queue,omitzero"` // only in the long form, there also where empty
	Faults    []string    `json:"faults,omitempty"`
}

// holderDoc has only the machine in the short form, and where no record exists.
type holderDoc struct {
	MachineID    string   `json:"machineID"`
	Hostname     string   `json:"hostname,omitempty"`
	Phase        string   `json:"phase,omitempty"`
	PhaseSince   string   `json:"phaseSince,omitempty"`
	Since        string   `json:"since,omitempty"`
	HeldSeconds  *float64 `json:"heldSeconds,omitempty"`
	AgentPresent *bool    `json:"agentPresent,omitempty"` // only in the long form
	Stale        *bool    `json:"stale,omitempty"`        // silent, and should not be; only in the long form
	Seen         string   `json:"seen,omitempty"`         // when its agent was last, where it is not present now
	By           string   `json:"by,omitempty"`
	Reason       string   `json:"reason,omitempty"`
	Groups       []string `json:"groups,omitempty"`
	BootID       string   `json:"bootID,omitempty"`
}

type waiterDoc struct {
	Position      int      `json:"position"` // 1 is next
	Priority      int      `json:"priority"` // 0 is the most urgent
	MachineID     string   `json:"machineID"`
	Hostname      string   `json:"hostname,omitempty"`
	Since         string   `json:"since,omitempty"`
	WaitedSeconds *float64 `json:"waitedSeconds,omitempty"`
	By            string   `json:"by,omitempty"`
	Reason        string   `json:"reason,omitempty"`
	Groups        []string `json:"groups,omitempty"`
}

type groupDoc struct {
	Group   string `json:"group"`
	Max     int    `json:"max"`
	Held    int    `json:"held"`
	Waiting int    `json:"waiting"`
	Paused  bool   `json:"paused"`
	Error   string `json:"error,omitempty"` // the numbers are unknown
}

type historyDoc struct {
	Time        string   `json:"time"`
	Action      string   `json:"action"`
	MachineID   string   `json:"machineID,omitempty"`
	Hostname    string   `json:"hostname,omitempty"`
	Actor       string   `json:"actor"`
	HeldSeconds *float64 `json:"heldSeconds,omitempty"`
	DownSeconds *float64 `json:"downSeconds,omitempty"`
	Outcome     string   `json:"outcome,omitempty"`
}

type machineDoc struct {
	MachineID   string     `json:"machineID"`
	Hostname    string     `json:"hostname,omitempty"`
	Groups      []string   `json:"groups"`
	Strategy    string     `json:"strategy,omitempty"`
	Phase       string     `json:"phase,omitempty"`
	PhaseSince  string     `json:"phaseSince,omitempty"`
	NeededSince string     `json:"neededSince,omitempty"` // missing: no reboot is needed
	Reason      string     `json:"reason,omitempty"`
	Waiting     string     `json:"waiting,omitempty"` // what the phase waits for, or what went wrong
	HeldSince   string     `json:"heldSince,omitempty"`
	HeldBy      string     `json:"heldBy,omitempty"`
	BootID      string     `json:"bootID,omitempty"`
	OS          string     `json:"os,omitempty"`
	Kernel      string     `json:"kernel,omitempty"`
	Version     string     `json:"version,omitempty"` // of its locksmithd
	DryRun      bool       `json:"dryRun,omitempty"`
	LastReboot  string     `json:"lastReboot,omitempty"`
	LastOutcome string     `json:"lastOutcome,omitempty"`
	Present     bool       `json:"present"` // its agent is connected to etcd
	Stale       bool       `json:"stale"`   // it is silent, and should not be
	Seen        string     `json:"seen,omitempty"`
	Pauses      []pauseDoc `json:"pauses,omitempty"` // of this machine alone
}

type pauseDoc struct {
	Scope     string  `json:"scope"`               // all, group or machine
	Group     *string `json:"group,omitempty"`     // where scope is group
	MachineID string  `json:"machineID,omitempty"` // where scope is machine
	By        string  `json:"by,omitempty"`
	Since     string  `json:"since,omitempty"`
	Until     string  `json:"until,omitempty"` // missing: until somebody resumes it
	Reason    string  `json:"reason,omitempty"`
}

func pauseDocs(pauses []locksmith.Pause) []pauseDoc {
	var docs []pauseDoc
	for _, p := range pauses {
		d := pauseDoc{Scope: "group", By: p.By, Since: stamp(p.At), Until: stamp(p.Until), Reason: p.Reason}
		switch {
		case p.Scope.All:
			d.Scope = "all"
		case p.Scope.Machine != "":
			d.Scope, d.MachineID = "machine", p.Scope.Machine
		default:
			g := string(p.Scope.Group)
			d.Group = &g
		}
		docs = append(docs, d)
	}
	return docs
}

func (c *call) statusJSON(s locksmith.GroupStatus, long, indent bool) (string, error) {
	now := c.deps.Now()
	doc := statusDoc{Group: string(s.Group), Available: s.Sem.Semaphore, Max: s.Sem.Max,
		Holders: []holderDoc{}, Faults: s.Faults}
	for _, h := range s.Holders {
		d := holderDoc{MachineID: h.MachineID, Hostname: h.Hostname, Phase: string(h.Phase), By: h.By, Reason: h.Reason,
			Groups: names(h.Groups), BootID: h.BootID, PhaseSince: stamp(h.PhaseTime), Since: stamp(h.StartTime),
			HeldSeconds: secondsSince(h.StartTime, now)}
		if long {
			stale := h.Stale(now)
			d.AgentPresent, d.Stale = &h.Present, &stale
			if !h.Seen.IsZero() {
				d.Seen = stamp(h.Seen.Unix())
			}
		}
		doc.Holders = append(doc.Holders, d)
	}
	if long {
		doc.Pauses, doc.Queue = pauseDocs(s.Pauses), []waiterDoc{}
	}
	for i, w := range s.Queue {
		doc.Queue = append(doc.Queue, waiterDoc{Position: i + 1, Priority: w.Priority, MachineID: w.MachineID,
			Hostname: w.Hostname, Since: stamp(w.Since), WaitedSeconds: secondsSince(w.Since, now), By: w.By,
			Reason: w.Reason, Groups: names(w.Groups)})
	}
	return encode(doc, indent)
}

func encode(doc any, indent bool) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // this goes to people and jq, not into a page
	if indent {
		enc.SetIndent("", "  ")
	}
	err := enc.Encode(doc)
	return b.String(), err
}

func stamp(unix int64) string {
	if unix <= 0 {
		return ""
	}
	return time.Unix(unix, 0).UTC().Format(time.RFC3339)
}

func secondsSince(unix int64, now time.Time) *float64 {
	if unix <= 0 {
		return nil
	}
	s := max(math.Floor(now.Sub(time.Unix(unix, 0)).Seconds()), 0)
	return &s
}

// seconds has milliseconds; nil stands for "did not happen, or nobody knows".
func seconds(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	s := float64(d.Milliseconds()) / 1000
	return &s
}

func names(groups []locksmith.Group) []string {
	var list []string
	for _, g := range groups {
		list = append(list, string(g))
	}
	return list
}
