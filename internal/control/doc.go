// Package control is locksmithd's local HTTP interface on a unix socket: what it
// says of itself for everybody on the machine, and for root the request for a
// reboot. Server is the daemon's side, Client that of locksmithctl.
//
//	GET    /v1/status       200, agent.Status as JSON
//	GET    /v1/why          200, locksmith.Why as JSON, at most a second old
//	GET    /metrics         200, in Prometheus' text format
//	POST   /v1/need-reboot  {"reason":"…"}: 204, root only
//	DELETE /v1/need-reboot  204, root only
//
// Every failure is a status of 400 or more and {"error":"one line"}. Who asks
// is what the kernel says of the peer, never what the request says.
//
// The package must not know what a request leads to: it is given functions. It
// imports the agent only for the type of its status.
package control

import (
	"errors"
	"time"
)

// DefaultPath is where locksmithd listens.
const DefaultPath = "/run/locksmith/locksmithd.sock"

const (
	pathStatus     = "/v1/status"
	pathWhy        = "/v1/why"
	pathMetrics    = "/metrics"
	pathNeedReboot = "/v1/need-reboot"

	// maxBody bounds a request's body, in bytes.
	maxBody = 4 << 10

	// whyLimit bounds how long an answer to why may be in the making. It leaves
	// those who wait for it time to read it.
	whyLimit = 5 * time.Second

	// whyAge is how long one answer serves all who ask.
	whyAge = time.Second

	// MaxReason bounds a reason, in bytes: it ends up in the holder record, the
	// log and people's terminals. It is what the trigger takes that keeps the request.
	MaxReason = 500
)

var (
	// ErrNotRunning: nobody answers on the socket.
	ErrNotRunning = errors.New("locksmithd is not running")

	// ErrNotAllowed: the request is for root only.
	ErrNotAllowed = errors.New("not allowed")
)

// needReboot is the body of POST /v1/need-reboot.
type needReboot struct {
	Reason string `json:"reason"`
}

// failure is the body of every response that reports one.
type failure struct {
	Error string `json:"error"`
}
