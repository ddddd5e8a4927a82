// Package hostile is a suite of clients that mean harm, or are broken, against real
// locksmith-server processes, one in plain text and one with TLS and HTTP/2: slow ones, huge ones,
// thousands of them, garbage, half of everything, at each kind of endpoint. While each is
// at work a client that behaves is served; when it is over, the server has exactly the
// goroutines and connections that it had before, but for those named here, and nobody
// holds or waits who should not. After the same attacks once more it has as much memory
// in use as after the first time.
//
// What the suite knows of the server is its answers, /proc, and package inspect. It must
// not know how the server is made, but for the names of the goroutines that may stay. How
// fast the client that behaves is served is measured, not required: that depends on what
// else the machine does.
package hostile
