package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

func TestParseAirlock(t *testing.T) {
	const key = "com.coreos.airlock/groups/web/v1/semaphore"
	for _, tt := range []struct {
		key, value string
		want       AirlockGroup
		err        string
	}{
		{key, `{"total_slots":2,"holders":["b","a"]}`, AirlockGroup{"web", 2, []string{"a", "b"}}, ""},
		{key, `{"total_slots":1,"holders":[]}`, AirlockGroup{Name: "web", Slots: 1}, ""},
		{key, `{"total_slots":0,"holders":null}`, AirlockGroup{Name: "web"}, ""},
		{key, `{"total_slots":1,"holders":["a"],"extra":1}`, AirlockGroup{}, `not a semaphore of airlock's: json: unknown field "extra"`},
		{key, `{"holders":["a"]}`, AirlockGroup{}, `not a semaphore of airlock's: needs the field "total_slots", a number of slots`},
		{key, `{"total_slots":-1,"holders":[]}`, AirlockGroup{}, `cannot unmarshal number -1`},
		{key, `{"total_slots":99999999999,"holders":[]}`, AirlockGroup{}, `needs the field "total_slots"`},
		{key, `{"total_slots":2,"holders":["a","a"]}`, AirlockGroup{}, `a holds two slots`},
		{key, `{"total_slots":2,"holders":["a b"]}`, AirlockGroup{}, `invalid machine id "a b": it holds a space`},
		{key, `{"total_slots":2,"holders":[]} {}`, AirlockGroup{}, `more follows after the document`},
		{key, `{"total_slots":2`, AirlockGroup{}, `not a semaphore of airlock's: unexpected EOF`},
		{"com.coreos.airlock/groups/web/v2/semaphore", `{}`, AirlockGroup{}, `not a key of airlock's`},
		{"com.coreos.airlock/groups/we%20b/v1/semaphore", `{}`, AirlockGroup{}, `not a key of airlock's`},
	} {
		got, err := parseAirlock(&mvccpb.KeyValue{Key: []byte(tt.key), Value: []byte(tt.value)})
		if tt.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s %s: %v, want %q", tt.key, tt.value, err, tt.err)
		}
		if err == nil && cmp.Diff(tt.want, got) != "" {
			t.Errorf("%s: %+v", tt.value, got)
		}
	}
}

func putAirlock(t *testing.T, srv *etcdtest.Server, name, doc string) {
	t.Helper()
	if _, err := srv.Client(t).Put(t.Context(), airlockPrefix+name+airlockSuffix, doc); err != nil {
		t.Fatal(err)
	}
}

func TestImportAirlock(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			srv := etcdtest.Start(t, kind)
			s := dial(t, srv.Endpoint)
			putAirlock(t, srv, "default", `{"total_slots":1,"holders":[]}`)
			putAirlock(t, srv, "web", `{"total_slots":3,"holders":["id1","id2"]}`)
			groups, err := s.Airlock(t.Context())
			if err != nil || len(groups) != 2 {
				t.Fatalf("%+v, %v", groups, err)
			}
			imports := func(g AirlockGroup, write, want bool) {
				t.Helper()
				if got, err := s.ImportAirlock(t.Context(), locksmith.Group(g.Name), g, "tester", write); err != nil || got != want {
					t.Errorf("importing %s: %v, %v; want %v", g.Name, got, err, want)
				}
			}
			imports(groups[1], false, true)
			if st := checkGroup(t, s, "web", 0, 1); st.Exists {
				t.Error("a dry run made the group")
			}
			imports(groups[1], true, true)
			imports(groups[1], true, false)
			imports(groups[1], false, false)
			st := checkGroup(t, s, "web", 2, 3)
			for _, h := range st.Holders {
				if h.By != locksmith.ByFleetLock || h.StartTime == 0 {
					t.Errorf("record %+v", h)
				}
			}
			history, err := s.History(t.Context(), "web", 10)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			for _, e := range history {
				said = append(said, fmt.Sprintf("%s %s%s: %s", e.Actor, e.Action, e.Machine, e.Outcome))
			}
			slices.Sort(said)
			want := []string{"tester lockid1: taken over from airlock", "tester lockid2: taken over from airlock", "tester set-max: max 3, taken over from airlock"}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Error(diff)
			}

			// What follows does not write over what was just noted.
			if err := s.Unlock(t.Context(), "web", "id1", locksmith.Result{Actor: "tester"}); err != nil {
				t.Fatal(err)
			}
			if history, err = s.History(t.Context(), "web", 10); err != nil || len(history) != 4 || history[0].Action != locksmith.ActionUnlock {
				t.Errorf("history %+v, %v", history, err)
			}
			var exists *ExistsError
			if _, err := s.ImportAirlock(t.Context(), "web", groups[1], "tester", true); !errors.As(err, &exists) || exists.Have.Max != 3 ||
				err.Error() != "group web exists here already with max 3 and 1 holders: it is left as it is" {
				t.Errorf("over another one: %v", err)
			}
		})
	}
}

func TestAirlockWithManyHolders(t *testing.T) {
	srv := server(t, etcdtest.Debian)
	s := dial(t, srv.Endpoint)
	g := newGroup(t)
	from := AirlockGroup{Name: "many", Slots: 200}
	for i := range MaxAirlockHolders + 1 {
		from.Holders = append(from.Holders, fmt.Sprintf("m%03d", i))
	}
	if _, err := s.ImportAirlock(t.Context(), g, from, "tester", true); err == nil || !strings.Contains(err.Error(), "has 121 holders, and at most 120 ") {
		t.Errorf("one too many: %v", err)
	}
	from.Holders = from.Holders[:MaxAirlockHolders]
	if _, err := s.ImportAirlock(t.Context(), g, from, "tester", true); err != nil {
		t.Fatal(err)
	}
	checkGroup(t, s, g, MaxAirlockHolders, 200)
	if history, err := s.History(t.Context(), g, 1000); err != nil || len(history) != MaxAirlockHolders+1 {
		t.Errorf("%d entries, %v", len(history), err)
	}
}

func FuzzParseAirlock(f *testing.F) {
	f.Add([]byte(`{"total_slots":2,"holders":["a"]}`))
	f.Add([]byte(`{"total_slots":0,"holders":null}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		g, err := parseAirlock(&mvccpb.KeyValue{Key: []byte("com.coreos.airlock/groups/web/v1/semaphore"), Value: doc})
		if err == nil && (g.Slots < 0 || !slices.IsSorted(g.Holders) || slices.Contains(g.Holders, "")) {
			t.Errorf("%s: %+v", doc, g)
		}
	})
}
