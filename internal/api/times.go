package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Time is an instant in seconds since the epoch. In JSON it is RFC 3339 in UTC. Zero,
// and what such a text cannot say, stands for an instant that nobody knows and is
// left out.
type Time int64

// lastTime is the last second with a year of four digits.
var lastTime = Time(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix())

// IsZero says whether the instant is not known; encoding/json asks.
func (t Time) IsZero() bool { return t <= 0 || t > lastTime }

// MarshalJSON never fails. An instant that is not known is the epoch where it cannot
// be left out.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		t = 0
	}
	b := append(make([]byte, 0, len(time.RFC3339)+2), '"')
	return append(time.Unix(int64(t), 0).UTC().AppendFormat(b, time.RFC3339), '"'), nil
}

// UnmarshalJSON reads RFC 3339 in any zone; parts of a second are dropped. null is no
// instant.
func (t *Time) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*t = 0
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a time must be a string in RFC 3339, such as \"2026-12-24T18:00:00Z\", not %.40s", onOneLine(b))
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("a time must be in RFC 3339, such as 2026-12-24T18:00:00Z, not %.40q", text)
	}
	*t = Time(at.Unix())
	return nil
}

// onOneLine is JSON without line breaks, which may stand between its tokens.
func onOneLine(doc []byte) []byte { return bytes.Join(bytes.Fields(doc), []byte(" ")) }

// Duration is a length of time. In JSON it is a number of seconds, with milliseconds.
type Duration time.Duration

// IsZero says whether there was none, or nobody knows; encoding/json asks.
func (d Duration) IsZero() bool { return d == 0 }

// MarshalJSON never fails.
func (d Duration) MarshalJSON() ([]byte, error) {
	ms := time.Duration(d).Milliseconds()
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds, to the millisecond.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return fmt.Errorf("a duration must be a number of seconds, not %.40s", onOneLine(b))
	}
	ms := math.Round(seconds * 1000)
	if limit := float64(math.MaxInt64 / int64(time.Millisecond)); math.Abs(ms) >= limit {
		return fmt.Errorf("a duration of %g seconds is too long", seconds)
	}
	*d = Duration(time.Duration(ms) * time.Millisecond)
	return nil
}
