package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// usage is what one run took.
type usage struct {
	wall  time.Duration
	cpu   time.Duration // of the program and all those that it ran, in user and kernel mode
	there time.Duration // the same, of what ran on the machine behind SSH
	peak  int64         // bytes of memory of the program itself, at most
}

// measure runs a program.
func measure(argv []string) (usage, error) {
	var said bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	stop := make(chan struct{})
	peak := watchMemory(cmd.Process.Pid, stop)
	err := cmd.Wait()
	wall := time.Since(started)
	close(stop)
	if err != nil {
		return usage{}, fmt.Errorf("%q: %w\n%s", argv, err, &said)
	}
	return usage{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak: <-peak}, nil
}

// watchMemory reads the high-water mark of a process until stop is closed. The kernel's own figure at the end of a process
// (ru_maxrss) will not do: it is the highest among the process and its children.
func watchMemory(pid int, stop <-chan struct{}) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var highest int64
		for {
			highest = max(highest, highWater(pid))
			select {
			case <-stop:
				peak <- highest
				return
			case <-tick.C:
			}
		}
	}()
	return peak
}

// highWater gives the most memory that a process had, in bytes, or 0 when it has ended.
func highWater(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// run runs a program that is not measured.
func run(argv ...string) error {
	_, err := measure(argv)
	return err
}
