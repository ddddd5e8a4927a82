package alerts

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// answers starts a server that answers every request with body.
func answers(t *testing.T, status int, body string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/alerts" || r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// success is Prometheus' answer with some alerts, each "NAME STATE TIME INSTANCE".
func success(alerts ...string) string {
	var list []string
	for _, a := range alerts {
		f := strings.Fields(a)
		list = append(list, fmt.Sprintf(`{"labels":{"alertname":%q,"instance":%q,"severity":"page"},"annotations":{},`+
			`"state":%q,"activeAt":"2026-11-22T%s:00.123456789Z","value":"1e+00"}`, f[0], f[3], f[1], f[2]))
	}
	return `{"status":"success","data":{"alerts":[` + strings.Join(list, ",") + `]}}`
}

func check(t *testing.T, cfg Config) *Check {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shown is what a check says, a line for each veto.
func shown(err error) []string {
	var list []string
	switch err := err.(type) {
	case nil:
	case *agent.Veto:
		list = append(list, err.Error())
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			list = append(list, shown(e)...)
		}
	default:
		list = append(list, "no veto: "+err.Error())
	}
	return list
}

func inUTC(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

func TestAlertsBlock(t *testing.T) {
	inUTC(t)
	some := success("HighErrorRate firing 13:04 web-2:9100", "DiskFull pending 13:06 web-1:9100", "Watchdog firing 09:00 prom:9090",
		"HighErrorRate firing 13:02 web-1:9100")
	crowd := []string{"A firing 01:00 m1"}
	for i := range 5 {
		crowd = append(crowd, fmt.Sprintf("A firing 0%d:00 m%d", i+2, i+2), fmt.Sprintf("%c pending 03:00 m", 'H'-i), fmt.Sprintf("%c firing 03:00 m", 'H'-i))
	}
	many := success(crowd...)
	for _, tt := range []struct {
		name, body string
		cfg        Config
		want       []string
	}{
		{"none", success(), Config{}, nil},
		{"firing ones", some, Config{}, []string{
			"alert HighErrorRate: firing since 2026-11-22 13:02 UTC on web-1:9100, web-2:9100",
			"alert Watchdog: firing since 2026-11-22 09:00 UTC on prom:9090"}},
		{"but ignored", some, Config{Ignore: regexp.MustCompile(`^Watchdog$`)}, []string{
			"alert HighErrorRate: firing since 2026-11-22 13:02 UTC on web-1:9100, web-2:9100"}},
		{"only some", some, Config{Match: regexp.MustCompile(`Watch|Disk`)}, []string{
			"alert Watchdog: firing since 2026-11-22 09:00 UTC on prom:9090"}},
		{"ignored beats matched", some, Config{Match: regexp.MustCompile(`Watch`), Ignore: regexp.MustCompile(`dog`)}, nil},
		{"pending too", some, Config{Match: regexp.MustCompile(`Watch|Disk`), IncludePending: true}, []string{
			"alert DiskFull: pending since 2026-11-22 13:06 UTC on web-1:9100",
			"alert Watchdog: firing since 2026-11-22 09:00 UTC on prom:9090"}},
		{"bounded", many, Config{IncludePending: true}, []string{
			"alert A: firing since 2026-11-22 01:00 UTC on m1, m2, m3 and 3 more",
			"alert D: firing since 2026-11-22 03:00 UTC on m", "alert E: firing since 2026-11-22 03:00 UTC on m",
			"alert F: firing since 2026-11-22 03:00 UTC on m", "alert G: firing since 2026-11-22 03:00 UTC on m",
			"alerts: and 1 more"}},
		{"an unknown state", success("A unknown 13:00 m"), Config{}, []string{"alert A: unknown since 2026-11-22 13:00 UTC on m"}},
		{"inactive", success("A inactive 13:00 m"), Config{IncludePending: true}, nil},
		{"bare", `{"status":"success","data":{"alerts":[{}]}}`, Config{}, []string{"alert without a name: firing"}},
		{"with odd texts", `{"status":"success","data":{"alerts":[{"labels":{"alertname":"A\nB\u001b[31m","instance":"` +
			strings.Repeat("x", 100) + `"},"state":"firing"}]}}`, Config{},
			[]string{"alert A B [31m: firing on " + strings.Repeat("x", 79) + "…"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.URL = answers(t, http.StatusOK, tt.body).URL
			if got := shown(check(t, tt.cfg).Run(t.Context(), agent.About{})); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// What cannot be asked or read blocks, and says why without being a veto.
func TestFailuresBlock(t *testing.T) {
	const noList = "its answer is not a list of alerts: "
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"an error of Prometheus", 503, `{"status":"error","errorType":"unavailable","error":"starting\nup"}`, "it answers 503 Service Unavailable: starting up"},
		{"an error of a proxy", 502, "<html>", "it answers 502 Bad Gateway"},
		{"no password", 401, "", "it answers 401 Unauthorized"},
		{"an error with status 200", 200, `{"status":"error","error":"no rules"}`, `it answers "error": no rules`},
		{"another API", 200, `{"alerts":[]}`, `it answers "": without a reason`},
		{"nothing", 200, "", noList + "unexpected end of JSON input"},
		{"a page", 200, "<html>", noList + "invalid character '<' looking for beginning of value"},
		{"cut short", 200, success()[:30], noList + "unexpected end of JSON input"},
		{"more after it", 200, success() + "{}", noList + "invalid character '{' after top-level value"},
		{"no list", 200, `{"status":"success","data":{}}`, noList + "there is none in it"},
		{"null", 200, `{"status":"success","data":{"alerts":null}}`, noList + "there is none in it"},
		{"an Alertmanager's", 200, `{"status":"success","data":[{"labels":{}}]}`,
			noList + "json: cannot unmarshal array into Go struct field response.data of type alerts.data"},
		{"a bad time", 200, `{"status":"success","data":{"alerts":[{"activeAt":"yesterday"}]}}`,
			noList + `parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"`},
		{"a redirection without a place", 302, "", "it answers 302 Found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := answers(t, tt.status, tt.body)
			err := check(t, Config{URL: srv.URL + "/"}).Run(t.Context(), agent.About{})
			var veto *agent.Veto
			if want := "cannot be asked: " + srv.URL + "/api/v1/alerts: " + tt.want; err == nil || err.Error() != want || errors.As(err, &veto) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	srv := answers(t, 200, success())
	srv.Close()
	err := check(t, Config{URL: srv.URL}).Run(t.Context(), agent.About{})
	if err == nil || !strings.HasSuffix(err.Error(), "connection refused") || !strings.HasPrefix(err.Error(), "cannot be asked: "+srv.URL) {
		t.Errorf("nobody listens: got %v", err)
	}
}

// A server that does not answer, or does not end its answer, is not waited for.
func TestSlowServer(t *testing.T) {
	for _, header := range []bool{false, true} {
		release := make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if header {
				_, _ = io.WriteString(w, success())
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}))
		err := check(t, Config{URL: srv.URL, Timeout: 50 * time.Millisecond}).Run(t.Context(), agent.About{})
		if want := "cannot be asked: " + srv.URL + "/api/v1/alerts: no answer within 50ms"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		stopped := errors.New("the agent stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stopped)
		if err := check(t, Config{URL: srv.URL}).Run(ctx, agent.About{}); !errors.Is(err, stopped) {
			t.Errorf("got %v", err)
		}
		close(release)
		srv.Close()
	}
}

func TestHugeAnswer(t *testing.T) {
	for name, pack := range map[string]func(io.Writer) io.WriteCloser{
		"plain":      func(w io.Writer) io.WriteCloser { return nopCloser{w} },
		"compressed": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if name == "compressed" {
					w.Header().Set("Content-Encoding", "gzip")
				}
				out := pack(w)
				defer out.Close()
				some := []byte(strings.Repeat(" ", 1<<20))
				for range 17 {
					if _, err := out.Write(some); err != nil {
						return
					}
				}
			}))
			defer srv.Close()
			err := check(t, Config{URL: srv.URL, Timeout: time.Minute}).Run(t.Context(), agent.About{})
			if err == nil || !strings.HasSuffix(err.Error(), ": its answer is longer than 16 MiB") {
				t.Errorf("got %v", err)
			}
		})
	}
	body := strings.Repeat(" ", maxBody-len(success())) + success()
	if err := check(t, Config{URL: answers(t, 200, body).URL, Timeout: time.Minute}).Run(t.Context(), agent.About{}); err != nil {
		t.Errorf("16 MiB: got %v", err)
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestPasswordAndPrefix(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, user+" "+password+" "+r.URL.Path)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer srv.Close()
	u := strings.Replace(srv.URL, "//", "//admin:s%3Acret@", 1) + "/prom/"
	err := check(t, Config{URL: u}).Run(t.Context(), agent.About{})
	if !slices.Equal(asked, []string{"admin s:cret /prom/api/v1/alerts"}) {
		t.Errorf("asked %q", asked)
	}
	if err == nil || strings.Contains(err.Error(), "admin") || strings.Contains(err.Error(), "cret") {
		t.Errorf("got %v", err)
	}
	srv.Close()
	if err := check(t, Config{URL: u}).Run(t.Context(), agent.About{}); err == nil || strings.Contains(err.Error(), "cret") {
		t.Errorf("nobody listens: got %v", err)
	}
}

func TestRedirects(t *testing.T) {
	var passwords []string
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		passwords = append(passwords, password)
		switch r.URL.Path {
		case "/once/api/v1/alerts":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/abroad/api/v1/alerts":
			http.Redirect(w, r, strings.Replace("http://"+r.Host, "127.0.0.1", "localhost", 1)+"/there", http.StatusFound)
		case "/plain/api/v1/alerts":
			http.Redirect(w, r, "http://user:word@"+r.Host+"/there", http.StatusFound)
		case "/there":
			_, _ = io.WriteString(w, success())
		default:
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}
	}
	plain, secure := httptest.NewServer(http.HandlerFunc(handler)), httptest.NewUnstartedServer(http.HandlerFunc(handler))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // a bad certificate is part of the test
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	for _, tt := range []struct {
		url       string
		passwords []string
		want      string
	}{
		{plain.URL + "/once", []string{"pw", "pw"}, ""},
		{plain.URL + "/abroad", []string{"pw", ""}, ""},
		{plain.URL + "/loop", []string{"pw", "pw", "pw", "pw"}, "it redirects more than 3 times"},
		{secure.URL + "/once", []string{"pw", "pw"}, ""},
		{secure.URL + "/plain", []string{"pw"}, "it redirects from https to http://user:xxxxx@" + strings.TrimPrefix(secure.URL, "https://") + "/there"},
	} {
		passwords = nil
		c := check(t, Config{URL: strings.Replace(tt.url, "//", "//admin:pw@", 1)})
		c.client.http.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
		want := ""
		if tt.want != "" {
			want = "cannot be asked: " + tt.url + "/api/v1/alerts: " + tt.want
		}
		if err := c.Run(t.Context(), agent.About{}); fmt.Sprint(err) != want && (err != nil || want != "") {
			t.Errorf("%s:\n got %v\nwant %s", tt.url, err, want)
		}
		if !slices.Equal(passwords, tt.passwords) {
			t.Errorf("%s: passwords %q, want %q", tt.url, passwords, tt.passwords)
		}
	}
	// Without trust in its certificate nothing is sent.
	passwords = nil
	err := check(t, Config{URL: secure.URL + "/once"}).Run(t.Context(), agent.About{})
	if err == nil || !strings.Contains(err.Error(), "certificate") || passwords != nil {
		t.Errorf("got %v, %q", err, passwords)
	}
}

