package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// seed writes a fleet as it may be in the middle of a rollout, as documents: the past
// cannot be had by living through it. docs/design.md has the keys.
type seed struct {
	t      testing.TB
	client *clientv3.Client
	now    time.Time
	rnd    *rand.Rand
	places map[locksmith.Group]int // of the histories
}

const root = "coreos.com/updateengine/rebootlock"

func base(g locksmith.Group) string {
	if g == "" {
		return root
	}
	return root + "/groups/" + url.QueryEscape(string(g))
}

func (s *seed) put(key string, doc any) {
	s.t.Helper()
	text, ok := doc.(string)
	if !ok {
		b, err := json.Marshal(doc)
		if err != nil {
			s.t.Fatal(err)
		}
		text = string(b)
	}
	if _, err := s.client.Put(s.t.Context(), key, text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *seed) ago(d time.Duration) int64 { return s.now.Add(-d).Unix() }

// id is a machine id made from a host name.
func (s *seed) id(host string) string {
	sum := sha256.Sum256([]byte(host))
	return hex.EncodeToString(sum[:16])
}

func (s *seed) semaphore(g locksmith.Group, limit int, hosts ...string) {
	holders := []string{}
	for _, h := range hosts {
		holders = append(holders, s.id(h))
	}
	slices.Sort(holders)
	s.put(base(g)+"/semaphore", locksmith.Semaphore{Semaphore: limit - len(holders), Max: limit, Holders: holders}.Document())
}

func (s *seed) holder(g locksmith.Group, host string, h locksmith.Holder) {
	h.MachineID, h.Nonce = s.id(host), "0123456789abcdef"
	if h.By != locksmith.ByFleetLock {
		h.Hostname = host
	}
	s.put(base(g)+"/holders/"+url.QueryEscape(h.MachineID), h)
}

func (s *seed) waiter(g locksmith.Group, priority int, host string, w locksmith.Waiter) {
	w.MachineID, w.Hostname = s.id(host), host
	if w.Groups == nil {
		w.Groups = []locksmith.Group{g}
	}
	s.put(fmt.Sprintf("%s/queue/%d/%s", base(g), priority, url.QueryEscape(w.MachineID)), w)
}

func (s *seed) entry(g locksmith.Group, at time.Time, action, host, actor, outcome string, held, down time.Duration) {
	if s.places == nil {
		s.places = make(map[locksmith.Group]int)
	}
	s.places[g]++
	doc := map[string]any{"time": at.UTC(), "actor": actor, "action": action}
	for name, v := range map[string]any{"outcome": outcome, "heldMs": held.Milliseconds(), "downMs": down.Milliseconds()} {
		if v != "" && v != int64(0) {
			doc[name] = v
		}
	}
	if host != "" {
		doc["machine"], doc["hostname"] = s.id(host), host
	}
	s.put(fmt.Sprintf("%s/history/%04d", base(g), s.places[g]), doc)
}

const kernel = "/run/reboot-required: linux-image-6.1.0-41-amd64"

func (s *seed) machine(host string, present bool, p locksmith.Presence) {
	p.MachineID, p.Hostname, p.Strategy = s.id(host), host, locksmith.StrategyEtcdLock
	p.BootID, p.OS, p.Kernel, p.Version = "7d3c"+p.MachineID[:8], "Debian GNU/Linux 12 (bookworm)", "6.1.0-40-amd64", "2.0.0"
	p.Started = s.ago(40 * 24 * time.Hour)
	if p.Phase == "" {
		p.Phase = locksmith.PhaseIdle
	}
	if p.PhaseTime == 0 {
		p.PhaseTime = s.ago(time.Duration(s.rnd.IntN(7200)) * time.Second)
	}
	if p.Seen == 0 {
		p.Seen = s.ago(time.Duration(s.rnd.IntN(240)) * time.Second)
	}
	s.put(root+"/seen/"+url.QueryEscape(p.MachineID), p)
	if present {
		s.put(root+"/machines/"+url.QueryEscape(p.MachineID), p)
	}
}

// rollout is a past one of so many machines, one after the other in so many slots.
func (s *seed) rollout(g locksmith.Group, from time.Time, hosts []string, slots int) {
	type event struct {
		at   time.Time
		host string
		held time.Duration
		lock bool
	}
	var events []event
	free := make([]time.Time, slots)
	for i := range free {
		free[i] = from
	}
	for _, h := range hosts {
		i := 0
		for j := range free {
			if free[j].Before(free[i]) {
				i = j
			}
		}
		held := 3*time.Minute + time.Duration(s.rnd.IntN(200))*time.Second
		events = append(events, event{free[i], h, held, true}, event{free[i].Add(held), h, held, false})
		free[i] = free[i].Add(held + 300*time.Millisecond)
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	for i, e := range events {
		switch {
		case e.lock:
			s.entry(g, e.at, "lock", e.host, locksmith.ByAgent, kernel, 0, 0)
		case i == len(events)/2:
			s.entry(g, e.at, "unlock", e.host, locksmith.ByAgent, "aborted: window closed", e.held, 0)
		default:
			s.entry(g, e.at, "unlock", e.host, locksmith.ByAgent, "rebooted", e.held, e.held*6/10)
		}
	}
}

func (r *rig) seed(t testing.TB) *seed {
	t.Helper()
	s := &seed{t: t, client: r.etcd.Client(t), now: time.Now().Truncate(time.Second), rnd: rand.New(rand.NewPCG(1, 2))}
	s.web()
	s.others()
	return s
}

func conditions(slot locksmith.ConditionState, since int64) []locksmith.Condition {
	return []locksmith.Condition{
		{Name: locksmith.CondNeed, State: locksmith.CondMet, Text: kernel, Since: since},
		{Name: locksmith.CondWindow, State: locksmith.CondMet, Text: "window always open"},
		{Name: locksmith.CondPause, State: locksmith.CondMet, Text: "nobody paused it"},
		{Name: locksmith.CondBreaker, State: locksmith.CondMet},
		{Name: locksmith.CondChecks, State: locksmith.CondMet, Text: "nothing blocks"},
		{Name: locksmith.CondSlot, State: slot, Text: "queues", Since: since},
		{Name: locksmith.CondUsers, State: locksmith.CondPending},
	}
}

// web is a group of 30 machines in the middle of a rollout that is stuck in places.
func (s *seed) web() {
	const g = locksmith.Group("web")
	var hosts []string
	for i := range 30 {
		hosts = append(hosts, fmt.Sprintf("web-%d.fra1.example.net", i+1))
	}
	s.entry(g, s.now.Add(-20*24*time.Hour), "set-max", "", "ada@10.0.0.5", "1 -> 5", 0, 0)
	s.rollout(g, s.now.Add(-8*24*time.Hour), hosts[:24], 4)
	s.rollout(g, s.now.Add(-95*time.Minute), hosts[:13], 3)
	holding := []string{hosts[13], hosts[14], hosts[15], hosts[16], hosts[17]}
	s.semaphore(g, 5, holding...)
	agent := locksmith.Holder{By: locksmith.ByAgent, BootID: "7d3c", Reason: kernel, Groups: []locksmith.Group{g}}
	hold := func(host string, phase locksmith.Phase, held, since time.Duration, reason string) {
		h := agent
		h.StartTime, h.Phase, h.PhaseTime = s.ago(held), phase, s.ago(since)
		if reason != "" {
			h.Reason = reason
		}
		s.entry(g, s.now.Add(-held), "lock", host, locksmith.ByAgent, kernel, 0, 0)
		s.holder(g, host, h)
	}
	hold(hosts[13], locksmith.PhaseFailed, 45*time.Minute, 32*time.Minute, "verify hook 20-loadbalancer: exit status 1: backend web-14 has 0 of 2 healthy endpoints")
	hold(hosts[14], locksmith.PhaseRebooting, 40*time.Minute, 35*time.Minute, "")
	s.put(root+"/all/history-count", "1")
	s.put(root+"/all/history/0001", map[string]any{"time": s.now.Add(-12 * time.Minute).UTC(), "actor": "vera@10.0.0.9", "action": "refuse", "group": "web",
		"machine": s.id("web-14.fra1.example.net"), "outcome": "vera may not unlock in group web: that takes the role operator, not viewer"})
	hold(hosts[17], locksmith.PhaseVerifying, 6*time.Minute, 25*time.Second, "")
	hold(hosts[16], locksmith.PhaseRebooting, 4*time.Minute, 3*time.Minute, "")
	hold(hosts[15], locksmith.PhasePreparing, 40*time.Second, 38*time.Second, "")
	for i, h := range hosts {
		p := locksmith.Presence{Groups: []locksmith.Group{g}, LastReboot: s.ago(8 * 24 * time.Hour), LastOutcome: "rebooted"}
		present := true
		switch {
		case i < 13:
			p.LastReboot = s.ago(time.Duration(90-6*i) * time.Minute)
		case i == 13:
			p.Phase, p.NeededSince, p.PhaseTime, p.Waiting = locksmith.PhaseFailed, 0, s.ago(32*time.Minute), "verify hook 20-loadbalancer: exit status 1"
		case i == 14:
			p.Phase, p.NeededSince, p.Reason, p.Seen, p.PhaseTime, present = locksmith.PhaseRebooting, s.ago(3*time.Hour), kernel, s.ago(35*time.Minute), s.ago(35*time.Minute), false
		case i == 15:
			p.Phase, p.NeededSince, p.Reason, p.PhaseTime = locksmith.PhasePreparing, s.ago(3*time.Hour), kernel, s.ago(38*time.Second)
		case i == 16:
			p.Phase, p.NeededSince, p.Reason, p.PhaseTime, present = locksmith.PhaseRebooting, s.ago(3*time.Hour), kernel, s.ago(3*time.Minute), false
		case i == 17:
			p.Phase, p.PhaseTime = locksmith.PhaseVerifying, s.ago(25*time.Second)
		default:
			since := s.ago(time.Duration(97-i) * time.Minute)
			p.Phase, p.PhaseTime, p.NeededSince, p.Reason = locksmith.PhaseQueued, since, s.ago(3*time.Hour), kernel
			p.Conditions = conditions(locksmith.CondWaiting, since)
			s.waiter(g, 5, h, locksmith.Waiter{By: locksmith.ByAgent, Reason: kernel, Since: since, Nonce: "n"})
		}
		s.machine(h, present, p)
	}
}

// others are groups of other kinds: paused, over FleetLock, and where nothing happens.
func (s *seed) others() {
	const db, edge, build = locksmith.Group("db"), locksmith.Group("edge"), locksmith.Group("build")
	s.semaphore(db, 1)
	s.entry(db, s.now.Add(-26*time.Hour), "set-max", "", "ada@10.0.0.5", "1 -> 1", 0, 0)
	s.put(base(db)+"/policy", map[string]any{"pause": locksmith.Pause{By: "ada@10.0.0.5", At: s.ago(50 * time.Minute), Until: s.now.Add(3*time.Hour + 47*time.Minute).Unix(), Reason: "Replication is being rebuilt, see the storage team's channel"}})
	s.entry(db, s.now.Add(-50*time.Minute), "pause", "", "ada@10.0.0.5", "Replication is being rebuilt, see the storage team's channel", 0, 0)
	for i := range 3 {
		host := fmt.Sprintf("db-%d.fra1.example.net", i+1)
		p := locksmith.Presence{Groups: []locksmith.Group{db}}
		if i == 1 {
			since := s.ago(44 * time.Minute)
			p.Phase, p.PhaseTime, p.NeededSince, p.Reason, p.Conditions = locksmith.PhaseQueued, since, s.ago(2*time.Hour), kernel, conditions(locksmith.CondWaiting, since)
			s.waiter(db, 5, host, locksmith.Waiter{By: locksmith.ByAgent, Reason: kernel, Since: since, Nonce: "n"})
		}
		s.machine(host, true, p)
	}
	s.semaphore(edge, 2, "coreos-1", "coreos-2")
	for i, host := range []string{"coreos-1", "coreos-2"} {
		since := []time.Duration{2 * time.Minute, 52 * time.Minute}[i]
		s.holder(edge, host, locksmith.Holder{By: locksmith.ByFleetLock, StartTime: s.ago(since), Address: fmt.Sprintf("10.9.1.%d", 21+i)})
		s.entry(edge, s.now.Add(-since), "lock", host, "zincati@10.9.1.21", "", 0, 0)
	}
	s.semaphore(build, 2)
	s.semaphore("", 1)
	for i := range 4 {
		s.machine(fmt.Sprintf("build-%d.fra1.example.net", i+1), i != 2, locksmith.Presence{Groups: []locksmith.Group{build}, Seen: s.ago(time.Duration(1+i*70) * time.Hour)})
	}
}
