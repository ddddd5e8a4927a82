package main

import (
	"bytes"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestRequestsAreSorted(t *testing.T) {
	put := func(key string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
	}
	get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a/semaphore")}}}
	remove := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{}}}
	c := &counter{counts: make(map[string]int)}
	for _, req := range []any{
		&pb.RangeRequest{}, &pb.TxnRequest{Success: []*pb.RequestOp{get}}, // reads
		&pb.TxnRequest{Success: []*pb.RequestOp{put("a/semaphore"), put("a/history/1")}, Failure: []*pb.RequestOp{get}},
		&pb.TxnRequest{Success: []*pb.RequestOp{remove}}, &pb.TxnRequest{Failure: []*pb.RequestOp{put("a")}},
		&pb.LeaseGrantRequest{}, &pb.LeaseRevokeRequest{}, &pb.CompactionRequest{},
	} {
		c.request("other", req)
	}
	want := map[string]int{"reads": 2, "writes": 3, "writes of the semaphore": 1, "leases": 2, "other": 1}
	if !maps.Equal(c.counts, want) {
		t.Errorf("counted %v, want %v", c.counts, want)
	}
}

func TestTable(t *testing.T) {
	b := &bench{}
	b.ratioAtMost(figure{Name: "a", Unit: "ms", Measured: 3, Floor: 2}, 1.5)
	b.atMost(figure{Name: "b", Unit: "MB", Measured: 3.14159}, 3)
	b.add(figure{Name: "c", Unit: "ms", Measured: 1, Note: "free"})
	var out bytes.Buffer
	printTable(&out, b.figures)
	want := strings.TrimPrefix(`
FIGURE  MEASURED  FLOOR  RATIO  TARGET            NOTE
a       3 ms      2 ms   1.50   <= 1.5 x  met
b       3.14 MB                 <= 3 MB   MISSED
c       1 ms                                      free
`, "\n")
	if out.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestQuantile(t *testing.T) {
	values := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %g is %d, want %d", q, got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-only", "x"}, {"-waiting", "0"}, {"-waiting", "10,"}, {"-nothing"}, {serveArg}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &stderr, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, stderr.String())
		}
	}
}

// What this process takes is seen, and is about what the kernel says of it elsewhere.
func TestConsumed(t *testing.T) {
	before, err := consumed(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < 200*time.Millisecond {
		_ = strings.Repeat("x", 1000)
	}
	after, err := consumed(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	whole := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if took := after - before; took < 10*time.Millisecond || after > whole+50*time.Millisecond || after < whole-50*time.Millisecond {
		t.Errorf("took %v, in all %v; the kernel says %v in all", took, after, whole)
	}
	if _, err := consumed(-1); err == nil {
		t.Error("a process that does not exist took time")
	}
}
