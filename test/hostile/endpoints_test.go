package hostile

import (
	"fmt"
)

// endpoint is one of each kind of thing that the server answers.
type endpoint struct {
	name, method, path, token string
	headers                   string // each with its line's end
	body                      string // of a request that is served
	endless                   bool   // the answer goes on for as long as somebody listens
}

const (
	lockHeader = "fleet-lock-protocol: true\r\n"
	jsonHeader = "Content-Type: application/json\r\n"
	formHeader = "Content-Type: application/x-www-form-urlencoded\r\n"
)

// endpoints are those at which every attack is tried that has anything to do with them.
var endpoints = []endpoint{
	{name: "FleetLock", method: "POST", path: "/v1/steady-state", token: machineToken, headers: lockHeader, body: slotBody("nobody", "good")},
	{name: "API", method: "GET", path: "/api/v1/status?group=good", token: adminToken},
	{name: "action", method: "POST", path: "/api/v1/set-max", token: adminToken, headers: jsonHeader, body: `{"group":"good","max":1}`},
	{name: "events", method: "GET", path: "/api/v1/events?group=good", token: adminToken, endless: true},
	{name: "dashboard", method: "GET", path: "/machines", token: adminToken},
	{name: "form", method: "POST", path: "/sign-in", headers: formHeader, body: "token=" + adminToken},
	{name: "live page", method: "GET", path: "/live", token: adminToken, endless: true},
	{name: "metrics", method: "GET", path: "/metrics", token: adminToken},
	{name: "health", method: "GET", path: "/healthz"},
}

// those are the endpoints of which which is true.
func those(which func(endpoint) bool) (list []endpoint) {
	for _, e := range endpoints {
		if which(e) {
			list = append(list, e)
		}
	}
	return list
}

// ending are those whose answers end.
func ending(e endpoint) bool { return !e.endless }

// begin is a request as it goes over the wire up to the end of its headers, which has to
// be added.
func (e endpoint) begin() string {
	head := e.method + " " + e.path + " HTTP/1.1\r\nHost: h\r\n" + e.headers
	if e.token != "" {
		head += "Authorization: Bearer " + e.token + "\r\n"
	}
	return head
}

// request is all of a request, with more headers, and another body than its own where
// one is given.
func (e endpoint) request(headers string, body ...string) string {
	text := e.body
	if len(body) > 0 {
		text = body[0]
	}
	if text != "" {
		headers += fmt.Sprintf("Content-Length: %d\r\n", len(text))
	}
	return e.begin() + headers + "\r\n" + text
}
