package dashboard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// Store is what is looked at. internal/etcd implements it.
type Store interface {
	Groups(ctx context.Context) ([]locksmith.GroupSummary, error)
	Status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error)
	Machines(ctx context.Context) ([]locksmith.MachineStatus, error)
	Machine(ctx context.Context, idOrHostnameOrPrefix string) (locksmith.MachineStatus, error)
	History(ctx context.Context, group locksmith.Group, n int) ([]locksmith.HistoryEntry, error)
	Refusals(ctx context.Context, n int) ([]locksmith.HistoryEntry, error)
}

// Access says who looks, and lets people sign in.
type Access interface {
	access.Guard

	// SignIn has a browser known by a token from now on. Its error is an *access.Refusal.
	SignIn(w http.ResponseWriter, r *http.Request, token string) (access.Caller, error)
	SignOut(w http.ResponseWriter, r *http.Request)
	NeedsSignIn() bool // somebody is known only after they signed in
}

// Config is what a dashboard needs.
type Config struct {
	Store  Store        // required
	Admin  *admin.Admin // required: does what is asked for, and refuses
	Feed   *admin.Feed  // required: tells of changes in the store
	Access Access       // required
	Log    *slog.Logger // nil: discard
}

// maxForm bounds a form, in bytes.
const maxForm = 16 << 10

// policy lets a page load what this server has and nothing else, and run no script that
// stands in a page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// dashboard answers the requests.
type dashboard struct {
	cfg   Config
	log   *slog.Logger
	reads *reads
	views *views
	live  atomic.Int64 // browsers that are told of changes
}

// New is the handler of all pages. It is mounted at the root: its paths are absolute.
func New(cfg Config) (http.Handler, error) {
	if cfg.Store == nil || cfg.Admin == nil || cfg.Feed == nil || cfg.Access == nil {
		return nil, errors.New("the dashboard needs a store, an admin, a feed and access")
	}
	views, err := parseViews()
	if err != nil {
		return nil, err
	}
	d := &dashboard{cfg: cfg, log: cfg.Log, views: views}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.reads = newReads(cfg.Store, cfg.Feed.Subscribe(context.Background()))
	return secured(http.NewCrossOriginProtection().Handler(d.routes())), nil
}

func (d *dashboard) routes() http.Handler {
	mux := http.NewServeMux()
	for path, view := range map[string]view{
		"/{$}":      d.overview,
		"/group":    d.group,
		"/queue":    d.queue,
		"/machines": d.machines,
		"/machine":  d.machine,
		"/history":  d.history,
	} {
		mux.Handle("GET "+path, d.page(view))
	}
	for name, a := range d.actions() {
		mux.Handle("GET /act/"+name, d.page(d.confirm(name, a)))
		mux.Handle("POST /act/"+name, d.perform(name, a))
	}
	mux.HandleFunc("GET /live", d.tell)
	mux.HandleFunc("GET /sign-in", d.signInPage)
	mux.HandleFunc("POST /sign-in", d.signIn)
	mux.HandleFunc("POST /sign-out", d.signOut)
	mux.Handle("GET /assets/", d.views.assets)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		d.fail(w, r, access.Caller{}, &problem{Status: http.StatusNotFound, Title: "There is no such page",
			Text: "The address may have been mistyped."})
	})
	return mux
}

// secured sets the headers of all answers.
func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// view reads what one page shows to somebody.
type view func(r *http.Request, who access.Caller) (page, error)

// page answers with a view, to those who may see anything at all.
func (d *dashboard) page(v view) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := d.caller(w, r)
		if !ok {
			return
		}
		p, err := v(r, who)
		if err != nil {
			d.fail(w, r, who, err)
			return
		}
		d.render(w, r, who, p)
	})
}

// caller is who makes a request. Where that is not known, or where they may see nothing,
// it has answered already.
func (d *dashboard) caller(w http.ResponseWriter, r *http.Request) (access.Caller, bool) {
	who, err := d.cfg.Access.Caller(r)
	if err == nil && who.Is(access.RoleViewer) {
		return who, true
	}
	if err == nil {
		d.fail(w, r, access.Caller{}, &problem{Status: http.StatusForbidden, Title: "Nothing to see here",
			Text: who.Name + " has the role " + string(who.Role) + ", which takes and gives back slots and sees no pages. Sign in as somebody with the role viewer, operator or admin."})
		return who, false
	}
	status := http.StatusForbidden
	if refusal, ok := errors.AsType[*access.Refusal](err); ok {
		status = refusal.Status
	}
	switch {
	case status == http.StatusUnauthorized && d.cfg.Access.NeedsSignIn() && !isFragment(r) && r.URL.Path != livePath:
		to := ""
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			to = r.URL.RequestURI()
		}
		http.Redirect(w, r, signInURL(to), http.StatusSeeOther)
	default:
		d.fail(w, r, access.Caller{}, &problem{Status: status, Title: "Not for everybody", Text: sentence(err.Error()) + "."})
	}
	return who, false
}

// clock is the time in which pages speak.
func clock() time.Time { return time.Now() }
