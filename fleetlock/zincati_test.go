package fleetlock_test

import (
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

func TestZincatiID(t *testing.T) {
	const want = "978a225b3d7b40e9acd7ce9b62f68444"
	for _, machine := range []string{"1c09ca98649c4c7abc779cd04c96812e", "1C09CA98649C4C7ABC779CD04C96812E"} {
		if got, err := fleetlock.ZincatiID(machine); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %s", machine, got, err, want)
		}
	}
	for _, machine := range []string{"", "uninitialized", "1c09ca98649c4c7abc779cd04c96812", "1c09ca98649c4c7abc779cd04c96812e\n",
		"1c09ca98-649c-4c7a-bc77-9cd04c96812e", "1c09ca98649c4c7abc779cd04c96812g", strings.Repeat("ab", 17)} {
		if got, err := fleetlock.ZincatiID(machine); err == nil || got != "" || !strings.Contains(err.Error(), "32 hexadecimal digits") {
			t.Errorf("%q: got %q, %v", machine, got, err)
		}
	}
}
