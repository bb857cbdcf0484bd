// Package priority leaves the processor and the disks to others. What it sets holds for this process and all that it starts, and is
// never taken back.
package priority

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// A Priority is how much is left to others.
type Priority struct {
	Nice   int    // as of nice(1); 0: as it is
	IONice string // a class of ionice(1); "": as it is
}

// classes are the classes of linux/include/uapi/linux/ioprio.h, with the level that ionice(1) gives them.
var classes = map[string]int{"realtime": 1<<13 | 4, "best-effort": 2<<13 | 4, "idle": 3 << 13}

// Check gives all that is wrong with it.
func (p Priority) Check() (c hint.Complaints) {
	if p.Nice < -20 || p.Nice > 19 {
		c.Add("nice", "use 0 to 19; less than 0 is for root", "%d is out of range", p.Nice)
	}
	if _, ok := classes[strings.ToLower(p.IONice)]; !ok && p.IONice != "" {
		c.Add("ionice", "use idle, best-effort or realtime", "%s is unknown", p.IONice)
	}
	return c
}

// Set sets both for every thread, and so for the threads and programs that these start. On Linux, both belong to threads.
func (p Priority) Set() error {
	if p.Nice == 0 && p.IONice == "" {
		return nil
	}
	const rounds = 2 // a thread may start another one before its turn
	for range rounds {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := p.setThread(id); err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
				return err
			}
		}
	}
	return nil
}

func (p Priority) setThread(id int) error {
	if p.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, p.Nice); err != nil {
			return os.NewSyscallError("setpriority", err)
		}
	}
	if p.IONice == "" {
		return nil
	}
	const whoProcess = 1 // linux/include/uapi/linux/ioprio.h: IOPRIO_WHO_PROCESS
	_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id), uintptr(classes[strings.ToLower(p.IONice)]))
	if errno != 0 {
		return os.NewSyscallError("ioprio_set", errno)
	}
	return nil
}
