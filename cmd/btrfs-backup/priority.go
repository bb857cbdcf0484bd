package main

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"btrfs-backup/internal/job"
)

// priority is what this process and all that it starts leave to others.
type priority struct {
	nice   int
	ionice string
}

func (p *priority) define(f *pflag.FlagSet) {
	f.IntVar(&p.nice, "nice", 0, "leave the processor to others: `N` from 0 to 19, as nice")
	f.StringVar(&p.ionice, "ionice", "", "`CLASS` of disk accesses, as for ionice: idle, best-effort or realtime")
}

// ionices are the classes of linux/include/uapi/linux/ioprio.h, with the level that ionice(1) gives them.
var ionices = map[string]int{"realtime": 1<<13 | 4, "best-effort": 2<<13 | 4, "idle": 3 << 13}

func (p *priority) check(c *job.Complaints) {
	if p.nice < -20 || p.nice > 19 {
		c.Add("nice", "use 0 to 19; less than 0 is for root", "%d is out of range", p.nice)
	}
	if _, ok := ionices[strings.ToLower(p.ionice)]; !ok && p.ionice != "" {
		c.Add("ionice", "use idle, best-effort or realtime", "%s is unknown", p.ionice)
	}
}

// set sets both for every thread, and so for the threads and programs that these start. On Linux, both belong to threads.
func (p *priority) set() error {
	if p.nice == 0 && p.ionice == "" {
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

func (p *priority) setThread(id int) error {
	if p.nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, p.nice); err != nil {
			return os.NewSyscallError("setpriority", err)
		}
	}
	if p.ionice == "" {
		return nil
	}
	const whoProcess = 1 // linux/include/uapi/linux/ioprio.h: IOPRIO_WHO_PROCESS
	_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id), uintptr(ionices[strings.ToLower(p.ionice)]))
	if errno != 0 {
		return os.NewSyscallError("ioprio_set", errno)
	}
	return nil
}
