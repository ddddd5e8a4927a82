package chaos_test

import (
	"errors"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

func TestCheckCalls(t *testing.T) {
	lost := errors.New("the reply was lost")
	lock := func(machine string, from, to int, err error) chaos.Call {
		return chaos.Call{Op: chaos.OpLock, Machine: machine, Err: err, From: ms(from), To: ms(to)}
	}
	unlock := func(machine string, from, to int, err error) chaos.Call {
		c := lock(machine, from, to, err)
		c.Op = chaos.OpUnlock
		return c
	}
	read := func(holders string, at int) chaos.Call {
		return chaos.Call{Op: chaos.OpRead, Max: 1, Holders: holders, From: ms(at), To: ms(at + 1)}
	}
	for _, c := range []struct {
		name  string
		calls []chaos.Call
		want  porcupine.CheckResult
	}{
		{"one after the other", []chaos.Call{lock("a", 1, 2, nil), unlock("a", 3, 4, nil), lock("b", 5, 6, nil)}, porcupine.Ok},
		{"two get the one slot", []chaos.Call{lock("a", 1, 4, nil), lock("b", 2, 3, nil)}, porcupine.Illegal},
		{"one of two is told that it is full", []chaos.Call{lock("a", 1, 4, nil), lock("b", 2, 3, &locksmith.FullError{})}, porcupine.Ok},
		{"full of nobody", []chaos.Call{lock("b", 2, 3, &locksmith.FullError{})}, porcupine.Illegal},
		{"lost and carried out", []chaos.Call{lock("a", 1, 2, lost), read("a", 3)}, porcupine.Ok},
		{"lost and not carried out", []chaos.Call{lock("a", 1, 2, lost), read("", 3)}, porcupine.Ok},
		{"lost and carried out late", []chaos.Call{lock("a", 1, 2, lost), read("", 3), read("a", 5)}, porcupine.Ok},
		{"carried out twice", []chaos.Call{lock("a", 1, 2, lost), read("a", 3), unlock("a", 5, 6, nil), read("a", 7)}, porcupine.Illegal},
		{"an old read", []chaos.Call{lock("a", 1, 2, nil), read("", 3)}, porcupine.Illegal},
		{"nothing to give back", []chaos.Call{lock("a", 1, 2, nil), unlock("a", 3, 4, locksmith.ErrNotHolder)}, porcupine.Illegal},
	} {
		if got := chaos.CheckCalls(c.calls, 1); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
