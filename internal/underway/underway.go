// Package underway lets runs tell other processes of the same user how far they have come.
//
// Each run has a directory of its own, which it locks, and a file in it that it replaces about once a second. What a run tells is believed
// only while that lock is held: the kernel drops it with the process, so nobody is told of a run that was killed. Nothing
// fails because it could not be told.
package underway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Run is one that is under way.
type Run struct {
	PID       int            `json:"pid"`
	Job       string         `json:"job,omitempty"` // of a configuration
	Source    string         `json:"source"`
	Began     time.Time      `json:"began"`
	Transfers []progress.Now `json:"transfers,omitempty"` // none: it prepares one, or tidies up
}

const (
	folder   = "underway" // in the directory of what runs keep on this machine until it stops
	file     = "run.json"
	interval = time.Second
)

// Begin tells of a run in a directory until end is called, by what a display shows, and gives the display for its transfers. Without
// one, nothing is shown.
func Begin(ctx context.Context, dir string, r Run, display *progress.Display) (_ *progress.Display, end func()) {
	r.PID = os.Getpid()
	own := filepath.Join(dir, folder, fmt.Sprintf("%d-%d", r.PID, r.Began.UnixNano()))
	held, err := begin(ctx, own)
	if err != nil {
		return display, func() {}
	}
	if display == nil {
		display = progress.Silent()
	}
	tell := func(transfers []progress.Now) {
		r.Transfers = transfers
		if content, err := json.Marshal(r); err == nil {
			_ = renameio.WriteFile(filepath.Join(own, file), content, 0o600)
		}
	}
	tell(nil)
	display.Watch(interval, tell)
	return display, func() {
		display.Close()
		_ = os.RemoveAll(own)
		_ = held.Release()
	}
}

// begin makes the directory of a run and locks it, and removes those of runs that were killed.
func begin(ctx context.Context, own string) (held *lock.Lock, err error) {
	all := filepath.Dir(own)
	err = lock.InDir(ctx, all, func() error {
		for _, one := range directories(all) {
			if !isHeld(ctx, one) {
				_ = os.RemoveAll(one)
			}
		}
		if err := os.Mkdir(own, 0o700); err != nil {
			return err
		}
		dir, err := os.Open(own)
		if err != nil {
			return err
		}
		defer dir.Close()
		held, err = lock.Acquire(ctx, dir, func(*lock.HeldError) {}) // by who looks whether it is
		return err
	})
	return held, err
}

func directories(dir string) (all []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		all = append(all, filepath.Join(dir, e.Name()))
	}
	return all
}

// isHeld tells that a process which lives holds the lock of a directory.
func isHeld(ctx context.Context, path string) bool {
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	held, err := lock.Acquire(ctx, dir, nil)
	if err == nil {
		_ = held.Release()
		return false
	}
	return lock.IsHeld(err)
}

// Runs gives those that are under way, and tell so in a directory, in the order in which they began.
func Runs(ctx context.Context, dir string) (runs []Run) {
	for _, one := range directories(filepath.Join(dir, folder)) {
		content, err := os.ReadFile(filepath.Join(one, file))
		var r Run
		if err == nil && json.Unmarshal(content, &r) == nil && isHeld(ctx, one) {
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.PID, b.PID)) })
	return runs
}
