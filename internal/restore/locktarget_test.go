package restore

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// onLog calls a function for each message.
type onLog struct {
	slog.Handler
	told func()
}

func (h onLog) Enabled(context.Context, slog.Level) bool { return true }
func (h onLog) Handle(context.Context, slog.Record) error {
	h.told()
	return nil
}

func TestATargetThatWasReplacedWhileARestoreWaitedIsLookedAtAnew(t *testing.T) {
	check := btrfstest.Check
	fs := btrfstest.New(t, 128<<20).Dir
	home := filepath.Join(fs, "home")
	for _, name := range []string{"home", "new"} {
		check(t, btrfs.Create(btrfstest.Open(t, fs), name))
		check(t, os.Mkdir(filepath.Join(fs, name, "snapshot"), 0o755))
	}
	held, err := lock.Acquire(t.Context(), btrfstest.Open(t, filepath.Join(home, "snapshot")), nil)
	check(t, err)
	waiting := slog.New(onLog{slog.DiscardHandler, func() {
		check(t, btrfs.Exchange(btrfstest.Open(t, fs), "home", "new"))
		check(t, held.Release())
	}})
	r := &run{Order: Order{To: local.New(slog.New(slog.DiscardHandler)), Target: home, InPlace: true}}
	r.Log = waiting
	defer func() { r.place.close() }()
	looks := 0
	look := func(ctx context.Context) error {
		looks++
		return r.place.open(ctx, r.Order)
	}
	check(t, look(t.Context()))
	old := r.place.target.Status().DirID
	unlock, err := r.lockTarget(t.Context(), look)
	check(t, err)
	defer unlock()
	if looks != 2 || r.place.target.Status().DirID == old {
		t.Errorf("looked at %d times", looks)
	}
}
