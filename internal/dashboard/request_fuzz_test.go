package dashboard

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever a browser sends as the notice that it was given, what is shown is short text,
// and the cookie is taken away.
func FuzzNotice(f *testing.F) {
	for _, value := range []string{"", "U2lnbmVkIG91dC4", "U2ln\x00", "=", strings.Repeat("AAAA", 700), "_____w"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", noticeCookie+"="+value)
		text := takeNotice(w, r)
		if len(text) > maxNotice || !utf8.ValidString(text) {
			t.Fatalf("%q is shown as %q", value, text)
		}
		if text != "" && len(w.Result().Cookies()) != 1 {
			t.Fatalf("%q is shown, and the cookie stays", text)
		}
		// What we say comes back as it is.
		back := httptest.NewRecorder()
		giveNotice(back, r, value)
		given := httptest.NewRequest(http.MethodGet, "/", nil)
		given.AddCookie(back.Result().Cookies()[0])
		if got := takeNotice(httptest.NewRecorder(), given); len(value) <= maxNotice && utf8.ValidString(value) && got != value {
			t.Fatalf("%q comes back as %q", value, got)
		}
	})
}

// After an action a browser stays with this server, whatever the form or the address of
// the page before says.
func FuzzBack(f *testing.F) {
	f.Add(false, "", "http://here.example/group?name=a")
	f.Add(false, "", "http://here.example//evil.example/")
	f.Add(false, "", "http://here.example/act/../x")
	f.Add(true, "//evil.example", "")
	f.Add(true, `/\evil.example`, "")
	f.Fuzz(func(t *testing.T, given bool, back, referer string) {
		r := httptest.NewRequest(http.MethodPost, "http://here.example/act/x", nil)
		r.Header.Set("Referer", referer)
		form := url.Values{}
		if given {
			form.Set("back", back)
		}
		got := backFrom(form, r)
		base, _ := url.Parse("http://here.example/act/x")
		if to, err := base.Parse(got); err != nil || to.Host != "here.example" || to.Scheme != "http" {
			t.Fatalf("%v %q %q: %q leads to %v %v", given, back, referer, got, to, err)
		}
	})
}

// A number of slots is one that can be stored, or an error in one line.
func FuzzMax(f *testing.F) {
	for _, text := range []string{"0", " 12\n", "-1", "+3", "2147483648", "1e3", "0x10", "१"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseMax(text)
		switch {
		case err != nil && (n != 0 || strings.ContainsAny(err.Error(), "\r\n")):
			t.Fatalf("%q: %d, %v", text, n, err)
		case err == nil && (n < 0 || n > 1<<31-1):
			t.Fatalf("%q is read as %d", text, n)
		}
	})
}
