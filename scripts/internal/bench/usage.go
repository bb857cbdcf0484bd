package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
func measure(argv []string) (usage, error) { return measureBy(highWater, argv) }

// measureTogether is measure, but for the memory, which is that of all processes together at one moment.
func measureTogether(argv []string) (usage, error) { return measureBy(resident, argv) }

func measureBy(memory func(pid int) int64, argv []string) (usage, error) {
	var said bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	stop := make(chan struct{})
	peak := watchMemory(func() int64 { return memory(cmd.Process.Pid) }, stop)
	err := cmd.Wait()
	wall := time.Since(started)
	close(stop)
	if err != nil {
		return usage{}, fmt.Errorf("%q: %w\n%s", argv, err, &said)
	}
	return usage{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak: <-peak}, nil
}

// watchMemory gives the highest that memory was until stop is closed. The kernel's own figure at the end of a process
// (ru_maxrss) will not do: it is the highest among the process and its children.
func watchMemory(memory func() int64, stop <-chan struct{}) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var highest int64
		for {
			highest = max(highest, memory())
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
func highWater(pid int) int64 { return statusOf(pid, "VmHWM:") }

// resident gives the memory that a process and all below it have now, in bytes. What they share counts for each of them.
func resident(pid int) int64 {
	sum := statusOf(pid, "VmRSS:")
	for _, child := range children(strconv.Itoa(pid)) {
		sum += resident(child)
	}
	return sum
}

// children gives the processes that the threads of a process started.
func children(pid string) (pids []int) {
	lists, _ := filepath.Glob("/proc/" + pid + "/task/*/children") // fails for a bad pattern only
	for _, list := range lists {
		words, _ := os.ReadFile(list) // empty when the thread has ended
		for _, word := range strings.Fields(string(words)) {
			child, _ := strconv.Atoi(word)
			pids = append(pids, child)
		}
	}
	return pids
}

// statusOf gives an amount of memory in the status of a process, in bytes, or 0 when it has ended.
func statusOf(pid int, field string) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), field)
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
