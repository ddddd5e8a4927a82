package hostile

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith/test/hostile/inspect"
)

// sampled is one of how many bytes of the server's memory is in its profile: of a leak
// of 1 KiB for each of a few hundred requests, some dozen pieces are.
const sampled = 4 << 10

// inspected asks the server's inspection.
func (s *server) inspected(request string) ([]byte, error) {
	c, err := net.Dial("unix", s.inside)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(c, request); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

// population is how many goroutines there are of each kind, with one of each as an example.
// Their kind is the outermost function that says what they are for, whoever started them:
// a watch that was resumed is the same.
type population struct {
	count   map[string]int
	example map[string]string
}

// goroutines are those that the server has.
func (s *server) goroutines() (population, error) {
	text, err := s.inspected(inspect.Goroutines)
	if err != nil {
		return population{}, err
	}
	p := parseGoroutines(string(text))
	if len(p.count) < 5 {
		return p, fmt.Errorf("%d kinds of goroutines in %.300q", len(p.count), text)
	}
	return p, nil
}

func parseGoroutines(text string) population {
	p := population{map[string]int{}, map[string]string{}}
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var kind string
		var stack strings.Builder
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "\t") { // where in a file
				continue
			}
			fmt.Fprintf(&stack, "%.150s\n", line)
			if end := strings.LastIndex(line, "("); end > 0 && !wraps(line) {
				kind = line[:end]
			}
		}
		p.count[kind]++
		p.example[kind] = stack.String()
	}
	return p
}

// wraps says whether a line of a stack is of what runs any function.
func wraps(line string) bool {
	return strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "created by ") || strings.HasPrefix(line, "sync.(*WaitGroup).Go") ||
		strings.HasPrefix(line, "golang.org/x/sync/errgroup.")
}

// more says of which goroutines there are more than before and may be, and shows one
// of them; it is empty if there are none.
func (p population) more(before population, allowed map[string]int) string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(p.count)) {
		if n := p.count[kind] - before.count[kind]; n > allowed[kind] {
			list = append(list, fmt.Sprintf("%d goroutines more of %s, such as\n%s", n, kind, p.example[kind]))
		}
	}
	return strings.Join(list, "\n\n")
}

// heap is how many bytes of memory are in use, by the place that asked for them. Apart from
// it is what the etcd inside keeps, whose log and index grow with what is written until it
// compacts them; and lists that do not shrink are left out: the runtime's of goroutines and
// timers, and those of what is under way.
type heap struct {
	ours map[string]int64
	etcd int64
}

func (h heap) total() (sum int64) {
	for _, n := range h.ours {
		sum += n
	}
	return sum
}

func (s *server) heap() (heap, error) {
	h := heap{ours: map[string]int64{}}
	text, err := s.inspected(inspect.Heap)
	if err != nil {
		return h, err
	}
	var sites []inspect.Site
	if err := json.Unmarshal(text, &sites); err != nil || len(sites) < 100 {
		return h, fmt.Errorf("%d places that asked for memory (%v)", len(sites), err)
	}
	for _, site := range sites {
		switch {
		case slices.Contains(site.Stack, "runtime.malg"), slices.Contains(site.Stack, "runtime.(*timers).addHeap"), isList(site.Stack):
		case isEtcds(site.Stack):
			h.etcd += site.Bytes
		default:
			h.ours[strings.Join(site.Stack, " < ")] += site.Bytes
		}
	}
	return h, nil
}

// isList says whether memory was asked for by a map of connections, streams or contexts that
// became larger. Such maps keep the size that they had when most was under way. What stays in one
// is found all the same: each of its entries points to memory of its own.
func isList(stack []string) bool {
	i := slices.IndexFunc(stack, func(function string) bool { return strings.HasPrefix(function, "runtime.mapassign") })
	if i < 0 || i+1 == len(stack) {
		return false
	}
	switch by := stack[i+1]; by {
	case "context.(*cancelCtx).propagateCancel", "net/http.(*Server).trackConn", "net/http.(*http2serverInternalState).registerConn":
		return true
	default:
		return strings.HasPrefix(by, "google.golang.org/grpc/internal/transport.")
	}
}

func isEtcds(stack []string) bool {
	return slices.ContainsFunc(stack, func(function string) bool {
		return strings.HasPrefix(function, "go.etcd.io/etcd/server/") || strings.HasPrefix(function, "go.etcd.io/raft/") ||
			strings.HasPrefix(function, "go.etcd.io/bbolt")
	})
}

// grown lists the places that have the most more than before.
func (h heap) grown(before heap) string {
	places := slices.SortedFunc(maps.Keys(h.ours), func(a, b string) int {
		return int((h.ours[b] - before.ours[b]) - (h.ours[a] - before.ours[a]))
	})
	var text strings.Builder
	for _, place := range places[:min(len(places), 5)] {
		fmt.Fprintf(&text, "\n%+d KiB: %s", (h.ours[place]-before.ours[place])>>10, place)
	}
	return text.String()
}
