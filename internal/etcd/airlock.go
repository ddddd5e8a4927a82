package etcd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// airlockPrefix is where airlock keeps the semaphores of its groups, one key for each.
const (
	airlockPrefix = "com.coreos.airlock/groups/"
	airlockSuffix = "/v1/semaphore"
)

// AirlockGroup is one semaphore of airlock's.
type AirlockGroup struct {
	Name    string   // as its machines give it
	Slots   int      // how many may be down
	Holders []string // ids as its machines give them, sorted
}

// MaxAirlockHolders bounds the holders of a group that can be taken over: all of them
// are one transaction, of which etcd takes 128 operations.
const MaxAirlockHolders = 120

var airlockName = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

// Airlock reads all semaphores of airlock's, sorted by name. One that is not exactly
// as airlock writes it is an *locksmith.UnreadableError.
func (s *Store) Airlock(ctx context.Context) ([]AirlockGroup, error) {
	var groups []AirlockGroup
	var wrong error
	_, err := s.pages(ctx, airlockPrefix, 0, func(kv *mvccpb.KeyValue) {
		g, err := parseAirlock(kv)
		if err != nil && wrong == nil {
			wrong = &locksmith.UnreadableError{Key: string(kv.Key), Err: err}
		}
		groups = append(groups, g)
	})
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	if wrong != nil {
		return nil, wrong
	}
	slices.SortFunc(groups, func(a, b AirlockGroup) int { return cmp.Compare(a.Name, b.Name) })
	return groups, nil
}

func parseAirlock(kv *mvccpb.KeyValue) (AirlockGroup, error) {
	escaped, ok := strings.CutSuffix(strings.TrimPrefix(string(kv.Key), airlockPrefix), airlockSuffix)
	name, err := url.QueryUnescape(escaped)
	if !ok || err != nil || !airlockName.MatchString(name) {
		return AirlockGroup{}, fmt.Errorf("not a key of airlock's: must be %sGROUP%s", airlockPrefix, airlockSuffix)
	}
	var doc struct {
		Slots   *uint64   `json:"total_slots"`
		Holders *[]string `json:"holders"`
	}
	dec := json.NewDecoder(bytes.NewReader(kv.Value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return AirlockGroup{}, fmt.Errorf("not a semaphore of airlock's: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return AirlockGroup{}, errors.New("not a semaphore of airlock's: more follows after the document")
	}
	if doc.Slots == nil || *doc.Slots > math.MaxInt32 {
		return AirlockGroup{}, errors.New(`not a semaphore of airlock's: needs the field "total_slots", a number of slots`)
	}
	g := AirlockGroup{Name: name, Slots: int(*doc.Slots)}
	if doc.Holders != nil {
		g.Holders = slices.Sorted(slices.Values(*doc.Holders))
	}
	for i, id := range g.Holders {
		if err := locksmith.CheckMachineID(id); err != nil {
			return AirlockGroup{}, err
		}
		if i > 0 && g.Holders[i-1] == id {
			return AirlockGroup{}, fmt.Errorf("not a semaphore of airlock's: %s holds two slots", id)
		}
	}
	return g, nil
}

// ExistsError says that a group has a semaphore already that is another one.
type ExistsError struct {
	Group locksmith.Group
	Have  locksmith.Semaphore
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s exists here already with max %d and %d holders: it is left as it is", describeGroup(e.Group), e.Have.Max, len(e.Have.Holders))
}

func describeGroup(g locksmith.Group) string {
	if g == "" {
		return "the default group"
	}
	return "group " + string(g)
}

// ImportAirlock makes a group of one of airlock's, with its holders, in one
// transaction. imported is false where the group exists already with the same max and
// the same holders; if it is another one, the error is an *ExistsError. Where write is
// false nothing is written, and imported says what would be done.
func (s *Store) ImportAirlock(ctx context.Context, group locksmith.Group, from AirlockGroup, actor string, write bool) (imported bool, err error) {
	if len(from.Holders) > MaxAirlockHolders {
		return false, fmt.Errorf("airlock's group %s has %d holders, and at most %d can be taken over at once: stop further updates and wait until machines have given their slots back",
			from.Name, len(from.Holders), MaxAirlockHolders)
	}
	sem := locksmith.Semaphore{Semaphore: from.Slots - len(from.Holders), Max: from.Slots, Holders: from.Holders}
	puts := airlockPuts(group, sem, actor)
	var exists *ExistsError
	sent := false
	err = s.insist(ctx, &sent, func(ctx context.Context) error {
		resp, err := s.get(ctx, semaphoreKey(group))
		if err != nil {
			return err
		}
		kv := head(resp.Kvs)
		for kv == nil && write {
			sent = true
			txn, err := s.change(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(semaphoreKey(group)), "=", 0)},
				puts, []clientv3.Op{clientv3.OpGet(semaphoreKey(group))})
			if err != nil {
				return err
			}
			if imported = txn.Succeeded; imported {
				return nil
			}
			kv = first(txn.Responses[0])
		}
		if imported = kv == nil || sent && string(kv.Value) == sem.Document(); imported { // by ourselves, and the reply was lost
			return nil
		}
		have, _, err := parseSemaphore(kv)
		if err == nil && have.Document() != sem.Document() {
			exists = &ExistsError{group, have}
		}
		return err
	})
	if err == nil && exists != nil {
		return false, exists
	}
	return imported, err
}

// airlockPuts writes the group with its holders, and how it came about.
func airlockPuts(group locksmith.Group, sem locksmith.Semaphore, actor string) []clientv3.Op {
	now := time.Now()
	entry := historyDoc{Time: now, Actor: actor, Action: locksmith.ActionSetMax, Outcome: fmt.Sprintf("max %d, taken over from airlock", sem.Max)}
	puts := []clientv3.Op{clientv3.OpPut(semaphoreKey(group), sem.Document())}
	for _, id := range sem.Holders {
		entry.More = append(entry.More, historyDoc{Time: now, Actor: actor, Action: locksmith.ActionLock, Machine: id, Outcome: "taken over from airlock"})
		puts = append(puts, clientv3.OpPut(holderKey(group, id), mustJSON(locksmith.Holder{
			MachineID: id, StartTime: now.Unix(), Groups: []locksmith.Group{group},
			Phase: locksmith.PhaseAcquired, PhaseTime: now.Unix(), By: locksmith.ByFleetLock, Nonce: locksmith.NewNonce(),
		})))
	}
	return append(puts, clientv3.OpPut(historyKey(group, 1), entry.document()))
}
