package hook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// A note is an after that is to run, on disk.
type note struct {
	ID          string        `json:"id"`
	Owner       process       `json:"process"` // which runs it
	Job         string        `json:"job"`
	Hook        string        `json:"hook"`
	Phase       Phase         `json:"phase"`
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	After       []string      `json:"after"`
	User        string        `json:"user"`
	Optional    bool          `json:"optional"`
	Timeout     time.Duration `json:"nanoseconds"`

	dir string
}

const file = "hooks.json"

// run runs the after. That an optional one fails is told as a warning only.
func (n note) run(ctx context.Context, log *slog.Logger, r result) error {
	err := program{note: n, argv: n.After, when: "after", result: r}.run(ctx, log)
	if err != nil && n.Optional {
		log.Warn(err.Error())
		return nil
	}
	return err
}

// add puts the note into a directory.
func (n *note) add(ctx context.Context, dir string) (err error) {
	n.ID, n.dir = rand.Text(), dir
	if n.Owner, err = identify("self"); err != nil {
		return err
	}
	err = change(ctx, dir, func(all []note) []note { return append(all, *n) })
	if err != nil {
		n.ID = "" // there is nothing to remove
	}
	return err
}

// remove takes the note out, if it is there.
func (n note) remove(ctx context.Context) error {
	if n.ID == "" {
		return nil
	}
	return change(ctx, n.dir, func(all []note) []note {
		return slices.DeleteFunc(all, func(other note) bool { return other.ID == n.ID })
	})
}

// Finish runs the afters of runs that were killed, each of them once, newest first, and gives how many there were.
func Finish(ctx context.Context, dir string, log *slog.Logger) (found int, err error) {
	if _, err := os.Stat(filepath.Join(dir, file)); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	me, err := identify("self")
	if err != nil {
		return 0, err
	}
	var left []note
	err = change(ctx, dir, func(all []note) []note {
		for i, n := range all {
			if !n.Owner.lives() {
				left = append(left, n)
				all[i].Owner = me // so that nobody else runs it, unless this one is killed, too
			}
		}
		return all
	})
	var errs []error
	for _, n := range slices.Backward(left) {
		of := "hook " + n.Hook
		if n.Job != "" {
			of += " of job " + n.Job
		}
		killed := fmt.Errorf("process %d was killed", n.Owner.PID)
		log.Warn(fmt.Sprintf("%s: %v in the %s: its after runs now", of, killed, n.Phase))
		n.dir = dir
		ctx := context.WithoutCancel(ctx)
		errs = append(errs, n.run(ctx, log, result{status: "failed", ended: killed}), n.remove(ctx))
	}
	return len(left), errors.Join(append(errs, err)...)
}

// change rewrites the notes.
func change(ctx context.Context, dir string, change func([]note) []note) error {
	return lock.InDir(ctx, dir, func() error {
		before, err := read(dir)
		if err != nil {
			return err
		}
		after := change(slices.Clone(before))
		if slices.EqualFunc(before, after, func(a, b note) bool { return a.ID == b.ID && a.Owner == b.Owner }) {
			return nil
		}
		return lock.WriteJSON(filepath.Join(dir, file), after)
	})
}

// read gives the notes of a directory that only this user changes: what they name is run.
func read(dir string) (notes []note, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return nil, hint.New(fmt.Errorf("%s: others may change it", dir), "make it a directory of this user that nobody else can write to")
	}
	if err := lock.ReadJSON(filepath.Join(dir, file), &notes); err != nil {
		return nil, hint.New(err, "start by hand what hooks may have stopped, and move the file away")
	}
	return notes, nil
}

// A process is told from all others, also from later ones of the same number.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // in ticks since the machine started
	Boot  string `json:"boot"`
}

// identify looks at a process, which is fs.ErrNotExist if it has ended.
func identify(pid string) (p process, err error) {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if errors.Is(err, unix.ESRCH) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return p, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return p, err
	}
	// proc_pid_stat(5): pid (comm) state ..., of which starttime is the 22nd
	end := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[end+1:]))
	if _, err := fmt.Sscan(string(stat), &p.PID); err != nil || len(fields) < 20 {
		return p, fmt.Errorf("/proc/%s/stat: not understood: %.100q", pid, stat)
	}
	if strings.Contains("ZXx", fields[0]) {
		return p, fs.ErrNotExist
	}
	p.Start, p.Boot = fields[19], strings.TrimSpace(string(boot))
	return p, nil
}

// lives tells that the process has not ended, as far as is known.
func (p process) lives() bool {
	now, err := identify(fmt.Sprint(p.PID))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return now == p
}
