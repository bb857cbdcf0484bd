package mirror

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// directories are such as snapshots could be, of which nobody knows what changed.
type directories struct {
	folder string
	why    error
}

func (d directories) String() string                                   { return "source" }
func (d directories) Origin() host.Origin                              { return host.Origin{Subvolume: btrfs.UUID{1}} }
func (d directories) Folder() string                                   { return d.folder }
func (d directories) Nested(context.Context, string) ([]string, error) { return nil, nil }
func (d directories) Changes(context.Context, string, string, func(changes.Change)) error {
	return d.why
}

func TestWhatTheKernelDoesNotTellIsLookedAt(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	from := directories{t.TempDir(), errors.New("the stream makes no sense")}
	first, second := btrfs.Subvolume{Name: "1", UUID: btrfs.UUID{1, 1}}, btrfs.Subvolume{Name: "2", UUID: btrfs.UUID{1, 2}}
	write(t, filepath.Join(from.folder, first.Name), "same", "gone")
	write(t, filepath.Join(from.folder, second.Name), "same", "new")
	var told journal
	s := NewSource(here(), from.folder, SourceOptions{Log: told.log()})
	f := Follow(folderFor(t, s, Options{Log: told.log(), MaxDelete: 100}), from, here(), time.Hour)
	check(t, openOrCreate(t.Context(), f.Destination))
	defer f.Close()
	_, err := f.List(t.Context())
	check(t, err)
	for _, transfer := range []engine.Transfer{{Snapshot: first}, {Snapshot: second, Parent: &first}} {
		r, err := f.Save(t.Context(), transfer)
		check(t, err)
		if r.Backup.ReceivedUUID != transfer.Snapshot.UUID || r.Backup.Name != transfer.Snapshot.Name {
			t.Errorf("the backup is %+v", r.Backup)
		}
		btrfstest.Equal(t, filepath.Join(from.folder, transfer.Snapshot.Name), filepath.Join(f.path, transfer.Snapshot.Name))
	}
	if text := told.String(); !strings.Contains(text, "looking at all files") || !strings.Contains(text, from.why.Error()) {
		t.Error(text)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := f.Save(ended, engine.Transfer{Snapshot: btrfs.Subvolume{Name: "3", UUID: btrfs.UUID{1, 3}}, Parent: &second}); err == nil {
		t.Error("a run that was ended made a copy")
	}
	if _, err := os.Lstat(filepath.Join(f.path, "3")); err == nil {
		t.Error("it has its name")
	}
}
