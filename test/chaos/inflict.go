package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// How bad the network gets.
const (
	loseOneIn = 10
	delayedBy = 50 * time.Millisecond
)

// begin inflicts f. It says what it was, how to heal it, and when it is over before its
// time; never is nil.
func (r *run) begin(ctx context.Context, f Fault) (what string, heal func() error, over <-chan struct{}) {
	if f.Act == KillInPhase || f.Act == CrashInPhase {
		disarm, sprung := r.fleet.Trap(f.Act, f.In, f.Late)
		return fmt.Sprintf("%s %s", f.Act, f.In), healing(disarm), sprung
	}
	what, heal = r.hit(ctx, f)
	return what, heal, nil
}

// hit inflicts a fault that lasts until it is healed.
func (r *run) hit(ctx context.Context, f Fault) (what string, heal func() error) {
	switch f.Act {
	case KillMember, PauseMember, CutMember, MuteMember, DeafenMember:
		m := r.member(ctx, f)
		return fmt.Sprintf("%s %s", f.Act, m.Node.Name), r.hitMember(f.Act, m)
	case KillServer, PauseServer, CutServer, DeafenServer:
		s := r.servers[f.Who]
		return fmt.Sprintf("%s %s", f.Act, s.Node.Name), r.hitServer(f.Act, s)
	case LowerMax, RaiseMax, HoldSlot, PauseGroup, PauseMachine, PauseAll:
		return r.administer(ctx, f)
	case StepClock:
		return r.stepClock(f)
	case FillDisk, SlowDisk:
		m := r.member(ctx, f)
		return fmt.Sprintf("%s %s", f.Act, m.Node.Name), r.hitDisk(f, m)
	case FillQuota:
		return string(f.Act), r.hitQuota(ctx)
	case KillWaiting:
		s := r.servers[f.Who]
		disarm := r.fleet.TrapServer(s, f.Late)
		return fmt.Sprintf("%s %s", f.Act, s.Node.Name), func() error { disarm(); return s.Start() }
	case LosePackets:
		return string(f.Act), healing(r.network.Disturb(loseOneIn, 0))
	case DelayPackets:
		return string(f.Act), healing(r.network.Disturb(0, delayedBy))
	}
	m := r.fleet.machines[f.Who]
	return fmt.Sprintf("%s %s", f.Act, m.ID), r.hitMachine(ctx, f.Act, m)
}

// hitMember inflicts a fault on a member, and returns how to heal it.
func (r *run) hitMember(act Action, m *Member) (heal func() error) {
	switch act {
	case KillMember:
		m.Kill()
		return m.Start
	case PauseMember:
		m.Pause()
		return healing(m.Resume)
	}
	others := slices.DeleteFunc(r.memberNodes(), func(n *Node) bool { return n == m.Node })
	switch act {
	case MuteMember:
		return healing(r.cut([]*Node{m.Node}, others))
	case DeafenMember:
		return healing(r.cut(others, []*Node{m.Node}))
	}
	for _, other := range r.fleet.machines {
		others = append(others, other.Node)
	}
	others = append(append(others, r.callers...), r.user)
	for _, server := range r.servers {
		others = append(others, server.Node)
	}
	return healing(r.cut([]*Node{m.Node}, others), r.cut(others, []*Node{m.Node}))
}

// hitServer inflicts a fault on a server, and returns how to heal it.
func (r *run) hitServer(act Action, s *Daemon) (heal func() error) {
	server := []*Node{s.Node}
	switch act {
	case KillServer:
		s.Kill()
		return s.Start
	case PauseServer:
		s.Pause()
		return healing(s.Resume)
	case DeafenServer:
		return healing(r.cut(r.memberNodes(), server))
	}
	return healing(r.cut(server, r.memberNodes()), r.cut(r.memberNodes(), server))
}

// hitMachine inflicts a fault on a machine or its agent, and returns how to heal it.
func (r *run) hitMachine(ctx context.Context, act Action, m *Machine) (heal func() error) {
	from, to := []*Node{m.Node}, r.memberNodes()
	if m.Server != nil {
		to = []*Node{m.Server.Node}
	}
	switch act {
	case KillAgent:
		r.fleet.Kill(m)
	case CrashMachine:
		r.fleet.Crash(m)
	case PauseAgent:
		r.fleet.Pause(m)
		return healing(func() { r.fleet.Resume(m) })
	case MuteAgent:
		return healing(r.cut(from, to))
	case DeafenAgent:
		return healing(r.cut(to, from))
	case CutAgent:
		return healing(r.cut(from, to), r.cut(to, from))
	case CutFromLeader:
		leader := []*Node{r.leader(ctx).Node}
		if m.Server != nil {
			from = to
		}
		return healing(r.cut(from, leader), r.cut(leader, from))
	}
	return healing() // it comes back by itself
}

// stepClock sets a machine's clock, and back.
func (r *run) stepClock(f Fault) (what string, heal func() error) {
	m := r.fleet.machines[f.Who]
	what = fmt.Sprintf("%s %s by %v", f.Act, m.ID, f.Step)
	if err := r.fleet.StepClock(m, f.Step); err != nil {
		what += ": " + err.Error()
	}
	return what, func() error { return r.fleet.StepClock(m, 0) }
}

// healing makes one function of those that undo a fault.
func healing(undo ...func()) func() error {
	return func() error {
		for _, f := range undo {
			f()
		}
		return nil
	}
}

// cut cuts all ways from some nodes to others.
func (r *run) cut(from, to []*Node) (mend func()) {
	var mends []func()
	for _, a := range from {
		for _, b := range to {
			mends = append(mends, r.network.Cut(a, b))
		}
	}
	return func() {
		for _, mend := range mends {
			mend()
		}
	}
}

func (r *run) memberNodes() []*Node {
	var list []*Node
	for _, m := range r.cluster.Members {
		list = append(list, m.Node)
	}
	return list
}

// member is whom f hits.
func (r *run) member(ctx context.Context, f Fault) *Member {
	if f.Who == theLeader {
		return r.leader(ctx)
	}
	return r.cluster.Members[f.Who]
}

// leader is the leader. Where nobody leads, the first member has to do.
func (r *run) leader(ctx context.Context) *Member {
	if leader := r.cluster.Leader(ctx); leader != nil {
		return leader
	}
	return r.cluster.Members[0]
}
