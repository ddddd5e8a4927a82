package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// What is noted of it, in this order.
const (
	noteSaved    = "the store is saved"
	noteLost     = "the store is lost"
	noteRestored = "the store is restored"
	noteResumed  = "reboots are resumed"
)

// Restoration is what a run has shown in which the store was lost.
type Restoration struct {
	Result
	Unknown []string // machines that were down when it was lost, and had no slot in what was restored
	Robbed  []string // machines that were up and held slots, and had none in what was restored
	Stale   []string // machines that were up again then, and held slots in what was restored
}

// restoration is such a run under way: the fleet's store is a locksmith-server's own.
type restoration struct {
	*run
	observer *Node
	server   *Daemon
	address  string // of its FleetLock
	data     string
	client   *clientv3.Client
	started  []Change        // what the restored store began with
	granted  []string        // who was up and had won a slot, when it was lost
	unlocked []string        // of these, from whom the administrator took a slot that they had in what was restored
	touched  map[string]bool // whose slots the administrator took or gave back
	judged   Restoration
}

// RunRestore has machines reboot, saves the store, has them go on, loses the store,
// restores what was saved, and does what docs/server.md tells an administrator to. No
// other faults are inflicted.
func RunRestore(ctx context.Context, cfg Config) (result Restoration, err error) {
	r := &restoration{run: &run{Config: cfg, network: NewNetwork(cfg.Seed)}, data: filepath.Join(cfg.Dir, "store"), touched: make(map[string]bool)}
	defer r.network.Close()
	defer func() {
		for _, of := range []string{"*.sock", "etcd/*.sock"} { // what is left is for people, and these for nobody
			sockets, _ := filepath.Glob(filepath.Join(r.data, of))
			for _, socket := range sockets {
				_ = os.Remove(socket)
			}
		}
	}()
	if r.observer, err = r.network.NewNode("observer", observerNode); err != nil {
		return result, err
	}
	if err := r.build(ctx); err != nil {
		return result, err
	}
	defer r.client.Close()
	err = r.live(ctx)
	lines, failed := r.fleet.Lines()
	r.judged.Lines = lines
	return r.judged, errors.Join(err, failed)
}

// build starts the server and makes the machines.
func (r *restoration) build(ctx context.Context) error {
	node, err := r.network.NewNode("server1", firstServer)
	if err != nil {
		return err
	}
	r.address = net.JoinHostPort(node.Addr.String(), fmt.Sprint(serverPort))
	store := net.JoinHostPort(node.Addr.String(), fmt.Sprint(clientPort))
	r.server = &Daemon{Node: node, log: filepath.Join(r.Dir, "server1.log"), args: []string{r.Server,
		"-listen", r.address, "-insecure-listen", "-data-dir", r.data, "-etcd-listen", store, "-log-format", "text"}}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := r.server.startListening(ctx, r.observer, r.address); err != nil {
		return err
	}
	endpoints := []string{"http://" + store}
	if r.client, err = (&Cluster{observer: r.observer}).client(endpoints...); err != nil {
		return err
	}
	r.admin = etcd.New(r.client, etcd.Config{Endpoints: endpoints, Timeout: callTimeout})
	for g, n := range r.Max { // the server listens before its store is there
		if err := r.insist(ctx, func() error { _, err := r.admin.SetMax(ctx, g, n, adminName); return err })(); err != nil {
			return err
		}
	}
	if r.fleet, err = NewFleet(r.Dir, Boot{Endpoints: endpoints, Users: r.Users}); err != nil {
		return err
	}
	for _, groups := range r.Groups {
		if _, err := r.fleet.Add(r.network, groups, nil); err != nil {
			return err
		}
	}
	for _, g := range r.Served {
		if _, err := r.fleet.Add(r.network, []locksmith.Group{g}, r.server); err != nil {
			return err
		}
	}
	return nil
}

