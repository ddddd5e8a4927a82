package main

import (
	"context"
	"net"
	"net/url"
	"time"
)

// localEtcd are the units under which etcd runs on CoreOS, Flatcar and Debian.
var localEtcd = []string{"etcd.service", "etcd2.service", "etcd-member.service"}

// probe answers best-effort's question whether etcd is running.
type probe struct {
	endpointSet bool     // endpoints were chosen: down or not, that etcd is meant
	endpoints   []string // the default ones, otherwise
	anyUnit     func(ctx context.Context, units ...string) (bool, error)
}

// useLock says whether reboots need a slot. It is an error not to know.
func (p probe) useLock(ctx context.Context) (bool, error) {
	if p.endpointSet {
		return true, nil
	}
	active, err := p.anyUnit(ctx, localEtcd...)
	if active && err == nil {
		return true, nil
	}
	for _, endpoint := range p.endpoints {
		if answers(ctx, endpoint) {
			return true, nil
		}
	}
	return false, err
}

// answers says whether somebody accepts connections at endpoint, a URL.
func answers(ctx context.Context, endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
