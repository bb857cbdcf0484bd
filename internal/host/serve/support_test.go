package serve

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
)

const size = 256 << 20

func newHost() *local.Host { return local.New(slog.New(slog.DiscardHandler)) }

// open opens a directory of this machine, which is made if it is missing.
func open(t testing.TB, h *local.Host, path ...string) *local.Dir {
	t.Helper()
	dir := filepath.Join(path...)
	btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	d, err := h.OpenDir(dir)
	btrfstest.Check(t, err)
	t.Cleanup(func() { btrfstest.Check(t, d.Close()) })
	return d
}

func newSubvolume(t testing.TB, path ...string) string {
	t.Helper()
	full := filepath.Join(path...)
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, filepath.Dir(full)), filepath.Base(full)))
	return full
}

func info(t testing.TB, path ...string) btrfs.Subvolume {
	t.Helper()
	s, err := btrfs.Info(btrfstest.Open(t, filepath.Join(path...)))
	btrfstest.Check(t, err)
	return s
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