func TestNewRefuses(t *testing.T) {
	const like = "; must be like http://prometheus.example.org:9090"
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, `invalid URL "" of alerts: it is neither http nor https` + like},
		{Config{URL: "localhost:9090"}, `invalid URL "localhost:9090" of alerts: it is neither http nor https` + like},
		{Config{URL: "prometheus"}, `invalid URL "prometheus" of alerts: it is neither http nor https` + like},
		{Config{URL: "ftp://me:secret@prometheus"}, `invalid URL "ftp://…@prometheus" of alerts: it is neither http nor https` + like},
		{Config{URL: "me:secret@prometheus"}, `invalid URL "…@prometheus" of alerts: it is neither http nor https` + like},
		{Config{URL: "http://me:sec/ret@[prometheus"}, `invalid URL "http://…@[prometheus" of alerts: it cannot be read` + like},
		{Config{URL: "http://[::1"}, `invalid URL "http://[::1" of alerts: missing ']' in host` + like},
		{Config{URL: "http://:9090"}, `invalid URL "http://:9090" of alerts: it has no host` + like},
		{Config{URL: "http://prometheus/?a=b"}, `invalid URL "http://prometheus/?a=b" of alerts: it has more than a host and a path` + like},
		{Config{URL: "http://prometheus#x"}, `invalid URL "http://prometheus#x" of alerts: it has more than a host and a path` + like},
		{Config{URL: "http://prometheus", Timeout: -1}, "invalid time limit -1ns of alerts: must be longer than zero, such as 10s"},
	} {
		if c, err := New(tt.cfg); err == nil || err.Error() != tt.want || c != nil {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	c := check(t, Config{URL: "HTTPS://prometheus/a/b/"})
	if c.client.url != "https://prometheus/a/b/api/v1/alerts" || c.cfg.Timeout != DefaultTimeout || c.Name() != "alerts" {
		t.Errorf("got %+v", c)
	}
}

// Whatever a server says, what is shown of it is a few short lines.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(success("A firing 13:00 m", "B pending 13:00 m")))
	f.Add([]byte(`{"status":"success","data":{"alerts":[{"labels":{"alertname":"\u0000\u009b"},"activeAt":"9999-12-31T00:00:00Z"}]}}`))
	f.Add([]byte(`{"status":"error","error":"\u001b"}`))
	c, err := New(Config{URL: (&url.URL{Scheme: "http", Host: "prometheus"}).String(), IncludePending: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := decode(body)
		if err == nil {
			err = vetoes(c.blocking(found))
			if (err == nil) != (len(c.blocking(found)) == 0) {
				t.Errorf("%s: got %v", body, err)
			}
		}
		lines := shown(err)
		if len(lines) > shownNames+1 {
			t.Errorf("%d lines", len(lines))
		}
		for _, line := range lines {
			if len(line) > 4*1000 || strings.ContainsAny(line, "\n\t\x00\x1b\u009b") {
				t.Errorf("%q", line)
			}
		}
	})
}
