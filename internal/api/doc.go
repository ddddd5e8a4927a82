// Package api is how programs speak with locksmith-server: the JSON documents of
// /api/v1, how they come from the vocabulary and turn into it again, and a client.
//
// It knows nothing of how a server answers, of who may do what, nor of where slots are
// kept.
package api

// Paths of the resources. What is below Prefix is this version of the API.
const (
	Prefix = "/api/v1"

	PathGroups   = Prefix + "/groups"
	PathStatus   = Prefix + "/status"
	PathHolders  = Prefix + "/holders"
	PathQueue    = Prefix + "/queue"
	PathMachines = Prefix + "/machines"
	PathMachine  = Prefix + "/machine"
	PathHistory  = Prefix + "/history"
	PathPauses   = Prefix + "/pauses"
	PathEvents   = Prefix + "/events"
	PathWhoami   = Prefix + "/whoami"
	PathOpenAPI  = Prefix + "/openapi.json"

	PathUnlock = Prefix + "/unlock"
	PathLock   = Prefix + "/lock"
	PathSetMax = Prefix + "/set-max"
	PathPause  = Prefix + "/pause"
	PathResume = Prefix + "/resume"
	PathForget = Prefix + "/forget"
)

// Names of the events on PathEvents.
const (
	EventChange      = "change"      // data: a Status
	EventUnavailable = "unavailable" // data: an ErrorDocument; what was sent last may not be true any more
)

// MaxBody bounds what is sent with a request, in bytes.
const MaxBody = 16 << 10

// How many entries of the history are read at a time.
const (
	DefaultHistory = 100
	MaxHistory     = 1024 // a group keeps no more
)
