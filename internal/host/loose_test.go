package host_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"

	"golang.org/x/sys/unix"
)

// filesOrder chooses the tree in a backup.
func filesOrder(t testing.TB, from *host.Dir, paths ...string) (files.Selection, files.Order) {
	t.Helper()
	s := files.Selection{Backup: "backup", Paths: paths}
	found, err := from.FindFiles(t.Context(), s)
	check(t, err)
	o := files.Order{Beside: ".restored"}
	for _, f := range found {
		o.Items = append(o.Items, files.Item{Path: f.Path, To: f.Path, Entry: f.Entry, Above: f.Above})
	}
	return s, o
}

// carryFiles packs on one host and unpacks on another.
func carryFiles(t testing.TB, from, to *host.Dir, s files.Selection, o files.Order) (files.Packed, files.Report, error) {
	t.Helper()
	placed, err := to.PlaceFiles(t.Context(), o)
	check(t, err)
	u, err := to.UnpackFiles(t.Context(), o, placed)
	check(t, err)
	var total int64
	packed, err := from.PackFiles(t.Context(), s, func(bytes int64) { total = bytes }, func(records []files.Record) error {
		return u.Take(t.Context(), records)
	})
	report, endErr := u.End(t.Context(), err == nil)
	if err == nil {
		err = endErr
	}
	if total == 0 {
		t.Error("no total was told")
	}
	return packed, report, err
}

func TestFilesComeBackBetweenAnyTwoMachines(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	btrfstest.Populate(t, newDir(t, top, "backup"), 1)
	others := map[string]host.Host{"local": local.New(silent), "agent": newAgent(t)}
	for here, from := range map[string]host.Host{"local": local.New(silent), "agent": newAgent(t)} {
		for there, to := range others {
			target := newDir(t, top, here+" "+there)
			f, at := open(t, from, top), open(t, to, target)
			s, o := filesOrder(t, f, "files", "links", "special", "xattrs", "owners")
			packed, report, err := carryFiles(t, f, at, s, o)
			if err != nil || report.Failures.Count+report.Lost.Count+packed.Failures.Count > 0 || report.Files != packed.Files {
				t.Errorf("%s to %s: %v, %+v, %+v", here, there, err, packed, report)
			}
			for _, dir := range s.Paths {
				btrfstest.Equal(t, filepath.Join(top, "backup", dir), filepath.Join(target, dir))
			}
		}
		target := newDir(t, top, here)
		f, at := open(t, from, top), open(t, from, target)
		s, o := filesOrder(t, f, "extents")
		placed, err := at.PlaceFiles(t.Context(), o)
		check(t, err)
		var done, total int64
		packed, report, err := f.CopyFiles(t.Context(), s, host.FilesTarget{Directory: at.Status(), Order: o, Placed: placed}, func(d, all int64) { done, total = d, all })
		if err != nil || report.Shared == 0 || report.Bytes != packed.Bytes || done != total || total == 0 {
			t.Errorf("%s: %v, %+v, %+v, %d of %d", here, err, packed, report, done, total)
		}
		btrfstest.Equal(t, top+"/backup/extents", target+"/extents")
	}
}

func TestAFullDiskOfAFarMachineIsToldWithWhatWasWritten(t *testing.T) {
	btrfstest.RequireRoot(t)
	top, small := t.TempDir(), btrfstest.NewOther(t, "ext4", 16<<20).Dir
	writeFile(t, top+"/backup/a/first", 1<<20)
	writeFile(t, top+"/backup/a/large", 40<<20)
	from, to := open(t, local.New(silent), top), open(t, newAgent(t), small)
	s, o := filesOrder(t, from, "a")
	_, report, err := carryFiles(t, from, to, s, o)
	if !errors.Is(err, unix.ENOSPC) || report.Files != 1 || report.Unfinished != ".a.incoming" {
		t.Errorf("%v, %+v", err, report)
	}
	wantNames(t, small, ".a.incoming", "lost+found")
	wantNames(t, small+"/.a.incoming", "first")
}

func writeFile(t testing.TB, path string, size int) {
	t.Helper()
	newDir(t, filepath.Dir(path))
	script(t, filepath.Dir(path), filepath.Base(path), strings.Repeat("x", size))
}
