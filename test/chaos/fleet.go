package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos/clock"
)

// How the machines behave.
const (
	downFor      = 300 * time.Millisecond // a reboot, at least
	restartAfter = 200 * time.Millisecond // from the death of an agent to its next process
	idleFor      = 500 * time.Millisecond // at most, from being idle to the next need of a reboot
)

// Machine is one simulated machine. Its fields are guarded by the fleet's mu.
type Machine struct {
	ID     string
	Groups []locksmith.Group
	Node   *Node
	Server *Daemon // of a machine that speaks FleetLock: who keeps its slot; else nil

	proc   *Process
	stdin  io.Writer
	number int // of proc, counting from 1
	boot   string
	down   bool
	dark   bool // down until Fleet.Light
	asked  bool // this boot was told that a reboot is needed
	idle   bool
	final  bool // this boot began after Finish
}

// Fleet runs simulated machines: it is their power supply and their update server.
type Fleet struct {
	machines []*Machine
	boot     Boot // what all agents are told
	dir      string
	events   *os.File // where what happens is written
	log      *os.File // what the agents log
	reader   chan struct{}

	mu        sync.Mutex
	lines     []Line
	traps     []*trap
	finishing bool
	dark      *locksmith.Group // the next machine of this group alone that goes down stays down
	closed    bool
	done      chan struct{} // closed once every machine is through with its last reboot
	failed    error         // why the harness could not go on
}

// NewFleet is a fleet without machines. common is what is the same in every Boot.
func NewFleet(dir string, common Boot) (*Fleet, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	f := &Fleet{boot: common, dir: dir, events: w, reader: make(chan struct{}), done: make(chan struct{})}
	if f.log, err = os.Create(filepath.Join(dir, "agents.log")); err != nil {
		return nil, err
	}
	go f.read(r)
	return f, nil
}

// Add makes a machine on a node of its own. server is nil, or keeps its slot.
func (f *Fleet) Add(network *Network, groups []locksmith.Group, server *Daemon) (*Machine, error) {
	number := len(f.machines) + 1
	m := &Machine{ID: fmt.Sprintf("m%d", number), Groups: groups, Server: server}
	var err error
	if m.Node, err = network.NewNode(m.ID, firstMachine+number); err != nil {
		return nil, err
	}
	f.machines = append(f.machines, m)
	return m, f.StepClock(m, 0)
}

// Start boots all machines.
func (f *Fleet) Start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.machines {
		f.bootLocked(m)
	}
}

// Finish has every machine reboot once more, or the one time it was asked to, and
// then stay up. Done is closed when all have.
func (f *Fleet) Finish() (done <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finishing = true
	for _, m := range f.machines {
		if m.idle && !m.down && !m.asked {
			f.askLocked(m)
		}
	}
	return f.done
}

// Unfinished says of each machine that is not through where it is.
func (f *Fleet) Unfinished() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, m := range f.machines {
		if !m.final || !m.idle {
			phase := "has said nothing yet"
			for _, l := range f.lines {
				if l.Machine == m.ID && (l.Kind == KindPhase || l.Kind == KindDown) {
					phase = l.Kind + " " + l.Note
				}
			}
			list = append(list, fmt.Sprintf("%s: %s, down %v, asked %v", m.ID, phase, m.down, m.asked))
		}
	}
	return list
}

// Lines is what has happened so far; err is why the harness could not go on.
func (f *Fleet) Lines() (lines []Line, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines), f.failed
}

// Note writes down that a fault began or ended.
func (f *Fleet) Note(what string) { f.tell(Line{Kind: KindFault, Note: what}) }

// Paused writes down that a pause is in force; Resuming that its end is about to be
// asked for.
func (f *Fleet) Paused(scope locksmith.PauseScope) {
	f.tell(Line{Kind: KindPaused, Note: scope.String()})
}

// Resuming: see Paused.
func (f *Fleet) Resuming(scope locksmith.PauseScope) {
	f.tell(Line{Kind: KindResuming, Note: scope.String()})
}

// Kill kills the agent's process of a machine, which stays up and starts another.
func (f *Fleet) Kill(m *Machine) { f.signal(m, (*Process).Kill) }

// Pause stops the agent's process where it is.
func (f *Fleet) Pause(m *Machine) { f.signal(m, (*Process).Pause) }

// Resume undoes Pause.
func (f *Fleet) Resume(m *Machine) { f.signal(m, (*Process).Resume) }

// Crash pulls the machine's plug; it comes up again by itself.
func (f *Fleet) Crash(m *Machine) {
	f.mu.Lock()
	boot := m.boot
	f.mu.Unlock()
	f.tell(Line{Machine: m.ID, Boot: boot, Kind: KindCrash})
}

// clock is the file that sets a machine's clock.
func (f *Fleet) clock(m *Machine) string { return filepath.Join(f.dir, m.ID, "clock") }

// StepClock sets the wall clock of a machine: it is off by so much from then on, also
// for the processes that it starts.
func (f *Fleet) StepClock(m *Machine, by time.Duration) error {
	if err := os.MkdirAll(filepath.Dir(f.clock(m)), 0o700); err != nil {
		return err
	}
	return clock.Set(f.clock(m), by)
}

func (f *Fleet) signal(m *Machine, send func(*Process)) {
	f.mu.Lock()
	proc := m.proc
	f.mu.Unlock()
	if proc != nil {
		send(proc)
	}
}

