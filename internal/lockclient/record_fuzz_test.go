package lockclient

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const good = `{"url":"https://server/p","id":"id","group":"web","state":"held","later":[1],"holder":{"machineID":"m","startTime":1,` +
	`"bootID":"b","groups":["web"],"by":"locksmithd","nonce":"n","phase":"acquired"}}`

func TestParse(t *testing.T) {
	r, err := parse([]byte(good + "\n"))
	if err != nil || r.URL != "https://server/p" || r.State != held || r.Holder.MachineID != "m" || r.Holder.Groups[0] != "web" {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{good, "null", "it is no JSON object"},
		{good, good + "{}", "something follows"},
		{`"held"`, `"kept"`, `its state is "kept": must be asking or held`},
		{`https://server/p`, "server", `invalid URL "server"`},
		{`"id":"id"`, `"id":""`, "id is empty"},
		{`"group":"web"`, `"group":"a b"`, `group "a b" is no group's name`},
		{`"machineID":"m"`, `"machineID":""`, "invalid machine id"},
		{`"nonce":"n"`, `"nonce":""`, "lacks a nonce"},
		{`"bootID":"b",`, ``, "lacks a nonce or a bootID"},
		{`["web"]`, `[]`, "its holder is in 0 groups: must be 1"},
		{`"locksmithd"`, `"fleetlock"`, `its holder is "fleetlock", not this program`},
	} {
		text := strings.Replace(good, tt.old, tt.new, 1)
		if r, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "held", "asking", 1)))
	f.Add([]byte(`{"holder":null,"state":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: more than one line: %v", data, err)
			}
			return
		}
		stored, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parse(stored); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%q was read as %+v, and that as %+v (%v)", data, r, again, err)
		}
	})
}
