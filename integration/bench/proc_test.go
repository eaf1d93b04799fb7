package main

import (
	"os"
	"testing"
	"time"
)

func TestField(t *testing.T) {
	const status = "Name:\tVmHWM: 7\nVmPeak:\t   99 kB\nVmHWM:\t    1234 kB\nEmpty:\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n"
	for key, want := range map[string]int64{"VmHWM": 1234, "voluntary_ctxt_switches": 150, "nonvoluntary_ctxt_switches": 545} {
		if got, err := field([]byte(status), key); got != want || err != nil {
			t.Errorf("%s is %d, %v, want %d", key, got, err, want)
		}
	}
	for _, key := range []string{"VmRSS", "Empty", "Vm", "Name"} {
		if got, err := field([]byte(status), key); err == nil {
			t.Errorf("%s is %d, want an error", key, got)
		}
	}
}

func TestBusy(t *testing.T) {
	worked, stolen, err := busy([]byte("cpu  1000 200 300 99999 88888 40 50 700 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n"))
	if worked != 15.9 || stolen != 7 || err != nil {
		t.Errorf("worked %v s, stolen %v s, %v, want 15.9 and 7", worked, stolen, err)
	}
	for _, bad := range []string{"", "cpu  1 2 3\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu 1 2 3 x 5 6 7 8\n"} {
		if worked, stolen, err := busy([]byte(bad)); err == nil {
			t.Errorf("busy(%q) = %v, %v, want an error", bad, worked, stolen)
		}
	}
}

func TestColumn(t *testing.T) {
	const status = "NAME STATE RUN\nweb running 3\ndb ended 1\ncut\n"
	got, err := column(status, "STATE")
	if err != nil || len(got) != 2 || got["web"] != "running" || got["db"] != "ended" {
		t.Errorf("states %v, %v", got, err)
	}
	if got, err := column(status, "READERS"); err == nil {
		t.Errorf("a column that is not there is %v", got)
	}
}

// The clock of a process is that of all its threads, and no other process's.
func TestCPU(t *testing.T) {
	before, err := cpu(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	work := make(chan int)
	go func() {
		n := 0
		for began := time.Now(); time.Since(began) < 30*time.Millisecond; n++ {
		}
		work <- n
	}()
	<-work
	after, err := cpu(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("a process that works has used %v, then %v, %v", before, after, err)
	}
	if used, err := cpu(1 << 22); err == nil {
		t.Errorf("a process that is not there has used %v", used)
	}
}

func TestMemoryOfThisProcess(t *testing.T) {
	now, err := resident(os.Getpid())
	most, perr := peak(os.Getpid())
	if err != nil || perr != nil || now <= 0 || most < now {
		t.Errorf("resident %v MiB, %v; at most %v MiB, %v", now, err, most, perr)
	}
	if own, err := share([]int{os.Getpid()}); err != nil || own <= 0 || own > most {
		t.Errorf("a share of %v MiB, %v, and at most %v MiB in memory", own, err, most)
	}
}
