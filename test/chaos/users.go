package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// Users are people: they type commands of locksmithctl, at etcd and through the
// servers, and ask the servers over FleetLock as curl does. What they change is in a group
// of their own; what they are told is judged by CheckSaid.
const (
	users     = 2
	userNode  = 230
	userGroup = locksmith.Group("tools")
	userMax   = 1
	userWaits = 6 * time.Second // for an answer over FleetLock, which may be held until there is a slot
)

// use has the users at work until working ends; then what they hold is given back. It
// returns what they were told.
func (r *run) use(ctx, working context.Context) (said []Said, err error) {
	var mu sync.Mutex
	note := func(s Said) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, s)
	}
	var wg sync.WaitGroup
	errs := make([]error, users)
	for i := range users {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(r.Seed, 0x75736572+uint64(i)))
			name := fmt.Sprintf("user%d", i+1)
			for until(working, time.Now().Add(between(rng, 200, 800))) {
				if len(r.servers) > 0 && rng.IntN(4) == 0 {
					if s, answered := r.asks(working, rng, name); answered {
						note(s)
					}
					continue
				}
				note(r.types(ctx, rng, name))
			}
			errs[i] = r.insist(ctx, func() error {
				return r.admin.Unlock(ctx, userGroup, name, locksmith.Result{Actor: adminName})
			}, locksmith.ErrNotHolder)()
		})
	}
	wg.Wait()
	return said, errors.Join(errs...)
}

// types has a user type a command of locksmithctl.
func (r *run) types(ctx context.Context, rng *rand.Rand, name string) Said {
	var target, names []string
	switch endpoints := r.cluster.Endpoints(); rng.IntN(3) {
	case 0:
		target, names = []string{"-endpoint", strings.Join(endpoints, ",")}, endpoints
	case 1:
		one := endpoints[rng.IntN(len(endpoints))]
		target, names = []string{"-endpoint", one}, []string{one}
	default:
		if len(r.servers) == 0 {
			target, names = []string{"-endpoint", endpoints[0]}, endpoints[:1]
			break
		}
		url := serverURL(r.servers[rng.IntN(len(r.servers))].Node)
		target, names = []string{"-server", url}, []string{url}
	}
	machine := r.fleet.machines[rng.IntN(len(r.fleet.machines))]
	commands := [][]string{
		{"-group", string(machine.Groups[0]), "status"}, {"-group", string(machine.Groups[0]), "status", "-l"}, {"why", machine.ID},
		{"machines"}, {"groups"}, {"-group", string(machine.Groups[0]), "history"}, {"pauses"},
		{"-group", string(userGroup), "lock", name}, {"-group", string(userGroup), "lock", name},
		{"-group", string(userGroup), "unlock", name}, {"-group", string(userGroup), "unlock", name},
		{"-group", string(userGroup), "set-max", fmt.Sprint(userMax + rng.IntN(2))},
	}
	command := commands[rng.IntN(len(commands))]
	args := append(append(target, "-timeout", callTimeout.String()), command...)
	return r.runCommand(ctx, args, append(names, name, string(userGroup), machine.ID, string(machine.Groups[0])))
}

// runCommand runs locksmithctl on the users' node. One that does not end is killed.
func (r *run) runCommand(ctx context.Context, args, names []string) Said {
	var stderr bytes.Buffer
	cmd := exec.Command(r.Control, args...)
	cmd.Stderr = &stderr
	began := time.Now()
	s := Said{Command: "locksmithctl " + strings.Join(args, " "), Names: names, Failed: true}
	p, err := r.user.Start(cmd)
	if err != nil {
		s.Status, s.Error = -1, err.Error()
		return s
	}
	limit := time.NewTimer(2 * patience)
	defer limit.Stop()
	select {
	case <-p.Ended:
	case <-limit.C:
		p.Kill()
	case <-ctx.Done():
		p.Kill()
	}
	s.Status, s.Error = cmd.ProcessState.ExitCode(), stderr.String()
	s.Failed, s.Took, s.At = s.Status != 0, time.Since(began), monotonic()
	return s
}

// asks has a user ask a server over FleetLock. Not answered is who gave up, or did
// not reach it: what curl says then is not ours.
func (r *run) asks(ctx context.Context, rng *rand.Rand, name string) (s Said, answered bool) {
	server := r.servers[rng.IntN(len(r.servers))]
	path := []string{fleetlock.PreRebootPath, fleetlock.SteadyStatePath, fleetlock.SteadyStatePath}[rng.IntN(3)]
	return r.asksFor(ctx, server, path, name)
}

// asksFor asks a server for one thing.
func (r *run) asksFor(ctx context.Context, server *Daemon, path, name string) (s Said, answered bool) {
	body := fmt.Sprintf(`{"client_params":{"id":%q,"group":%q}}`, name, userGroup)
	s = Said{Command: "POST " + serverURL(server.Node) + path, Names: append(r.cluster.Endpoints(), name, string(userGroup))}
	ctx, cancel := context.WithTimeout(ctx, userWaits)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, serverURL(server.Node)+path, strings.NewReader(body))
	if err != nil {
		return s, false
	}
	req.Header.Set("Fleet-Lock-Protocol", "true")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return r.user.Dial(ctx, addr)
	}}
	began := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return s, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return s, false
	}
	s.Took, s.At, s.Status, s.Failed = time.Since(began), monotonic(), resp.StatusCode, resp.StatusCode != http.StatusOK
	var answer struct{ Kind, Value string }
	if s.Failed && json.Unmarshal(text, &answer) == nil {
		s.Error = answer.Kind + ": " + answer.Value
	} else if s.Failed {
		s.Error = string(text)
	}
	return s, true
}
