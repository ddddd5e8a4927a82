package rollout

import "testing"

func TestDomainOf(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"web-1.example.net"}, ""},
		{[]string{"web-1.fra1.example.net", "web-2.fra1.example.net"}, ".fra1.example.net"},
		{[]string{"web-1.fra1.example.net", "web-1.ams2.example.net"}, ".example.net"},
		{[]string{"web-1.example.net", "db-1.example.org"}, ""},
		{[]string{"web-1.example.net", "211f355116e60b5fb1e5de18715a4c3e"}, ""},
		{[]string{"web-1.example.net", ".example.net"}, ".net"}, // something is left of each
		{[]string{".net", "web.net"}, ""},
		{[]string{"", "web.net"}, ""},
		{[]string{".", "."}, ""},
		{[]string{"a..b", "c..b"}, "..b"},
		{[]string{"same.example.net", "same.example.net"}, ".example.net"},
	} {
		if got := domainOf(tt.names); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.names, got, tt.want)
		}
	}
}
