package tree

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
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

func TestHolesAreReadByNobody(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xfs", "btrfs"} { // which hold such files, and share extents
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, kind)
			var read int64
			make := func(name, base, file string) Record {
				t.Helper()
				work := mustBegin(t, r.folder, Order{Name: name, Base: base, Origin: Origin{Source: "source"}})
				sparse, err := os.Create(filepath.Join(work.Path, file))
				check(t, err)
				check(t, sparse.Truncate(1<<31))
				_, err = sparse.WriteAt([]byte(strings.Repeat("data", 10_000)), 1<<30)
				check(t, err)
				check(t, sparse.Close())
				check(t, os.Chtimes(sparse.Name(), time.Time{}, time.Unix(1e9, 0)))
				record, err := r.folder.Finish(t.Context(), result(name, base), func(n int64) { read += n })
				check(t, err)
				return record
			}
			make("1", "", "file")
			if of2 := make("2", "1", "moved"); of2.Shared == 0 || of2.Shared > 100_000 {
				t.Errorf("%d bytes share their space", of2.Shared)
			}
			v, err := r.folder.Verify(t.Context(), "2", VerifyOptions{}, func(d Difference) { t.Errorf("it differs: %+v", d) }, unwatched)
			check(t, err)
			const most = 100_000
			if v.Bytes == 0 || v.Bytes > 2*most || read > 2*most {
				t.Errorf("%d bytes are read in the end, %d to verify them", read, v.Bytes)
			}
			indexed, err := r.folder.Index(t.Context(), IndexOptions{})
			check(t, err)
			if indexed.Read > 0 || indexed.Contents != 1 {
				t.Errorf("%+v are indexed", indexed)
			}
		})
	}
}

func TestSha256sumIsTheJudgeOfSparseFilesToo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.write("sparse", "start")
	r.write("file", "content")
	w := r.copy("1", "")
	check(t, os.Truncate(w.Path+"/sparse", 20<<20))
	_, err := r.folder.Finish(t.Context(), result("1", ""), nil)
	check(t, err)
	if !r.entry("1", "sparse").Sparse || r.entry("1", "file").Sparse {
		t.Fatal("the wrong file is sparse")
	}
	var list bytes.Buffer
	check(t, r.folder.Export(t.Context(), "1", &list))
	sums := filepath.Join(t.TempDir(), "list")
	check(t, os.WriteFile(sums, list.Bytes(), 0o600))
	btrfstest.Run(t, "sh", "-c", `cd "$1" && sha256sum --strict --check "$2"`, "-", r.path("1"), sums)
	if n := strings.Count(list.String(), "\n"); n != 2 {
		t.Errorf("%d files are in the list", n)
	}
	check(t, os.Truncate(r.path("1/sparse"), 0))
	check(t, os.Truncate(r.path("1/sparse"), 20<<20))
	if err := r.folder.Export(t.Context(), "1", &list); err == nil {
		t.Error("a damaged file gets a checksum")
	}
}
