package access

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// FleetLock makes ten thousand requests a second: a caller costs less than 5 µs.
func BenchmarkCaller(b *testing.B) {
	path := b.TempDir() + "/access.json"
	write(b, path, somebody)
	f, err := Open(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	cookie := f.principals.get().byName["alice"].session(time.Now().Add(time.Hour))
	for _, bb := range []struct {
		name string
		r    *http.Request
	}{
		{"bearer", request(bearer(aliceToken))},
		{"basic", request(basic("m1", machineToken))},
		{"session", request(header("Cookie", "locksmith="+cookie))},
		{"certificate", request(certificate(cn("web-1.example.com")))},
		{"basic, wrong token", request(basic("m1", machineToken+"x"))},
		{"basic, unknown name", request(basic("m2", machineToken+"x"))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Caller(bb.r)
			}
		})
	}
	b.Run("basic, many at once", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			r := request(basic("m1", machineToken))
			for pb.Next() {
				if _, err := f.Caller(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// Failures from ever new addresses cost little, too.
func BenchmarkFailures(b *testing.B) {
	path := b.TempDir() + "/access.json"
	write(b, path, somebody)
	f, err := Open(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	r := request(bearer("wrong-0123456789abcdef"))
	i := 0
	for b.Loop() {
		i++
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255)
		_, _ = f.Caller(r)
	}
}
