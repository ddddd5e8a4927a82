package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// ledger is a store that counts its changes, and takes its time to read the count.
type ledger struct {
	value, reads atomic.Int64
	takes        time.Duration
}

func (l *ledger) read(context.Context, int64) (int64, error) {
	l.reads.Add(1)
	v := l.value.Load() // what it is when the read begins, or later
	time.Sleep(l.takes) // of the bubble, whose time is not real
	return v, nil
}

func TestNobodyIsShownWhatIsOlderThanAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := make(chan struct{}, 1)
		r, l := newReads(nil, changes), &ledger{takes: 20 * time.Millisecond}
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				for j := range 20 {
					time.Sleep(time.Duration(i*7+j*13) * time.Millisecond)
					before := l.value.Load()
					if i == 0 {
						before = l.value.Add(1)
						select {
						case changes <- struct{}{}:
						default:
						}
					} else if i == 1 {
						before = l.value.Add(1)
						r.changed()
					}
					got, err := shared(t.Context(), r, "value", l.read)
					if err != nil || i < 2 && got < before {
						t.Errorf("%d after %d: %v", got, before, err)
					}
				}
			})
		}
		all.Wait()
		if n := l.reads.Load(); n > 150 {
			t.Errorf("%d reads for 1000 looks", n)
		}
	})
}

func TestManyWhoLookReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := newReads(nil, nil), &ledger{takes: 100 * time.Millisecond}
		look := func(n int) {
			var all sync.WaitGroup
			for range n {
				all.Go(func() { _, _ = shared(t.Context(), r, "value", l.read) })
			}
			all.Wait()
		}
		look(100)
		look(100)
		if n := l.reads.Load(); n != 1 {
			t.Errorf("%d reads", n)
		}
		time.Sleep(maxAge) // what machines say grows old by itself
		look(100)
		if n := l.reads.Load(); n != 2 {
			t.Errorf("%d reads", n)
		}
		// Where the store never rests, its reader does.
		start := time.Now()
		for range 20 {
			r.changed()
			look(10)
		}
		if took := time.Since(start); took < 19*share*l.takes || took > 21*maxRest {
			t.Errorf("20 reads of %v one after the other took %v", l.takes, took)
		}
	})
}

func TestWhoGoesAwayTakesNothingFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := newReads(nil, nil), &ledger{takes: time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := shared(ctx, r, "value", l.read); first <- err }()
		synctest.Wait()
		go func() { _, err := shared(t.Context(), r, "value", l.read); second <- err }()
		synctest.Wait()
		cancel()
		if err := <-first; err == nil {
			t.Error("the one who went away has an answer")
		}
		if err := <-second; err != nil || l.reads.Load() != 1 {
			t.Error(err, l.reads.Load())
		}
	})
}

func TestWhatNobodyAsksForIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := newReads(nil, nil), &ledger{}
		for i := range 5 * maxKept {
			if _, err := shared(t.Context(), r, fmt.Sprint(i), l.read); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(r.kept) > maxKept {
			t.Error(len(r.kept))
		}
	})
}

func TestAHistoryIsReadAsFarAsItIsNew(t *testing.T) {
	r := newRig(t, true)
	for i := range 40 {
		r.setMax(t, "web", i+1)
	}
	reads := newReads(r.store, nil)
	long := func() []locksmith.HistoryEntry {
		t.Helper()
		reads.changed()
		list, err := reads.history(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	same := func(changes int) {
		t.Helper()
		for i := range changes {
			r.setMax(t, "web", 100+i)
		}
		got := long()
		want, err := r.store.History(t.Context(), "web", historySize)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d entries, want %d: %v", len(got), len(want), err)
		}
		for i := range want {
			if got[i].Revision != want[i].Revision {
				t.Fatalf("entry %d: %+v, want %+v", i, got[i], want[i])
			}
		}
	}
	same(0)
	same(3)
	same(0)
	same(19)
	same(20) // more than are looked at first
	same(60)
}

func TestManyBrowsersOnManyMachinesCostFewReads(t *testing.T) {
	r := newRig(t, true)
	s := &seed{t: t, client: r.etcd.Client(t), now: time.Now()}
	s.semaphore("web", 3)
	for i := range 1000 {
		host := fmt.Sprintf("node-%04d", i)
		s.put(root+"/seen/"+s.id(host), locksmith.Presence{MachineID: s.id(host), Hostname: host, Groups: []locksmith.Group{"web"}})
	}
	v := r.visit(t, "")
	v.get("/machines").contains(t, "1000 machines.")
	r.reads.all.Store(0)
	start := time.Now()
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			v := r.visit(t, "")
			for _, path := range []string{"/", "/machines?page=3", "/group?name=web"} {
				if a := v.get(path); a.status != http.StatusOK {
					t.Errorf("%d: %s: %d", i, path, a.status)
				}
			}
		})
	}
	all.Wait()
	n, took := r.reads.all.Load(), time.Since(start)
	t.Logf("120 pages of 1000 machines: %d reads in %v", n, took)
	if most := 5 * int64(2+took/maxAge); n > most {
		t.Errorf("%d reads for 120 pages in %v, want at most %d", n, took, most)
	}
}

func TestSumsOfManyMachinesMayBeSecondsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReads(nil, nil)
		look := func(l *ledger, key string) int64 {
			r.changed()
			v, err := roughly(t.Context(), r, key, l.read)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		cheap, costly := &ledger{takes: 10 * time.Millisecond}, &ledger{takes: 200 * time.Millisecond}
		for range 10 {
			if want, got := cheap.value.Add(1), look(cheap, "cheap"); got != want {
				t.Errorf("cheap: %d, want %d", got, want)
			}
		}
		look(costly, "costly")
		costly.value.Add(1)
		time.Sleep(time.Second)
		if got := look(costly, "costly"); got != 0 || costly.reads.Load() != 1 {
			t.Error(got, costly.reads.Load())
		}
		time.Sleep(time.Second)
		if got := look(costly, "costly"); got != 1 {
			t.Error("it stays old")
		}
	})
}
