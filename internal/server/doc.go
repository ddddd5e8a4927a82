// Package server answers locksmith-server's requests: the API of internal/api with its
// events, FleetLock's through the fleetlock package, health and metrics, and everything
// else through the dashboard. It says who may see what; what administrators do goes
// through internal/admin.
//
// It knows nothing of how slots are kept, nor of how callers prove who they are.
package server
