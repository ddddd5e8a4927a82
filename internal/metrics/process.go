package metrics

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// started is when this process did, to within its initialization.
var started = time.Now()

// process collects what the daemon costs its machine. The library's own collector
// takes longer than all the rest of a scrape, 0.22 ms instead of these 0.02: it
// reads, among others, the network counters, which are the machine's and not the
// daemon's.
type process struct{}

var (
	goroutinesDesc = prometheus.NewDesc("go_goroutines", "Number of goroutines that currently exist.", nil, nil)
	cpuDesc        = prometheus.NewDesc("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", nil, nil)
	residentDesc   = prometheus.NewDesc("process_resident_memory_bytes", "Resident memory size in bytes.", nil, nil)
	filesDesc      = prometheus.NewDesc("process_open_fds", "Number of open file descriptors.", nil, nil)
	startedDesc    = prometheus.NewDesc("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", nil, nil)
)

func (process) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{goroutinesDesc, cpuDesc, residentDesc, filesDesc, startedDesc} {
		ch <- d
	}
}

// Collect leaves out what cannot be read.
func (process) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, kind, v)
	}
	send(goroutinesDesc, prometheus.GaugeValue, float64(runtime.NumGoroutine()))
	send(startedDesc, prometheus.GaugeValue, seconds(started))
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		send(cpuDesc, prometheus.CounterValue, cpu.Seconds())
	}
	if pages, ok := residentPages(); ok {
		send(residentDesc, prometheus.GaugeValue, float64(pages*os.Getpagesize()))
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		send(filesDesc, prometheus.GaugeValue, float64(len(files)-1)) // one is of the reading itself
	}
}

// residentPages is the second number of /proc/self/statm.
func residentPages() (n int, ok bool) {
	text, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 2 {
		return 0, false
	}
	n, err = strconv.Atoi(string(fields[1]))
	return n, err == nil
}
