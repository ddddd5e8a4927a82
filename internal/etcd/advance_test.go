package etcd

import (
	"errors"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// A phase that was written although its call had no answer is the machine's own, also
// for the call after that, which has another time to write.
func TestAdvanceAfterALostReply(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		proxy := etcdtest.NewProxy(t, srv.Address())
		s := dial(t, proxy.Endpoint, func(c *Config) { c.Timeout = 2 * time.Second })
		direct, g, h := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("m", g, h)))(t)
		was := must(direct.Find(t.Context(), "m", []locksmith.Group{g, h}))(t)
		proxy.SwallowReplies()
		if _, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "first"); err == nil || errors.Is(err, locksmith.ErrSlotLost) {
			t.Fatalf("without a reply: %v", err)
		}
		is := must(direct.Find(t.Context(), "m", []locksmith.Group{g, h}))(t)
		if is.Record.Reason != "first" || was.Record.Reason == "first" {
			t.Fatalf("the record was not written: %+v", is.Record)
		}
		proxy.Cut()
		slots, err := s.Advance(t.Context(), slots, locksmith.PhaseRestoring, "second")
		if err != nil || slots.Record.Reason != "second" {
			t.Fatalf("after a lost reply: %+v, %v", slots.Record, err)
		}
		if len(s.unsettled.records) != 0 {
			t.Errorf("still unsettled: %v", s.unsettled.records)
		}
		// What somebody else wrote is nobody's of ours, as ever.
		other := must(direct.Find(t.Context(), "m", []locksmith.Group{g, h}))(t)
		if _, err := direct.Advance(t.Context(), other, locksmith.PhaseFailed, "another process"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Advance(t.Context(), slots, locksmith.PhaseReleasing, ""); !errors.Is(err, locksmith.ErrSlotLost) {
			t.Errorf("after another process: %v", err)
		}
	})
}
