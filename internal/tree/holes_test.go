package tree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs/btrfstest"
)

// allocated gives the bytes that a file takes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	file := btrfstest.Open(t, path)
	check(t, file.Sync())
	return stat(t, path).Blocks * 512
}

func TestNewSparseFilesStaySparseWhereRsyncWritesInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	const size = 8 << 20
	sparse := func(name, start, end string) {
		t.Helper()
		r.write(name, start)
		full := filepath.Join(r.source, name)
		check(t, os.Truncate(full, size))
		file, err := os.OpenFile(full, os.O_WRONLY, 0)
		check(t, err)
		_, err = file.WriteAt([]byte(end), size-int64(len(end)))
		check(t, err)
		check(t, file.Close())
		check(t, os.Chtimes(full, time.Time{}, time.Unix(1e9, 123456789)))
	}
	r.write("changed", strings.Repeat("x", size))
	r.backup("1", "")
	sparse("new", "start", "end")
	sparse("changed", "start", "")
	sparse("capable", "start", "")
	btrfstest.Run(t, "setcap", "cap_net_raw+ep", r.source+"/capable")
	sparse("setuid", "start", "")
	check(t, os.Chmod(r.source+"/setuid", os.ModeSetuid|0o755))
	sparse("links/a", "start", "")
	check(t, os.Link(r.source+"/links/a", r.source+"/links/b"))
	r.write("dense", strings.Repeat("y", size))

	w := r.copy("2", "1")
	if n := allocated(t, filepath.Join(w.Path, "new")); n < size {
		t.Fatalf("rsync leaves holes itself: %d bytes are allocated", n)
	}
	of2 := result("2", "1")
	of2.InPlace, of2.Dedup = true, false
	_, err := r.folder.Finish(t.Context(), of2, nil)
	check(t, err)
	for name, holes := range map[string]bool{"new": true, "changed": true, "capable": false, "setuid": false, "links/b": true, "dense": false} {
		if n := allocated(t, r.path("2/"+name)); (n < 100_000) != holes {
			t.Errorf("%s takes %d bytes", name, n)
		}
	}
	btrfstest.Equal(t, r.source, r.path("2"))
	_, err = r.folder.Verify(t.Context(), "2", VerifyOptions{}, func(d Difference) { t.Errorf("it differs: %+v", d) }, unwatched)
	check(t, err)

	check(t, os.Chmod(r.source+"/new", 0o600))
	w = r.copy("3", "2")
	before := stat(t, filepath.Join(w.Path, "new"))
	of3 := result("3", "2")
	of3.InPlace, of3.Dedup = true, false
	var read int64
	_, err = r.folder.Finish(t.Context(), of3, func(n int64) { read += n })
	check(t, err)
	if read != 2*size { // of what changed, and of the file with two names, which Begin made two
		t.Errorf("%d bytes were read again", read)
	}
	if after := stat(t, r.path("3/new")); after.Ctim != before.Ctim {
		t.Error("holes were made where there are holes")
	}
	btrfstest.Equal(t, r.source, r.path("3"))
	if n := allocated(t, r.path("1/changed")); n < size {
		t.Error("an older backup changed")
	}
}

func TestHolesAreMadeOnlyWhereRsyncWroteInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	r.write("zeros", strings.Repeat("\x00", 1<<20))
	r.copy("1", "")
	before := stat(t, filepath.Join(r.path(".1.incoming"), "zeros"))
	_, err := r.folder.Finish(t.Context(), result("1", ""), nil)
	check(t, err)
	if after := stat(t, r.path("1/zeros")); after.Ctim != before.Ctim {
		t.Error("the file was changed")
	}
}
