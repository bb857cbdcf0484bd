package volume

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"

	"golang.org/x/sys/unix"
)

// sourceOn opens a source on a machine.
func sourceOn(t testing.TB, h host.Host) *Source {
	t.Helper()
	s := NewSource(h, newSubvolume(t, btrfstest.New(t, testSize).Dir, "home"), "", silent)
	check(t, s.Open(t.Context()))
	check(t, s.create(t.Context(), s.checkFolder))
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func TestAFailedSendComesWithAHint(t *testing.T) {
	btrfstest.RequireRoot(t)
	s := sourceOn(t, here)
	file := filepath.Join(s.sourcePath, "damaged")
	check(t, os.WriteFile(file, make([]byte, 1<<20), 0o644))
	_, err := s.Take(t.Context(), "damaged")
	check(t, err)
	btrfstest.Damage(t, file, 0)
	btrfstest.DropCaches(t, filepath.Join(s.path, "damaged", "damaged"))
	sendErr := s.Send(t.Context(), transferOf("damaged"), sendstream.Prefix{}, io.Discard)
	checkExplained(t, sendErr, sendErr, nil, "a file of the snapshot cannot be read")

	makeDeep(t, open(t, s.sourcePath))
	_, err = s.Take(t.Context(), "deep")
	check(t, err)
	_, measureErr := s.Measure(t.Context(), transferOf("deep"))
	checkExplained(t, measureErr, measureErr, unix.ENAMETOOLONG, "rename a directory above them")
}

// makeDeep makes a directory whose path is longer than what a path may have.
func makeDeep(t testing.TB, dir *os.File) {
	t.Helper()
	name := strings.Repeat("x", 255)
	for range 17 {
		check(t, unix.Mkdirat(int(dir.Fd()), name, 0o755))
		inner, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		check(t, err)
		dir = os.NewFile(uintptr(inner), name)
		defer dir.Close()
	}
}

func TestAFailedReceiveComesWithAHint(t *testing.T) {
	btrfstest.RequireRoot(t)
	failing := fakeBtrfs(t, `cat >/dev/null; echo 'write to f failed: No space left on device' >&2; exit 1`)
	d := NewDestination(failing, btrfstest.New(t, testSize).Dir, nil, withStock())
	check(t, d.Open(t.Context()))
	t.Cleanup(func() { check(t, d.Close()) })
	r, err := d.Receive(t.Context(), transferOf("new"))
	check(t, err)
	_, err = r.Write(streamtest.Stream(1, streamtest.Subvol()))
	check(t, err)
	_, err = r.Close(t.Context())
	checkExplained(t, err, err, unix.ENOSPC, "make room at "+d.path)
	check(t, r.Abort(t.Context()))
}

// withStock lets the program btrfs receive.
func withStock() Options {
	o := silent
	o.Stock = true
	return o
}

func TestTheProgramIsMissedOnlyWhereItIsToReceive(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	missing := local.New(silent.Log)
	s, d := sourceOn(t, missing), NewDestination(missing, top, nil, withStock())
	_, err := s.Take(t.Context(), "new")
	check(t, err)
	check(t, d.Open(t.Context()))
	t.Cleanup(func() { check(t, d.Close()) })
	t.Setenv("PATH", t.TempDir())
	for name, do := range map[string]func() error{
		"check":  func() error { return d.CheckPrograms(t.Context()) },
		"accept": func() error { _, err := d.Accepts(t.Context()); return err },
		"receive": func() error {
			r, err := d.Receive(t.Context(), transferOf("new"))
			check(t, err)
			_, err = r.Close(t.Context())
			check(t, r.Abort(t.Context()))
			return err
		},
	} {
		if err := do(); !strings.Contains(hint.Of(err), "install btrfs-progs") {
			t.Errorf("%s: error: %v, hint: %q", name, err, hint.Of(err))
		}
	}
	d.Stock = false
	check(t, d.CheckPrograms(t.Context()))
	_, err = d.Accepts(t.Context())
	check(t, err)
	check(t, s.Send(t.Context(), transferOf("new"), sendstream.Prefix{}, io.Discard))
	_, err = s.Measure(t.Context(), transferOf("new"))
	check(t, err)
}
