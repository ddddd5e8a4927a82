// Package agent is what one machine goes through: from "a reboot is needed" over
// the window, the queue, the users' delay and the reboot to the proof of the
// boot and the slot given back.
//
// The decisions are a pure function, Step, of state, event and instant; Agent is
// the loop that carries out what Step asks for. The package knows etcd, D-Bus,
// HTTP and hook directories only as the interfaces it declares here.
package agent
