package dashboard

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/locksmith-reboot/locksmith/internal/access"
)

// signInView is the page that asks for a token.
type signInView struct {
	To      string // where to go afterwards
	Refused string // why the last token was of no use
}

func signInURL(to string) string {
	if to == "" || to == "/" {
		return "/sign-in"
	}
	return "/sign-in?" + url.Values{"to": {to}}.Encode()
}

// local is path where that is one of this server's, and the overview otherwise. A
// browser would take //host and /\host for other servers.
func local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") ||
		strings.Contains(path, `\`) || strings.ContainsFunc(path, unicode.IsControl) {
		return "/"
	}
	return path
}

func (d *dashboard) signInPage(w http.ResponseWriter, r *http.Request) {
	to := local(r.URL.Query().Get("to"))
	if who, err := d.cfg.Access.Caller(r); err == nil && who.Is(access.RoleViewer) {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	d.render(w, r, access.Caller{}, page{View: "sign-in", Title: "Sign in", Main: signInView{To: to}})
}

func (d *dashboard) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		d.fail(w, r, access.Caller{}, formProblem(err))
		return
	}
	to := local(r.PostForm.Get("to"))
	_, err := d.cfg.Access.SignIn(w, r, strings.TrimSpace(r.PostForm.Get("token")))
	if err == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	status := http.StatusForbidden
	if refusal, ok := errors.AsType[*access.Refusal](err); ok {
		status = refusal.Status
	}
	from, _, splitErr := net.SplitHostPort(r.RemoteAddr)
	if splitErr != nil {
		from = r.RemoteAddr
	}
	d.cfg.Admin.Refused(r.Context(), access.Caller{From: from}, nil, "", "sign-in: "+err.Error())
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	d.render(w, r, access.Caller{}, page{View: "sign-in", Title: "Sign in", Status: status,
		Main: signInView{To: to, Refused: sentence(err.Error()) + "."}})
}

func (d *dashboard) signOut(w http.ResponseWriter, r *http.Request) {
	d.cfg.Access.SignOut(w, r)
	giveNotice(w, r, "Signed out.")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// formProblem is why a form could not be read.
func formProblem(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return &problem{http.StatusBadRequest, "That cannot be done", "The form could not be read: " + err.Error() + ".", "Nothing was changed."}
}
