package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
)

func TestUseLock(t *testing.T) {
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down.Close()
	answering, silent := []string{"http://" + up.Addr().String()}, []string{"http://" + down.Addr().String()}
	away := errors.New("the message bus is away")
	tests := []struct {
		name      string
		chosen    bool
		endpoints []string
		unit      bool
		unitErr   error
		want      bool
		wantErr   error
	}{
		{"nothing says etcd", false, silent, false, nil, false, nil},
		{"a chosen endpoint, though down", true, silent, false, nil, true, nil},
		{"a chosen endpoint, whatever the units", true, silent, false, away, true, nil},
		{"a local unit, though it does not answer", false, silent, true, nil, true, nil},
		{"the default endpoint answers", false, answering, false, nil, true, nil},
		{"it answers and units are unknown", false, answering, false, away, true, nil},
		{"unknown means no", false, silent, false, away, false, away},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := probe{tt.chosen, tt.endpoints, func(_ context.Context, units ...string) (bool, error) {
				if !slices.Equal(units, []string{"etcd.service", "etcd2.service", "etcd-member.service"}) {
					t.Errorf("asked about %v", units)
				}
				return tt.unit, tt.unitErr
			}}
			got, err := p.useLock(t.Context())
			if got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("got %t, %v; want %t, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}
