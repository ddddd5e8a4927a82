// Package dashboard shows the fleet in a browser and lets operators act on it: what is
// down now, for how long and why, who is next, what is stuck and what to do about it,
// and how far the rollout is.
//
// Its pages are made on the server and need no script; a small one keeps them up to
// date. It knows neither how the store keeps things, nor who may do what, nor how
// somebody proves who they are.
package dashboard
