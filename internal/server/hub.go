package server

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// eventTimes are those of the events.
type eventTimes struct {
	gap    time.Duration // between two looks at a group, at least
	alive  time.Duration // between two signs of life; then the store is looked at, too
	retry  time.Duration // after the store could not be read
	writes time.Duration // until a client that does not read is given up
	look   time.Duration // that a look at the store takes, at most
}

var defaultEventTimes = eventTimes{gap: 250 * time.Millisecond, alive: 15 * time.Second, retry: time.Second, writes: 10 * time.Second, look: storeLimit}

// hub reads the status of each group that somebody looks at, after each change, once for
// all who look.
type hub struct {
	max       int
	read      func(context.Context, locksmith.Group) (locksmith.GroupStatus, error)
	subscribe func(context.Context) <-chan struct{}
	explain   func(error) api.ErrorBody
	times     eventTimes

	mu      sync.Mutex
	clients int
	streams map[locksmith.Group]*stream
}

// stream is one group of a hub, as long as somebody looks at it.
type stream struct {
	stop context.CancelFunc
	done chan struct{}

	// Guarded by the hub's mu.
	clients map[chan []byte]struct{}
	last    []byte // event; nil before the first
}

func newHub(max int, read func(context.Context, locksmith.Group) (locksmith.GroupStatus, error),
	subscribe func(context.Context) <-chan struct{}, explain func(error) api.ErrorBody) *hub {
	return &hub{max: max, read: read, subscribe: subscribe, explain: explain,
		times: defaultEventTimes, streams: make(map[locksmith.Group]*stream)}
}

// join delivers a group's events, the present first, until leave is called. Of events that
// are not taken in time only the newest is kept. ok is false where too many look.
func (h *hub) join(g locksmith.Group) (events <-chan []byte, leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.clients >= h.max {
		return nil, nil, false
	}
	h.clients++
	st := h.streams[g]
	if st == nil {
		ctx, cancel := context.WithCancel(context.Background())
		st = &stream{stop: cancel, done: make(chan struct{}), clients: make(map[chan []byte]struct{})}
		h.streams[g] = st
		go h.run(ctx, g, st)
	}
	ch := make(chan []byte, 1)
	st.clients[ch] = struct{}{}
	if st.last != nil {
		ch <- st.last
	}
	return ch, func() { h.leave(g, st, ch) }, true
}

// leave ends the stream with its last client.
func (h *hub) leave(g locksmith.Group, st *stream, ch chan []byte) {
	h.mu.Lock()
	h.clients--
	delete(st.clients, ch)
	last := len(st.clients) == 0
	if last {
		delete(h.streams, g)
	}
	h.mu.Unlock()
	if last {
		st.stop()
		<-st.done
	}
}

// run looks at a group after each change, and tells those who look where something is
// different.
func (h *hub) run(ctx context.Context, g locksmith.Group, st *stream) {
	defer close(st.done)
	changes := h.subscribe(ctx)
	var last []byte // as steady has it
	for {
		next := h.times.alive
		status, err := h.look(ctx, g)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if last, next = nil, h.times.retry; st.last == nil || !isUnavailable(st.last) {
				h.publish(st, event(api.EventUnavailable, api.ErrorDocument{Error: h.explain(err)}))
			}
		default:
			doc := api.StatusFrom(status, time.Now())
			if is := steady(doc); !bytes.Equal(is, last) {
				last = is
				h.publish(st, event(api.EventChange, doc))
			}
		}
		if !wait(ctx, h.times.gap, nil) || !wait(ctx, next-h.times.gap, changes) {
			return
		}
	}
}

func (h *hub) look(ctx context.Context, g locksmith.Group) (locksmith.GroupStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, h.times.look)
	defer cancel()
	return h.read(ctx, g)
}

func (h *hub) publish(st *stream, ev []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st.last = ev
	for ch := range st.clients {
		select {
		case <-ch: // not taken, and old by now
		default:
		}
		ch <- ev
	}
}

// wait returns after a time or an early wake-up; false: ctx ended.
func wait(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-early:
	}
	return true
}

// steady is a status without what changes by itself.
func steady(doc api.Status) []byte {
	doc.Revision = 0
	doc.Holders = append([]api.Holder(nil), doc.Holders...)
	for i := range doc.Holders {
		doc.Holders[i].HeldSeconds = nil
	}
	doc.Queue = append([]api.Waiter(nil), doc.Queue...)
	for i := range doc.Queue {
		doc.Queue[i].WaitedSeconds = nil
	}
	return mustJSON(doc)
}

func event(name string, doc any) []byte {
	var b bytes.Buffer
	b.WriteString("event: " + name + "\ndata: ")
	b.Write(mustJSON(doc))
	b.WriteString("\n\n")
	return b.Bytes()
}

func isUnavailable(ev []byte) bool {
	return bytes.HasPrefix(ev, []byte("event: "+api.EventUnavailable+"\n"))
}

// mustJSON encodes our own documents, whose fields cannot fail to encode.
func mustJSON(doc any) []byte {
	b, err := json.Marshal(doc)
	if err != nil {
		panic("server: a document did not marshal: " + err.Error())
	}
	return b
}