// live is the machines' time, with both stores.
func (r *restoration) live(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Length+r.Settle)
	defer cancel()
	defer r.fleet.Close()
	first := Follow(r.client)
	defer first.Close()
	file := filepath.Join(r.Dir, "saved.snap")
	r.fleet.Start()
	if err := r.toLoss(ctx, file); err != nil {
		return err
	}
	machines, server := r.nodes(), []*Node{r.server.Node}
	mend := healing(r.cut(machines, server), r.cut(server, machines)) // so that all that was granted is told
	before, err := first.Changes(ctx)
	if err != nil {
		return err
	}
	first.Close()
	r.granted = r.fleet.view().granted
	r.server.Kill()
	r.fleet.Note(noteLost)
	again, err := r.restore(ctx, file, mend)
	if again != nil {
		defer again.Close()
	}
	if err != nil {
		return err
	}
	r.fleet.Note(noteResumed)
	if err := r.insist(ctx, func() error { return r.admin.Resume(ctx, locksmith.PauseScope{All: true}, adminName) }, locksmith.ErrNotPaused)(); err != nil {
		return err
	}
	if err := r.end(ctx); err != nil {
		return err
	}
	after, err := again.Changes(ctx)
	if err != nil {
		return err
	}
	r.judge(before, after)
	return nil
}

// toLoss has the machines reboot until there is, beside what was saved: a machine that
// is down and was not in a slot then, one that is up and has won a slot since, and among
// these or those that are down one that speaks FleetLock.
func (r *restoration) toLoss(ctx context.Context, file string) error {
	each := len(r.fleet.machines) / 2
	roomy := slices.MaxFunc(slices.Collect(maps.Keys(r.Max)), func(a, b locksmith.Group) int { return r.Max[a] - r.Max[b] })
	if err := r.await(ctx, "the first reboots", func(v view) bool { return v.reboots >= each }); err != nil {
		return err
	}
	var saved view
	var known []string // to what was saved
	for {
		r.fleet.Darken(roomy)
		if err := r.await(ctx, "somebody to be down", func(v view) bool { return len(v.dark) > 0 }); err != nil {
			return err
		}
		saved = r.fleet.view()
		if err := r.program(ctx, "snapshot", "-data-dir", r.data, file); err != nil {
			return err
		}
		known = slices.Concat(saved.down, saved.granted, r.fleet.view().granted)
		if slices.ContainsFunc(r.fleet.machines, func(m *Machine) bool { return m.Server != nil && !slices.Contains(known, m.ID) }) {
			break
		}
		r.fleet.Light() // the moment would not come
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	r.fleet.Note(noteSaved)
	r.fleet.Light()
	if err := r.await(ctx, "reboots since", func(v view) bool { return v.reboots >= saved.reboots+each }); err != nil {
		return err
	}
	for {
		r.fleet.Darken(roomy)
		if err := r.await(ctx, "somebody to be down again", func(v view) bool { return len(v.dark) > 0 }); err != nil {
			return err
		}
		if len(without(r.fleet.view().dark, known)) > 0 {
			break
		}
		r.fleet.Light() // one that had a slot then: somebody else
	}
	err := r.await(ctx, "the moment", func(v view) bool {
		since := without(slices.Concat(v.notifying, v.down), known)
		return len(without(v.notifying, known)) > 0 && len(without(saved.dark, v.down)) > 0 && slices.ContainsFunc(since, r.speaksFleetLock)
	})
	r.judged.Stale = without(saved.dark, r.fleet.view().down)
	return err
}

func (r *restoration) speaksFleetLock(id string) bool {
	return slices.ContainsFunc(r.fleet.machines, func(m *Machine) bool { return m.ID == id && m.Server != nil })
}

// restore makes a store of what was saved, and compares it with the machines: steps 1
// and 2 of the documentation. It returns the history from there on.
func (r *restoration) restore(ctx context.Context, file string, mend func() error) (*History, error) {
	if err := os.RemoveAll(r.data); err != nil {
		return nil, err
	}
	if err := r.program(ctx, "restore", "-data-dir", r.data, file); err != nil {
		return nil, err
	}
	if err := mend(); err != nil {
		return nil, err
	}
	if err := r.server.startListening(ctx, r.observer, r.address); err != nil {
		return nil, err
	}
	r.fleet.Note(noteRestored)
	history, err := r.followAgain(ctx)
	if err != nil {
		return nil, err
	}
	return history, r.compare(ctx)
}