// Close stops all agents and waits for them and for what they still had to say.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	var procs []*Process
	for _, m := range f.machines {
		if m.proc != nil {
			procs = append(procs, m.proc)
		}
	}
	f.mu.Unlock()
	for _, p := range procs {
		p.Kill()
	}
	f.mu.Lock() // nobody writes a line now
	f.events.Close()
	f.mu.Unlock()
	<-f.reader
	f.log.Close()
}

// tell writes a line of the harness's own into the pipe.
func (f *Fleet) tell(l Line) {
	if err := writeLine(f.events, l); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.closed {
			f.failLocked(err)
		}
	}
}

func (f *Fleet) failLocked(err error) {
	if f.failed == nil {
		f.failed = err
	}
}

// read reads the pipe, acts as power supply, and ends with the last writer.
func (f *Fleet) read(r *os.File) {
	defer close(f.reader)
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var l Line
		err := json.Unmarshal(lines.Bytes(), &l)
		f.mu.Lock()
		if err != nil {
			f.failLocked(fmt.Errorf("what happened is unreadable: %w: %q", err, lines.Text()))
		}
		f.lines = append(f.lines, l)
		if i := slices.IndexFunc(f.machines, func(m *Machine) bool { return m.ID == l.Machine }); i >= 0 && !f.closed {
			f.actLocked(f.machines[i], l)
		}
		f.mu.Unlock()
	}
}

// actLocked does what follows from what happened to m.
func (f *Fleet) actLocked(m *Machine, l Line) {
	switch l.Kind {
	case KindDown, KindCrash:
		if l.Boot == m.boot && !m.down {
			m.down, m.idle = true, false
			go m.proc.Kill() // whose end is a line of its own
		}
	case KindEnded:
		f.comeBackLocked(m)
	case KindPhase:
		if t := f.springLocked(m, locksmith.Phase(l.Note)); t == nil || t.after > 0 || t.of != nil {
			_, _ = io.WriteString(m.stdin, orderHeard) // to one that is gone: it needs nothing any more
		}
		m.idle = l.Boot == m.boot && !m.down && l.Note == string(locksmith.PhaseIdle)
		if m.idle && !m.asked && !m.final {
			f.laterAskLocked(m)
		}
		if !slices.ContainsFunc(f.machines, func(m *Machine) bool { return !m.final || !m.idle }) {
			select {
			case <-f.done:
			default:
				close(f.done)
			}
		}
	}
}

// comeBackLocked starts, after a while, another process for one that has ended, or the
// machine again if that is down.
func (f *Fleet) comeBackLocked(m *Machine) {
	if m.down && f.dark != nil && slices.Equal(m.Groups, []locksmith.Group{*f.dark}) {
		m.dark, f.dark = true, nil
		return
	}
	down, after := m.down, restartAfter
	if down {
		after = downFor + rand.N(downFor)
	}
	time.AfterFunc(after, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case f.closed:
		case down:
			f.bootLocked(m)
		case m.down: // its plug was pulled before the next process was there
			f.comeBackLocked(m)
		default:
			f.startLocked(m)
		}
	})
}

// laterAskLocked asks an idle machine to reboot, after a while.
func (f *Fleet) laterAskLocked(m *Machine) {
	boot := m.boot
	time.AfterFunc(rand.N(idleFor), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.closed && m.boot == boot && !m.down && !m.asked {
			f.askLocked(m)
		}
	})
}

func (f *Fleet) askLocked(m *Machine) {
	m.asked = true
	_, _ = io.WriteString(m.stdin, orderNeed) // to a process that has just died: the next one is told at its start
	go f.tell(Line{Machine: m.ID, Boot: m.boot, Kind: KindAsked})
}

// bootLocked brings a machine up, with another boot ID.
func (f *Fleet) bootLocked(m *Machine) {
	s := locksmith.NewNonce()
	m.boot = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	// Before the agent starts: what is measured is never shorter than what was.
	if err := writeLine(f.events, Line{Machine: m.ID, Boot: m.boot, Kind: KindUp}); err != nil {
		f.failLocked(err)
	}
	m.down, m.asked, m.idle, m.final = false, false, false, f.finishing
	f.startLocked(m)
}

// startLocked starts the agent's process for the present boot.
func (f *Fleet) startLocked(m *Machine) {
	b := f.boot
	b.Machine, b.Groups, b.BootID, b.Needed = m.ID, m.Groups, m.boot, m.asked
	b.Sick = f.trappedLocked(locksmith.PhaseFailed)
	if f.trappedLocked(locksmith.PhaseNotifying) {
		b.Users = loginDelay
	}
	if m.Server != nil {
		b.FleetLock = serverURL(m.Server.Node)
	}
	b.Memory = filepath.Join(f.dir, m.ID, "memory.json")
	if clock.Supported {
		b.Clock = f.clock(m)
	}
	doc, err := json.Marshal(b)
	if err != nil {
		f.failLocked(err)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), RoleVariable+"="+string(doc))
	cmd.Stderr = f.log
	cmd.ExtraFiles = []*os.File{f.events}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		f.failLocked(err)
		return
	}
	if m.proc, err = m.Node.Start(cmd); err != nil {
		f.failLocked(err)
		return
	}
	m.stdin, m.number, m.idle = stdin, m.number+1, false
	ended := Line{Machine: m.ID, Boot: m.boot, Kind: KindEnded, Note: fmt.Sprint(m.number)}
	go func(p *Process) {
		<-p.Ended
		f.tell(ended)
	}(m.proc)
}

// Wait returns when every machine is through after Finish, or with ctx's cause.
func (f *Fleet) Wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %q", context.Cause(ctx), f.Unfinished())
	}
}
