package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// mostMemory is what a run may have, with parts of the usual size.
const mostMemory = 128 << 20

func TestARunToAStoreTakesLittleMemory(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	size := int64(200 << 20)
	if btrfstest.All() {
		size = 700 << 20 // garbage needs a while to gather
	}
	source, _ := newLargePair(t, size) // no compression makes it shorter
	cmd := r.command(nil)
	i := slices.Index(cmd.Args, "--part-size")
	cmd.Args = append(slices.Delete(cmd.Args, i, i+2)[:len(cmd.Args)-4], source, r.place)
	run := start(t, cmd)
	done := make(chan result)
	go func() { done <- run.wait() }()
	var most int64
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case ended := <-done:
			expect(t, exitDone, ended)
			if t.Logf("%d MiB", most>>20); most > mostMemory || most == 0 {
				t.Errorf("it took %d MiB", most>>20)
			}
			return
		case <-tick.C:
			most = max(most, highWater(cmd.Process.Pid))
		}
	}
}

// highWater gives the most memory that a process had, or 0 when it has ended.
func highWater(pid int) int64 {
	status, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}
