package tree

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func fillUp(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	check(t, err)
	defer file.Close()
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the filesystem: %v", err)
	}
	check(t, btrfs.SyncFilesystem(file))
}

func TestPartialCopyThatLeavesNoRoomGivesWay(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"btrfs", "xfs"} { // ext4 keeps blocks for root
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, kind)
			mine := Order{Name: "20260101-000000", Origin: Origin{Source: "host:/a"}}
			addBackup(t, f, mine, func(dir string) { write(t, dir, "file") })
			kept := filepath.Join(f.dir.Name(), mine.Name)
			mine.Base, mine.Name = mine.Name, "20260102-000000"
			other := mustBegin(t, f, Order{Name: "20260101-120000", Origin: Origin{Source: "host:/b"}})
			write(t, other.Path, "file")
			partial := mustBegin(t, f, mine)
			write(t, filepath.Join(partial.Path, "directory"), "file")
			unchanged(t, []string{kept, other.Path}, func() {
				fillUp(t, filepath.Join(partial.Path, "directory", "large"))
				mine.Name = "20260103-000000"
				if w := mustBegin(t, f, mine); w.Resumed {
					t.Error("the copy goes on where there is no room")
				}
				check(t, os.WriteFile(filepath.Join(f.dir.Name(), ".20260103-000000.incoming", "small"), make([]byte, 1<<20), 0o600))
			})
			if _, err := os.Lstat(partial.Path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the partial copy is there: %v", err)
			}
		})
	}
}

func TestNothingOfOthersGivesWayWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	other := mustBegin(t, f, Order{Name: "20260101-000000", Origin: Origin{Source: "host:/b"}})
	fillUp(t, filepath.Join(other.Path, "large"))
	unchanged(t, []string{other.Path}, func() {
		if _, err := f.Begin(t.Context(), Order{Name: "20260102-000000", Origin: Origin{Source: "host:/a"}}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("beginning: %v", err)
		}
	})
}
