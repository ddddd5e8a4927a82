package chaos

import (
	"os"
	"os/exec"
	"sync"
	"time"
)

// Daemon is a program on a node that is killed and started again: a member of the
// cluster, or a server.
type Daemon struct {
	Node *Node

	log  string   // the file with what it says
	args []string // the program and its arguments
	mu   sync.Mutex
	proc *Process // nil: it does not run
}

// Start starts the daemon, if it does not run.
func (d *Daemon) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil {
		return nil
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.args[0], d.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	d.proc, err = d.Node.Start(cmd)
	return err
}

// Kill kills the daemon, if it runs. What it has on disk stays.
func (d *Daemon) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil {
		d.proc.Kill()
		d.proc = nil
	}
}

// Revive starts the daemon again if it has ended by itself, or does within a while.
// ended says whether it had.
func (d *Daemon) Revive(within time.Duration) (ended bool, err error) {
	d.mu.Lock()
	proc := d.proc
	d.mu.Unlock()
	if proc == nil {
		return false, nil
	}
	select {
	case <-proc.Ended:
	case <-time.After(within):
		return false, nil
	}
	d.mu.Lock()
	if d.proc == proc {
		d.proc = nil
	}
	d.mu.Unlock()
	return true, d.Start()
}

// Pause stops the daemon where it is, if it runs.
func (d *Daemon) Pause() { d.signal((*Process).Pause) }

// Resume undoes Pause.
func (d *Daemon) Resume() { d.signal((*Process).Resume) }

func (d *Daemon) signal(send func(*Process)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil {
		send(d.proc)
	}
}
