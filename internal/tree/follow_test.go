package tree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

const (
	// settled is longer than a file must rest for it to be read.
	settled = 2 * time.Second
	// passes is long enough for several.
	passes = 3 * time.Second
)

// begin prepares a first backup and gives its directory.
func (r *rig) begin(name string) string {
	r.t.Helper()
	return mustBegin(r.t, r.folder, Order{Name: name, Origin: Origin{Source: "source"}}).Path
}

// follow follows a copy, and gives the function that ends that.
func (r *rig) follow(name string) (end func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.folder.Follow(ctx, name) }()
	return func() {
		r.t.Helper()
		cancel()
		check(r.t, <-ended)
	}
}

// arrive writes files as rsync does, which have their names when they are complete.
func arrive(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".123456")
		check(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, temporary), []byte("content of "+path), 0o644))
		check(t, os.Rename(filepath.Join(dir, temporary), filepath.Join(dir, path)))
	}
}

// awaitRead waits until so many files were read.
func (r *rig) awaitRead(name string, n int) {
	r.t.Helper()
	for range 3000 {
		if r.countRead(name) >= n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("%d files were read in five minutes, want %d", r.countRead(name), n)
}

// countRead tells how many times a file was read.
func (r *rig) countRead(name string) int {
	r.t.Helper()
	notes, err := r.folder.notes(name)
	check(r.t, err)
	return len(notes)
}

// finish makes a backup and gives how many bytes that read.
func (r *rig) finish(name string) (read int64) {
	r.t.Helper()
	_, err := r.folder.Finish(r.t.Context(), result(name, ""), func(n int64) { read += n })
	check(r.t, err)
	return read
}

func TestWhatWasReadDuringTheCopyIsNotReadAgain(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		dir := r.begin("1")
		end := r.follow("1")
		arrive(t, dir, "a", "b/c/d")
		time.Sleep(settled)
		arrive(t, dir, "b/c/e", "b/f/g") // in directories that were looked at before
		r.awaitRead("1", 4)
		time.Sleep(passes)
		end()
		if n := r.countRead("1"); n != 4 {
			t.Errorf("files were read %d times", n)
		}
		write(t, dir, "late")
		if read, want := r.finish("1"), int64(len("content of late")); read != want {
			t.Errorf("%d bytes were read, want %d", read, want)
		}
		v, err := r.folder.Verify(t.Context(), "1", VerifyOptions{}, func(d Difference) { t.Errorf("it differs: %+v", d) }, unwatched)
		if err != nil || v.Files != 5 {
			t.Errorf("%d files, %v", v.Files, err)
		}
		if files, err := os.ReadDir(r.path(StateDir + "/" + state.Manifests)); err != nil || len(files) != 2 {
			t.Errorf("besides manifest and record there are %v, %v", files, err)
		}
	})
}

func TestWhatChangesAfterItWasReadIsReadAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	dir := r.begin("1")
	end := r.follow("1")
	arrive(t, dir, "content", "attribute", "replaced")
	r.awaitRead("1", 3)
	end()
	for _, name := range []string{"content", "replaced"} { // size and time tell nothing
		full := filepath.Join(dir, name)
		st := stat(t, full)
		if name == "replaced" {
			check(t, os.Remove(full))
		}
		check(t, os.WriteFile(full, []byte("CONTENT OF "+name), 0o644))
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{st.Atim, st.Mtim}, 0))
	}
	check(t, os.Chmod(filepath.Join(dir, "attribute"), 0o600))
	if read, want := r.finish("1"), int64(len("content of content")+len("content of attribute")+len("content of replaced")); read != want {
		t.Errorf("%d bytes were read, want %d", read, want)
	}
	_, err := r.folder.Verify(t.Context(), "1", VerifyOptions{}, func(d Difference) { t.Errorf("it differs: %+v", d) }, unwatched)
	check(t, err)
}

func TestLinksAreNotReadDuringTheCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.write("old", "of the base")
	r.backup("1", "")
	r.write("new", "new")
	r.copy("2", "1")
	end := r.follow("2")
	r.awaitRead("2", 1)
	end()
	if n := r.countRead("2"); n != 1 {
		t.Errorf("%d files were read", n)
	}
}

func TestFollowingIsNoTroubleWhereDirectoriesComeAndGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	dir := r.begin("1")
	end := r.follow("1")
	for stop := time.Now().Add(settled + passes); time.Now().Before(stop); {
		for i := range 20 {
			write(t, dir, fmt.Sprintf("%d/a/file", i), fmt.Sprintf("%d/b/file", i))
		}
		time.Sleep(100 * time.Millisecond)
		check(t, os.RemoveAll(filepath.Join(dir, "7")))
		check(t, os.Rename(filepath.Join(dir, "8/a"), filepath.Join(dir, "8/c")))
		check(t, os.RemoveAll(filepath.Join(dir, "8/c")))
		check(t, os.RemoveAll(filepath.Join(dir, "9")))
		check(t, os.Symlink(t.TempDir(), filepath.Join(dir, "9")))
		check(t, os.Remove(filepath.Join(dir, "9")))
	}
	end()
	r.finish("1")
	_, err := r.folder.Verify(t.Context(), "1", VerifyOptions{}, func(d Difference) { t.Errorf("it differs: %+v", d) }, unwatched)
	check(t, err)
}

func TestADamagedListOfWhatWasReadIsNoTrouble(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	dir := r.begin("1")
	arrive(t, dir, "file")
	check(t, os.WriteFile(r.path(StateDir+"/"+notesFile("1")+state.TemporaryEnd), []byte(strings.Repeat("torn", 50)), 0o600))
	if read := r.finish("1"); read != int64(len("content of file")) {
		t.Errorf("%d bytes were read", read)
	}
}
