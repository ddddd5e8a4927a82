package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

const (
	quotaBytes   = 8 << 20   // of each member's database; what a schedule of a minute needs is less than a tenth of it
	fillerBytes  = 512 << 10 // of each value of the filler
	fillerPrefix = "chaos/filler/"
)

// fillWithin is how long filling the database may take at most: less than FillQuota
// lasts, so that there is an alarm for a while.
const fillWithin = 5 * time.Second

// What is noted of a database that is full: from then on it takes no writes, and from
// then on an administrator mends that.
const (
	NoteFull = "the database is full: alarm NOSPACE"
	NoteRoom = "the database is given room"
)

// hitQuota fills the database until a member that has reached its quota raises the
// alarm. It returns how to heal that: as an administrator does, who has to. NoteFull is
// written where the alarm is raised, which it may not be in time while etcd is away.
func (r *run) hitQuota(ctx context.Context) (heal func() error) {
	filling, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	err := r.cluster.fill(filling)
	if err == nil {
		r.fleet.Note(NoteFull)
		r.askWhileFull(ctx)
	} else {
		r.fleet.Note("the database is not full in time: " + err.Error())
	}
	makeRoom := r.insist(ctx, func() error { return r.cluster.makeRoom(ctx, r.history) })
	// A member that has been away, and reaches its quota while it catches up, raises
	// the alarm again, maybe later than others can see.
	r.mu.Lock()
	r.unclear = append(r.unclear, makeRoom)
	r.mu.Unlock()
	return func() error {
		r.fleet.Note(NoteRoom)
		return makeRoom()
	}
}

// fill writes values under a prefix of its own until etcd says that there is no space.
// Then the alarm is raised: etcd does so before it answers.
func (c *Cluster) fill(ctx context.Context) error {
	client, err := c.client(c.Endpoints()...)
	if err != nil {
		return err
	}
	defer client.Close()
	value := strings.Repeat("x", fillerBytes)
	for i := 0; i < 4*quotaBytes/fillerBytes; {
		err := limited(ctx, func(ctx context.Context) error {
			_, err := client.Put(ctx, fmt.Sprintf("%s%d", fillerPrefix, i), value)
			return err
		})
		switch {
		case errors.Is(err, rpctypes.ErrNoSpace):
			return nil
		case err == nil:
			i++
		case !until(ctx, time.Now().Add(100*time.Millisecond)):
			return err
		}
	}
	return errors.New("the members have no quota")
}

// makeRoom does what docs/server.md tells an administrator to, once; the history has
// to have been told of what the compaction takes away. An error says that it has to be
// done again.
func (c *Cluster) makeRoom(ctx context.Context, h *History) error {
	var at int64
	if err := limited(ctx, func(ctx context.Context) error {
		resp, err := c.status[0].Delete(ctx, fillerPrefix, clientv3.WithPrefix())
		if err == nil {
			at = resp.Header.Revision
		}
		return err
	}); err != nil {
		return fmt.Errorf("deleting what filled the database: %w", err)
	}
	if err := limited(ctx, func(ctx context.Context) error { return h.await(ctx, at) }); err != nil {
		return err
	}
	if err := limited(ctx, func(ctx context.Context) error {
		_, err := c.status[0].Compact(ctx, at, clientv3.WithCompactPhysical())
		return err
	}); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compacting: %w", err)
	}
	for i, m := range c.Members {
		if err := limited(ctx, func(ctx context.Context) error { return c.defragment(ctx, i) }); err != nil {
			return fmt.Errorf("defragmenting %s: %w", m.Node.Name, err)
		}
	}
	return limited(ctx, c.disarm)
}

// defragment makes a member's file as small as what is in it. One that lags behind
// catches up first: what it has not compacted yet would stay.
func (c *Cluster) defragment(ctx context.Context, member int) error {
	client, endpoint := c.status[member], c.Members[member].Endpoint
	if _, err := client.Get(ctx, "ready"); err != nil {
		return err
	}
	if _, err := client.Defragment(ctx, endpoint); err != nil {
		return err
	}
	status, err := client.Status(ctx, endpoint)
	if err == nil && status.DbSize > quotaBytes/2 {
		err = fmt.Errorf("it still has %d bytes", status.DbSize)
	}
	return err
}

// disarm ends the alarm, and returns an error if it is raised again by then.
func (c *Cluster) disarm(ctx context.Context) error {
	if _, err := c.status[0].AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil { // of all members
		return fmt.Errorf("disarming the alarm: %w", err)
	}
	for i, m := range c.Members {
		if _, err := c.status[i].Put(ctx, markKey, ""); err != nil {
			return fmt.Errorf("writing through %s: %w", m.Node.Name, err)
		}
	}
	raised, err := c.status[0].AlarmList(ctx)
	if err == nil && len(raised.Alarms) > 0 {
		err = fmt.Errorf("alarms are raised again: %v", raised.Alarms)
	}
	return err
}

// limited calls f with the time of one request.
func limited(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

// askWhileFull has a user type commands and ask a server while the alarm is raised: whatever
// else users do, something that reads and something that writes is among it, by each
// way there is. Of the two maxima one at least is another one than there was.
func (r *run) askWhileFull(ctx context.Context) {
	if r.Control == "" {
		return
	}
	const name = "user-full"
	endpoints := r.cluster.Endpoints()
	ways := [][]string{{"-endpoint", strings.Join(endpoints, ",")}}
	for _, s := range r.servers {
		ways = append(ways, []string{"-server", serverURL(s.Node)})
	}
	var said []Said
	for _, way := range ways {
		for _, command := range [][]string{{"status"}, {"set-max", fmt.Sprint(userMax)}, {"set-max", fmt.Sprint(userMax + 1)}, {"history"}} {
			args := slices.Concat(way, []string{"-timeout", callTimeout.String(), "-group", string(userGroup)}, command)
			said = append(said, r.runCommand(ctx, args, append(strings.Split(way[1], ","), endpoints...)))
		}
	}
	if len(r.servers) > 0 { // one is enough, because it answers only after a while
		if s, answered := r.asksFor(ctx, r.servers[0], fleetlock.PreRebootPath, name); answered {
			said = append(said, s)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saidFull = append(r.saidFull, said...)
}
