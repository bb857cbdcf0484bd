package files_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// FuzzUnpack writes what another machine says, and looks whether anything came to be beside the target.
func FuzzUnpack(f *testing.F) {
	dir := files.Entry{Type: manifest.Directory, Mode: 0o755}
	link := files.Entry{Depth: 1, Name: "link", Type: manifest.Symlink, Target: "../.."}
	file := files.Entry{Depth: 1, Name: "file", Type: manifest.Regular, Size: 3, Link: 1, Xattrs: []manifest.Xattr{{Name: "user.x", Value: []byte("y")}}}
	other := file
	other.Name, other.Depth = "../other", 2
	seed, err := wire.Encode([]files.Record{{Entry: &dir}, {Entry: &link}, {Entry: &file}, {Content: []byte("abc")}, {End: true}, {Entry: &other}})
	btrfstest.Check(f, err)
	f.Add([]byte(seed))
	f.Fuzz(func(t *testing.T, data []byte) {
		var records []files.Record
		if wire.Raw(data).Decode(&records) != nil {
			return
		}
		for _, r := range records {
			if e := r.Entry; e != nil && (e.Type == manifest.BlockDevice || e.Type == manifest.CharDevice) {
				return // of no use on this machine
			}
		}
		around := t.TempDir()
		to := filepath.Join(around, "to")
		btrfstest.Check(t, os.Mkdir(to, 0o755))
		target := btrfstest.Open(t, to)
		o := files.Order{Items: []files.Item{{Path: "d", To: "d", Entry: dir}}}
		placed, err := files.Place(target, o)
		btrfstest.Check(t, err)
		u := files.NewUnpacker(target, o, placed)
		defer u.Close()
		for _, r := range records {
			if u.Take(r) != nil {
				break
			}
		}
		_, _ = u.Finish()
		entries, err := os.ReadDir(around)
		if err != nil || len(entries) != 1 {
			t.Errorf("%v came to be beside the target, %v", entries, err)
		}
	})
}
