// Package inspect shows from inside what a program has: its goroutines, and the memory
// that is still in use, by who asked for it. A program that links it, and has Variable
// in its environment, answers at the unix socket named there. The suite builds
// locksmith-server so; what is installed never links it.
//
// It must not know the program. For tests of the measurements themselves it can leak.
package inspect

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
)

// Variable of the environment names the socket. "@" at its beginning: one that is in no
// directory.
const Variable = "LOCKSMITH_INSPECT"

// Requests, one line on a connection each. The answer ends with the connection.
const (
	Goroutines = "goroutines" // as a crash shows them: text
	Heap       = "heap"       // after a collection: a list of Site in JSON
	Leak       = "leak"       // COUNT BYTES: keeps so many slices of that size; no answer
	Park       = "park"       // COUNT: starts goroutines that never end; no answer
)

// Site is a place that asked for memory which is still in use.
type Site struct {
	Stack   []string // functions, the innermost first
	Objects int64
	Bytes   int64
}

func init() {
	path := os.Getenv(Variable)
	if path == "" {
		return
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "inspect:", err)
		os.Exit(1)
	}
	go serve(l)
}

// serve answers one request after the other in a single goroutine, which is in every
// figure alike.
func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			answer(c, strings.TrimSpace(line))
		}
		c.Close()
	}
}

var kept [][]byte

func answer(w io.Writer, request string) {
	var count, size int
	name, arguments, _ := strings.Cut(request, " ")
	_, _ = fmt.Sscan(arguments, &count, &size) // what is missing is 0
	switch name {
	case Goroutines:
		_ = pprof.Lookup("goroutine").WriteTo(w, 2)
	case Heap:
		_ = json.NewEncoder(w).Encode(heap())
	case Leak:
		for range count {
			kept = append(kept, make([]byte, size))
		}
	case Park:
		for range count {
			go park()
		}
	}
}

func park() { select {} }

// heap is what is in use after a collection. What pools kept goes with the second one,
// and the profile is that of the collection before.
func heap() []Site {
	for range 3 {
		runtime.GC()
	}
	records := make([]runtime.MemProfileRecord, 1000)
	for {
		n, ok := runtime.MemProfile(records, false)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, 2*n)
	}
	sites := make([]Site, 0, len(records))
	for i := range records {
		sites = append(sites, site(&records[i]))
	}
	return sites
}

// site is a record of the profile, in which only one of many objects is counted, scaled
// to all of them.
func site(r *runtime.MemProfileRecord) Site {
	s := Site{Objects: r.InUseObjects(), Bytes: r.InUseBytes()}
	if s.Objects > 0 {
		size := float64(s.Bytes) / float64(s.Objects)
		scale := 1 / (1 - math.Exp(-size/float64(runtime.MemProfileRate)))
		s.Objects, s.Bytes = int64(float64(s.Objects)*scale), int64(float64(s.Bytes)*scale)
	}
	for frames := runtime.CallersFrames(r.Stack()); ; {
		frame, more := frames.Next()
		s.Stack = append(s.Stack, frame.Function)
		if !more {
			return s
		}
	}
}
