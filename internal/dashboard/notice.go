package dashboard

import (
	"encoding/base64"
	"net/http"
	"unicode/utf8"
)

// A notice is what was done, shown once on the page after it. It travels in a cookie,
// so that any server can show it.
const noticeCookie = "locksmith-notice"

// maxNotice bounds a notice, in bytes: browsers drop cookies over 4 KiB.
const maxNotice = 2000

func giveNotice(w http.ResponseWriter, r *http.Request, text string) {
	for len(text) > maxNotice || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, maxNotice)]
	}
	http.SetCookie(w, &http.Cookie{Name: noticeCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(text)), Path: "/",
		MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
}

func takeNotice(w http.ResponseWriter, r *http.Request) string {
	c, err := r.Cookie(noticeCookie)
	if err != nil {
		return ""
	}
	http.SetCookie(w, &http.Cookie{Name: noticeCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	text, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(text) > maxNotice || !utf8.Valid(text) {
		return ""
	}
	return string(text)
}
