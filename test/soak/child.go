package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// roleVariable names the environment variable that makes the program one of the
// processes of a run: it has a role as JSON.
const roleVariable = "LOCKSMITH_SOAK_ROLE"

// linesFile is the number of the pipe to which processes write lines.
const linesFile = 3

// role is what a process is told.
type role struct {
	Name     string
	Machines []member // empty: it reads

	Etcd   string // URL: of the machines' lock
	Server string // URL: of locksmith-server

	FleetLock bool          // the machines' lock is the server
	Dir       string        // of the machines' files
	Down      time.Duration // how long a reboot takes; up to as much again is added
	Every     time.Duration // between two looks at itself
	Leak      string
}

// member is one machine.
type member struct {
	ID     string
	Groups []locksmith.Group
}

// Words that a process reads from standard input, each in a line. Its end ends the process.
const (
	wordWave    = "wave"    // and a number: all machines boot and need a reboot
	wordRead    = "read"    // readers come and go
	wordRest    = "rest"    // readers go
	wordCollect = "collect" // garbage
)

// worker does what the words say.
type worker interface {
	wave(n int)
	read(on bool)
	close()
}

// runChild is such a process, until its input ends or ctx.
func runChild(ctx context.Context, doc string, stdin io.Reader, stderr io.Writer) int {
	var r role
	if err := json.Unmarshal([]byte(doc), &r); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", roleVariable, err)
		return 2
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &teller{file: os.NewFile(linesFile, "lines"), name: r.Name}
	var w worker
	if len(r.Machines) > 0 {
		w = newCrew(ctx, r, out)
	} else {
		w = newReaders(ctx, r)
	}
	var wg sync.WaitGroup
	wg.Go(func() { out.describe(ctx, r.Every) })
	for words := bufio.NewScanner(stdin); words.Scan(); {
		word, rest, _ := strings.Cut(words.Text(), " ")
		switch word {
		case wordWave:
			n, err := strconv.Atoi(rest)
			if err != nil {
				fmt.Fprintf(stderr, "%s: wave %q\n", r.Name, rest)
				return 2
			}
			w.wave(n)
		case wordRead, wordRest:
			w.read(word == wordRead)
		case wordCollect:
			debug.FreeOSMemory()
		}
	}
	w.close()
	cancel()
	wg.Wait()
	return 0
}

// teller writes a process's lines.
type teller struct {
	file *os.File
	name string
}

func (t *teller) tell(l line) {
	l.Process = t.name
	if err := writeLine(t.file, l); err != nil {
		panic(err) // nothing could be judged any more
	}
}

// describe says every so often how the process is, until ctx ends.
func (t *teller) describe(ctx context.Context, every time.Duration) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for tick := time.NewTicker(every); ; {
		metrics.Read(live)
		t.tell(line{Kind: lineStats, Goroutines: runtime.NumGoroutine(), Heap: live[0].Value.Uint64()})
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}
