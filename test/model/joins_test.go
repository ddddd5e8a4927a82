package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/locksmith-reboot/locksmith"
)

// Joins that are under way beyond the next one. What keeps them from being carried out is
// either that the machine has an entry, or that the lease is gone under which they were
// sent.

// under is the lease of a join, 0: it is no join.
func (s *sent) under() int64 {
	for _, op := range s.req.Success {
		if put := op.GetRequestPut(); strings.Contains(string(put.GetKey()), "/queue/") {
			return put.Lease
		}
	}
	return 0
}

// anew says whether a join is for who has no entry yet, instead of taking one over.
func (s *sent) anew() bool {
	return s.under() != 0 && s.req.Compare[0].GetTarget() == pb.Compare_CREATE
}

// lives says whether a lease has neither expired nor been revoked.
func (r *replay) lives(lease int64) bool {
	r.t.Helper()
	resp, err := r.leases.LeaseTimeToLive(r.t.Context(), &pb.LeaseTimeToLiveRequest{ID: lease})
	if err != nil {
		r.fail("lease: %v", err)
	}
	return resp.TTL > 0
}

// could says whether a change that nobody waits for could be carried out at this moment.
func (r *replay) could(s *sent) bool {
	r.t.Helper()
	return r.would(s) && (s.under() == 0 || r.lives(s.under()))
}

// atJoin goes on with machine m's process until a join of it is at the gate, nil: its call
// has ended.
func (r *replay) atJoin(m int) (*sent, error) {
	pr := r.procs[m]
	for range 50 {
		s := pr.look(r.t, true)
		switch {
		case r.t.Failed():
			return nil, errors.New("it does not join")
		case s == nil || s.anew() && r.lives(s.under()):
			return s, nil
		}
		pr.let(carried) // it cannot succeed any more, and its sender learns that now
	}
	return nil, errors.New("it tries again and again to join")
}

// holdJoin keeps a join of machine m under way. It returns once the next one is at the
// gate, which nothing but the model lets through: until then the lease is not given up.
func (r *replay) holdJoin(m int) error {
	pr := r.procs[m]
	for range 50 {
		if pr.ended() {
			r.acquire(m)
		}
		s, err := r.atJoin(m)
		switch {
		case err != nil:
			return err
		case s != nil:
			r.joins[m] = s
			pr.let(held)
			if s, err = r.atJoin(m); err == nil && s == nil {
				err = fmt.Errorf("after a join without a reply it returned %v", pr.job.err)
			}
			return err
		}
		var paused *locksmith.PausedError // of a wait that had lost its place
		if !errors.As(pr.job.err, &paused) {
			return fmt.Errorf("instead of joining it returned %v", pr.job.err)
		}
	}
	return errors.New("it is held up again and again")
}

// lateJoin carries out the join of machine m that is under way.
func (r *replay) lateJoin(m int, before State) error {
	s := r.joins[m]
	if before.Machine[m].Join == Mine {
		if next, err := r.atJoin(m); err != nil {
			return err
		} else if next == nil {
			// The call has seen before the model that it waits for what the machine
			// holds, and has given up its lease.
			r.state = before
			return nil
		}
	}
	r.joins[m] = nil
	return r.carryLate(s)
}

// carryLate carries out what its sender does not wait for any more.
func (r *replay) carryLate(s *sent) error {
	resp, err := r.raw.Txn(r.t.Context(), s.req)
	switch {
	case err != nil:
		return err
	case !resp.Succeeded:
		return errors.New("it had become void")
	}
	return nil
}

// settleJoins is for joins whose lease the model takes for one that lives, and the
// process has given it up already, as its call has ended; or that the process has taken
// for lost, because the machine is so busy.
func (r *replay) settleJoins() {
	r.t.Helper()
	for m, s := range r.joins {
		mm, pr := &r.state.Machine[m], r.procs[m]
		if s == nil || mm.Join != Mine {
			continue
		}
		if pr.newest.Load() != s.under() {
			r.revoke(s.under())
		}
		if (pr.ended() || pr.kind != Grant) && !r.lives(s.under()) {
			mm.Join = NoJoin
		}
	}
}

// checkJoins holds the joins under way against the model.
func (r *replay) checkJoins() {
	r.t.Helper()
	for m, s := range r.joins {
		switch mm := r.state.Machine[m]; {
		case s == nil:
		case mm.Join == NoJoin:
			r.void, r.joins[m] = append(r.void, s), nil
		case r.could(s) != (r.state.Queue.place(m) < 0):
			r.fail("machine %s: a join under way, the model has %+v", name(m), mm)
		}
	}
}

func (r *replay) revoke(lease int64) {
	r.t.Helper()
	if !r.lives(lease) {
		return
	}
	if _, err := r.leases.LeaseRevoke(r.t.Context(), &pb.LeaseRevokeRequest{ID: lease}); err != nil {
		r.fail("lease: %v", err)
	}
}

// stands says whether machine m's entry is the one that s would have made: there was no
// reply to the change that made it, and nothing is left to do.
func (r *replay) stands(m int, s *sent) bool {
	put := s.req.Success[0].GetRequestPut()
	entry, err := r.entry(m)
	if err != nil {
		r.fail("entry: %v", err)
	}
	var there, ours locksmith.Waiter
	return entry != nil && entry.Lease == put.Lease && json.Unmarshal(entry.Value, &there) == nil &&
		json.Unmarshal(put.Value, &ours) == nil && there.Nonce == ours.Nonce
}

// expire ends the lease on which machine m's entry hung before it joined, 0: none. If it
// was another process's, that must not take the entry away. It stays for a join that is
// under way.
func (r *replay) expire(m int, earlier int64) error {
	now, err := r.lease(m)
	if s := r.joins[m]; err == nil && earlier != 0 && earlier != now && (s == nil || s.under() != earlier) {
		r.revoke(earlier)
	}
	if err == nil && earlier == now && r.hung[m] == now {
		err = errors.New("its entry hangs on the lease of an earlier process")
	}
	return err
}
