package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// sendTwo takes two snapshots, and sends the second as an increment to the first.
func sendTwo(t testing.TB, s *Source, d *Destination) {
	t.Helper()
	format, err := d.Accepts(t.Context())
	check(t, err)
	var parent *btrfs.Subvolume
	for _, name := range []string{"first", "second"} {
		check(t, os.WriteFile(filepath.Join(s.sourcePath, name), []byte("content"), 0o644))
		taken, err := s.Take(t.Context(), name)
		check(t, err)
		transfer := engine.Transfer{Snapshot: taken, Parent: parent}
		r, err := d.Receive(t.Context(), stream.Transfer{Transfer: transfer, Format: format})
		check(t, err)
		check(t, s.Send(t.Context(), stream.Transfer{Transfer: transfer, Format: format}, sendstream.Prefix{}, r))
		received, err := r.Close(t.Context())
		check(t, err)
		if (parent == nil) != received.ParentUUID.IsZero() {
			t.Errorf("%s has the parent %s", name, received.ParentUUID)
		}
		check(t, r.Commit(t.Context(), s.Origin()))
		parent = &taken
	}
}

func TestASourceThatCannotBeSnapshottedIsRefusedAndNothingIsCreated(t *testing.T) {
	t.Parallel()
	top, elsewhere := btrfstest.New(t, testSize).Dir, btrfstest.New(t, testSize).Dir
	home, plain, outside := newSubvolume(t, top, "home"), newDir(t, top, "plain"), t.TempDir()
	tests := []struct {
		name, source, folder string
		want                 error // if it is known
		hint                 string
	}{
		{"missing", filepath.Join(top, "missing"), "", fs.ErrNotExist, "nothing was created"},
		{"plain directory", plain, "", btrfs.ErrNotSubvolume, "whole subvolumes"},
		{"not btrfs", outside, "", btrfs.ErrNotBtrfs, "must be a btrfs subvolume"},
		{"folder not on btrfs", home, filepath.Join(outside, "folder"), btrfs.ErrNotBtrfs, ""},
		{"folder on another filesystem", home, filepath.Join(elsewhere, "folder"), nil, "--snapshot-folder"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := NewSource(here, test.source, test.folder, silent)
			err := s.Open(t.Context())
			defer s.Close()
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(hint.Of(err), test.hint) {
				t.Errorf("error: %v, hint: %q", err, hint.Of(err))
			}
		})
	}
	wantNames(t, top, "home", "plain")
	for _, dir := range []string{home, plain, outside, elsewhere} {
		wantNames(t, dir)
	}
}

func TestNestedSubvolumesAndMountsAreThoseThatNoSnapshotHolds(t *testing.T) {
	t.Parallel()
	top := btrfstest.New(t, testSize).Dir
	home := newSubvolume(t, top, "home")
	newSubvolume(t, home, "nested")
	newSubvolume(t, newDir(t, home, "below"), "too")
	newSubvolume(t, home, "nested", "deeper") // is told by a backup of nested
	inside, outside := newDir(t, home, "snapshot"), newDir(t, top, "outside")
	for _, folder := range []string{inside, outside} {
		s := openSource(t, home, folder, silent)
		_, err := s.Take(t.Context(), "taken")
		check(t, err)
	}
	newSubvolume(t, inside, "somebody's")
	mounted := newDir(t, home, "mounted")
	btrfstest.Run(t, "mount", "-t", "tmpfs", "none", mounted)
	t.Cleanup(func() { btrfstest.Unmount(t, mounted) })
	tests := []struct {
		folder string
		want   []string
	}{
		{inside, []string{"below/too", "mounted", "nested"}},
		{outside, []string{"below/too", "mounted", "nested", "snapshot/somebody's"}},
	}
	for _, test := range tests {
		got, err := openSource(t, home, test.folder, silent).Omitted(t.Context())
		check(t, err)
		if !slices.Equal(got, test.want) {
			t.Errorf("with the snapshots in %s: %q, want %q", test.folder, got, test.want)
		}
	}
}

func TestAPlaceIsTheSameUnderEveryPath(t *testing.T) {
	t.Parallel()
	top := btrfstest.New(t, testSize).Dir
	folder := newDir(t, newSubvolume(t, top, "a"), "folder")
	check(t, os.Symlink(folder, top+"/link"))
	newDir(t, newSubvolume(t, top, "b"), "folder") // the same inode number
	want := openDestination(t, folder, silent).At()
	for path, same := range map[string]bool{
		folder: true, top + "/link": true, bind(t, folder): true, top + "/b/../a/folder/.": true,
		top + "/b/folder": false, top + "/a": false, top: false,
	} {
		if got := openDestination(t, path, silent).At(); (got == want) != same {
			t.Errorf("%s is at %+v, %s at %+v", path, got, folder, want)
		}
	}
}

func TestTheLedgerIsReplacedAndReadBack(t *testing.T) {
	t.Parallel()
	s := openSource(t, newSubvolume(t, btrfstest.New(t, testSize).Dir, "home"), "", silent)
	l, err := listedLedger(t, s)
	check(t, err)
	if len(l.Holds("1")) > 0 {
		t.Errorf("a missing ledger holds %v", l.Holds("1"))
	}
	for _, destination := range []string{"/mnt/a", "/mnt/b"} {
		l.SetCommon(destination, "1")
		check(t, s.WriteLedger(t.Context(), l))
	}
	wantNames(t, s.path, lock.LedgerFile)
	l, err = listedLedger(t, s)
	check(t, err)
	if !l.Knows("/mnt/a") || !l.Knows("/mnt/b") {
		t.Errorf("read back as %s", l.Marshal())
	}
	check(t, os.WriteFile(filepath.Join(s.path, lock.LedgerFile), []byte("["), 0o644))
	if _, err := listedLedger(t, s); err == nil || hint.Of(err) == "" || !strings.Contains(err.Error(), s.path) {
		t.Errorf("a broken ledger: %v", err)
	}
}

// listedLedger lists the folder and parses the ledger that was in it.
func listedLedger(t testing.TB, s *Source) (*lock.Ledger, error) {
	t.Helper()
	found, err := s.List(t.Context(), func(string) bool { return true })
	check(t, err)
	return found.Ledger, found.LedgerErr
}
