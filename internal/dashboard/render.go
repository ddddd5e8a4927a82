package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets/*
var assetFiles embed.FS

// fragmentHeader asks for what is inside the page alone, to put it where the old one is.
const fragmentHeader = "Locksmith-Fragment"

func isFragment(r *http.Request) bool { return r.Header.Get(fragmentHeader) != "" }

// page is what a view found.
type page struct {
	View   string // the template: templates/VIEW.html
	Status int    // 0: http.StatusOK
	Title  string
	Nav    string // the entry of the navigation that it belongs to
	Say    string // told to those who listen rather than look, whenever it changes
	Main   any    // what the template shows
}

// frame is what stands around each page.
type frame struct {
	page
	Who     access.Caller
	Known   bool // Who is somebody
	Live    bool // it can be asked for anew by its address
	SignOut bool
	Notice  string
	Now     time.Time
	Link    func(string) string // of an asset
}

// At is the time of the page for the script.
func (f frame) At() int64 { return f.Now.Unix() }

// Time is the time of the page for people.
func (f frame) Time() string { return f.Now.Format("15:04:05") }

// Zone is the one in which the page's times are.
func (f frame) Zone() string { return f.Now.Format("MST (UTC-07:00)") }

// views are the parsed templates, and the files that pages load.
type views struct {
	byName map[string]*template.Template
	assets http.Handler
	link   func(name string) string
}

func parseViews() (*views, error) {
	assets, link, err := loadAssets()
	if err != nil {
		return nil, err
	}
	layout, err := template.New("layout.html").Funcs(template.FuncMap{
		"age":   func(unix int64) ageView { return ageView{At: unix, Now: clock()} },
		"clock": func(unix int64) clockView { return clockView{At: unix, Now: clock()} },
		"group": groupURL, "machine": machineURL, "plural": plural,
	}).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	v := &views{byName: make(map[string]*template.Template), assets: assets, link: link}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, err
		}
		v.byName[name] = t
	}
	return v, nil
}

// loadAssets serves the files that pages load, under names that change with what is in
// them, so that they may be kept for ever.
func loadAssets() (http.Handler, func(string) string, error) {
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, nil, err
	}
	type asset struct {
		kind string
		body []byte
	}
	served, links := make(map[string]asset), make(map[string]string)
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, f := range files {
		body, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			return nil, nil, err
		}
		sum, ext := sha256.Sum256(body), path.Ext(f.Name())
		link := "/assets/" + strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:8]) + ext
		served[link], links[f.Name()] = asset{kinds[ext], body}, link
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", a.kind)
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
	})
	return h, func(name string) string { return links[name] }, nil
}

// render answers with a page, or with what is inside it alone.
func (d *dashboard) render(w http.ResponseWriter, r *http.Request, who access.Caller, p page) {
	f := frame{page: p, Who: who, Known: who.Name != "", SignOut: who.Name != "" && d.cfg.Access.NeedsSignIn(), Now: clock(), Link: d.views.link}
	f.Live = f.Known && r.Method != http.MethodPost
	name := "layout.html"
	if isFragment(r) {
		name = "main"
	} else {
		f.Notice = takeNotice(w, r)
	}
	var b bytes.Buffer
	if err := d.views.byName[p.View].ExecuteTemplate(&b, name, f); err != nil {
		d.log.Error("a page could not be made", "path", r.URL.Path, "error", err)
		http.Error(w, "this page could not be made: the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Add("Vary", fragmentHeader)
	w.WriteHeader(max(p.Status, http.StatusOK))
	_, _ = b.WriteTo(w) // whoever does not wait for it misses nothing
}

// ageView is how long ago something was. The script keeps it up to date.
type ageView struct {
	At  int64
	Now time.Time
}

func (a ageView) Text() string { return locksmith.Span(a.Now.Sub(locksmith.When(a.At))) }
func (a ageView) Full() string { return fullTime(a.At) }

// clockView is an instant.
type clockView struct {
	At  int64
	Now time.Time
}

func (c clockView) Text() string { return locksmith.Clock(locksmith.When(c.At), c.Now) }
func (c clockView) Full() string { return fullTime(c.At) }
func (c clockView) ISO() string  { return locksmith.When(c.At).UTC().Format(time.RFC3339) }

func fullTime(unix int64) string { return locksmith.When(unix).Format("Mon 2006-01-02 15:04:05 MST") }

// plural is "1 machine", "2 machines".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
