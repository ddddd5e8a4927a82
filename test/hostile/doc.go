// Package hostile is a suite of clients that mean harm, or are broken, against a real
// locksmith-server process: slow ones, huge ones, thousands of them, garbage, half of
// everything. While each is at work a client that behaves is served within a second;
// when it is over, the server has as many goroutines, open files and memory as before,
// and nobody holds or waits who should not.
//
// What the suite knows of the server is what anyone can see from outside: its answers,
// its metrics, and /proc. It must not know how the server is made.
package hostile
