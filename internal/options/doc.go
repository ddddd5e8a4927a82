// Package options is the command line that locksmithctl and locksmithd share:
// the flags of the etcd connection, their environment variables, help texts and
// the messages about a wrong command line.
//
// It knows no command and opens no connection; what an option means is the
// business of the program that reads it.
package options
