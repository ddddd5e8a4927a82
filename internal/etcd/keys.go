package etcd

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

const (
	prefix       = "coreos.com/updateengine/rebootlock"
	groupsPrefix = prefix + "/groups/"

	// historySize bounds the ring of history entries of a group.
	historySize = 1024
)

// base is where everything of a group lives: B in docs/design.md.
func base(g locksmith.Group) string {
	if g == "" {
		return prefix
	}
	return groupsPrefix + url.QueryEscape(string(g))
}

func semaphoreKey(g locksmith.Group) string { return base(g) + "/semaphore" }

func holdersPrefix(g locksmith.Group) string { return base(g) + "/holders/" }

func holderKey(g locksmith.Group, machine string) string {
	return holdersPrefix(g) + url.QueryEscape(machine)
}

func queuePrefix(g locksmith.Group) string { return base(g) + "/queue/" }

func queueLevelPrefix(g locksmith.Group, priority int) string {
	return queuePrefix(g) + strconv.Itoa(priority) + "/"
}

func queueKey(g locksmith.Group, priority int, machine string) string {
	return queueLevelPrefix(g, priority) + url.QueryEscape(machine)
}

func tailKey(g locksmith.Group, priority int) string {
	return base(g) + "/tail/" + strconv.Itoa(priority)
}

func historyPrefix(g locksmith.Group) string { return base(g) + "/history/" }

// historyKey is the place of the entry for the change that made the semaphore
// key's Version what it is.
func historyKey(g locksmith.Group, version int64) string {
	return fmt.Sprintf("%s%04d", historyPrefix(g), version%historySize)
}

// policyKey is where the policy of a scope lives: of a group, of all groups or of a
// machine.
func policyKey(scope locksmith.PauseScope) string {
	switch {
	case scope.All:
		return prefix + "/all/policy"
	case scope.Machine != "":
		return machinePolicyPrefix() + url.QueryEscape(scope.Machine)
	}
	return base(scope.Group) + "/policy"
}

// What locksmith-server refused is in a ring of its own, so that nobody who may change
// nothing can get in the way of those who change semaphores. Each entry is written
// together with the count, whose Version is its place.
const (
	refusalsPrefix = prefix + "/all/history/"
	refusalsCount  = prefix + "/all/history-count"
)

func refusalKey(version int64) string {
	return fmt.Sprintf("%s%04d", refusalsPrefix, version%historySize)
}

func machinePolicyPrefix() string { return prefix + "/machine-policy/" }

// seenKey is where the newest presence of a machine stays when its lease is gone.
func seenKey(machine string) string { return seenPrefix() + url.QueryEscape(machine) }

func seenPrefix() string { return prefix + "/seen/" }

func presencePrefix() string { return prefix + "/machines/" }

func presenceKey(machine string) string { return presencePrefix() + url.QueryEscape(machine) }

// fenceKey is what joins under a lease compare: see lease.fence.
func fenceKey(id clientv3.LeaseID) string {
	return fmt.Sprintf("%s/fences/%016x", prefix, int64(id))
}

// urgent is the range of queue entries that go before everything of priority.
// It is empty for the most urgent level.
func urgent(g locksmith.Group, priority int) (from, to string) {
	return queuePrefix(g), queueLevelPrefix(g, priority)
}

// waiterAt splits a queue key into what it says; ok is false for any other key.
func waiterAt(g locksmith.Group, key []byte) (priority int, machine string, ok bool) {
	rest, ok := strings.CutPrefix(string(key), queuePrefix(g))
	if !ok {
		return 0, "", false
	}
	level, name, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, "", false
	}
	priority, err := strconv.Atoi(level)
	if err != nil || level != strconv.Itoa(priority) || priority < locksmith.MinPriority || priority > locksmith.MaxPriority {
		return 0, "", false
	}
	machine, err = url.QueryUnescape(name)
	return priority, machine, err == nil && machine != ""
}

// opsFor makes one operation per group.
func opsFor(groups []locksmith.Group, op func(locksmith.Group) clientv3.Op) []clientv3.Op {
	ops := make([]clientv3.Op, len(groups))
	for i, g := range groups {
		ops[i] = op(g)
	}
	return ops
}
