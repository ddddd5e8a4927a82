package dashboard

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// BenchmarkLargeFleet is one page of a fleet of 10,000 machines, of which 5,000 wait: as
// it is right after a change, and as all others get it.
func BenchmarkLargeFleet(b *testing.B) {
	r := newRig(b, true)
	s := &seed{t: b, client: r.etcd.Client(b), now: time.Now()}
	s.semaphore("web", 20)
	var ops []clientv3.Op
	for i := range 10000 {
		host := fmt.Sprintf("node-%05d.fra1.example.net", i)
		id := s.id(host)
		p := locksmith.Presence{MachineID: id, Hostname: host, Groups: []locksmith.Group{"web"}, Phase: locksmith.PhaseIdle, PhaseTime: s.ago(time.Hour),
			OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0-40-amd64", Version: "2.0.0", BootID: id}
		if i < 5000 {
			p.Phase, p.NeededSince, p.Reason, p.Conditions = locksmith.PhaseQueued, s.ago(time.Hour), kernel, conditions(locksmith.CondWaiting, s.ago(time.Hour))
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/queue/5/%s", base("web"), id), js(locksmith.Waiter{MachineID: id, Hostname: host, By: locksmith.ByAgent,
				Reason: kernel, Groups: []locksmith.Group{"web"}, Since: s.ago(time.Hour), Nonce: "n"})))
		}
		ops = append(ops, clientv3.OpPut(root+"/seen/"+id, js(p)), clientv3.OpPut(root+"/machines/"+id, js(p)))
		if len(ops) > 120 || i == 9999 {
			if _, err := s.client.Txn(b.Context()).Then(ops...).Commit(); err != nil {
				b.Fatal(err)
			}
			ops = nil
		}
	}
	v := r.visit(b, "")
	for _, path := range []string{"/", "/group?name=web", "/machines", "/machines?q=node-099"} {
		for _, fresh := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s fresh=%v", path, fresh), func(b *testing.B) {
				for b.Loop() {
					if fresh {
						b.StopTimer()
						r.setMax(b, "web", 20)
						time.Sleep(time.Second) // a change like this one is rare, and it is told of by now
						b.StartTimer()
					}
					if a := v.get(path); a.status != http.StatusOK {
						b.Fatal(a.status, a.text())
					}
				}
			})
		}
	}
}
