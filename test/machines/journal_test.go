package machines_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/locksmith-reboot/locksmith/test/machines"
)

// The message ids by which docs/journal.md lets people find events.
var messageIDs = map[string]string{
	"rebooting": "fae31c0b6e9a44268bc8e477b234c840",
	"failed":    "528d2db65f3543c592022729ee338955",
	"dry-run":   "7e62e55f132d467db970b6e3f2711697",
	"breaker":   "8e76b6504ee24c42859f6b7a100f3cb2",
}

// journal is what m's journal finds by the message id of an event, in all boots,
// oldest first.
func (c *cluster) journal(m *machines.Machine, event string) []map[string]string {
	c.t.Helper()
	id, known := messageIDs[event]
	if !known {
		c.t.Fatalf("the message id of event %s is missing here", event)
	}
	var records []map[string]string
	out := c.exec(m, "sh", "-c", "journalctl --sync && journalctl --quiet --output=json MESSAGE_ID="+id)
	for line := range strings.Lines(out) {
		var fields map[string]any
		must(c.t, json.Unmarshal([]byte(line), &fields))
		record := map[string]string{}
		for name, value := range fields {
			record[name] = fmt.Sprint(value)
		}
		records = append(records, record)
	}
	return records
}
