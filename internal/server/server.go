package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// Store is where the slots are kept. Its errors are the vocabulary's, or have a method
// Transient or Refused that says what they are. internal/etcd implements it.
type Store interface {
	Status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error)
	Groups(ctx context.Context) ([]locksmith.GroupSummary, error)
	History(ctx context.Context, group locksmith.Group, n int) ([]locksmith.HistoryEntry, error)
	Refusals(ctx context.Context, n int) ([]locksmith.HistoryEntry, error)
	Machines(ctx context.Context) ([]locksmith.MachineStatus, error)
	Machine(ctx context.Context, idOrHostnameOrPrefix string) (locksmith.MachineStatus, error)
	Pauses(ctx context.Context) ([]locksmith.Pause, error)
}

// Config says what a server is made of.
type Config struct {
	Store Store        // required
	Admin *admin.Admin // required
	Feed  *admin.Feed  // required; somebody else runs it
	Guard access.Guard // required

	FleetLock http.Handler // of /v1/; nil: there is none
	Dashboard http.Handler // of everything that is not ours; nil: there is none
	Metrics   http.Handler // of /metrics; nil: there is none

	// Ready says whether the store answers, as /readyz tells. Required. It is asked by
	// one at a time and at most once a second, and has three seconds.
	Ready func(context.Context) error

	// Observe is told of each answer: what kind of request it was (one of Kinds), the
	// HTTP status, and how long it took. nil: nobody is. It is called concurrently.
	Observe func(kind string, code int, took time.Duration)

	MaxEvents int          // streams of events at a time; 0: 1000
	Log       *slog.Logger // nil: discard
}

// Kinds of requests, as Observe is told them.
const (
	KindAPI       = "api"
	KindEvents    = "events" // of the API and of the dashboard: open for as long as somebody looks
	KindFleetLock = "fleetlock"
	KindDashboard = "dashboard"
	KindMetrics   = "metrics"
	KindHealth    = "health"
	KindOther     = "other"
)

// Kinds lists all kinds.
var Kinds = []string{KindAPI, KindEvents, KindFleetLock, KindDashboard, KindMetrics, KindHealth, KindOther}

// DefaultMaxEvents is how many streams of events there are at a time.
const DefaultMaxEvents = 1000

// storeLimit bounds what one request asks of the store. Finding out why it does not
// answer takes up to two seconds more, which makes the five within which a client is
// told.
const storeLimit = 3 * time.Second

// server answers requests.
type server struct {
	cfg       Config
	log       *slog.Logger
	resources map[string]resource
	origins   *http.CrossOriginProtection
	events    *hub
	ready     readiness
	wide      chan struct{} // a place for each request that reads more than one group
	limit     time.Duration // of what a request asks of the store
	now       func() time.Time
}

// maxWide is how many requests at a time read more than one group.
const maxWide = 8

// New is a handler of all of a server's requests. Wrappers around it must have a method
// Unwrap, as http.ResponseController wants.
func New(cfg Config) (http.Handler, error) { return newServer(cfg) }

func newServer(cfg Config) (*server, error) {
	switch {
	case cfg.Store == nil, cfg.Admin == nil, cfg.Feed == nil, cfg.Guard == nil, cfg.Ready == nil:
		return nil, errors.New("server: Store, Admin, Feed, Guard and Ready are required")
	case cfg.MaxEvents < 0:
		return nil, errors.New("server: MaxEvents must not be negative")
	case cfg.MaxEvents == 0:
		cfg.MaxEvents = DefaultMaxEvents
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, int, time.Duration) {}
	}
	s := &server{cfg: cfg, log: cfg.Log, origins: http.NewCrossOriginProtection(), wide: make(chan struct{}, maxWide), limit: storeLimit, now: time.Now}
	s.events = newHub(cfg.MaxEvents, cfg.Store.Status, cfg.Feed.Subscribe, s.explain)
	s.ready = readiness{check: cfg.Ready, log: cfg.Log, now: time.Now}
	s.resources = s.api()
	return s, nil
}

// route finds who answers a request. There is no http.ServeMux in it, which would
// redirect: a client of FleetLock would come back with a GET.
func (s *server) route(r *http.Request) (kind string, h http.HandlerFunc) {
	switch p := r.URL.Path; {
	case p == "/healthz":
		return KindHealth, healthz
	case p == "/readyz":
		return KindHealth, s.ready.serve
	case p == "/metrics":
		return KindMetrics, s.metrics
	case below(path.Clean("/"+p), "/v1"):
		if s.cfg.FleetLock == nil {
			return KindFleetLock, s.noFleetLock
		}
		return KindFleetLock, s.cfg.FleetLock.ServeHTTP
	case below(p, "/api"):
		return KindAPI, s.serveAPI
	case s.cfg.Dashboard != nil:
		return KindDashboard, s.cfg.Dashboard.ServeHTTP
	}
	return KindOther, s.noPath
}

// below says whether a path is a root or below it.
func below(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }
