package tree

import (
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A tree deeper than there are descriptors, whose paths are longer than the kernel takes, is like any other one. It is not parallel to
// other tests, which would lack descriptors.
func TestDepthTakesNeitherDescriptorsNorPaths(t *testing.T) {
	for _, kind := range []string{"ext4", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			f := newFolder(t, kind)
			var limit unix.Rlimit
			check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			few := unix.Rlimit{Cur: 128, Max: limit.Max}
			check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
			defer func() { check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()

			w := mustBegin(t, f, Order{Name: "a", Origin: Origin{Source: "s"}})
			const levels = 300
			deepen(t, w.Path, levels)
			if kind == "ext4" { // resumed, it loses the further names of files, wherever they are
				mustBegin(t, f, Order{Name: "a", Origin: Origin{Source: "s"}})
			}
			r, err := f.Finish(t.Context(), Result{Name: "a", MaxDelete: 100, Dedup: true}, nil)
			check(t, err)
			if r.Files != levels {
				t.Errorf("it has %d files", r.Files)
			}
			v, err := f.Verify(t.Context(), "a", VerifyOptions{}, func(d Difference) { t.Errorf("%.20s differs: %+v", d.Path, d) }, func(_, _ int64) {})
			check(t, err)
			if v.Files != levels {
				t.Errorf("%d files were verified", v.Files)
			}
			indexed, err := f.Index(t.Context(), IndexOptions{})
			check(t, err)
			if indexed.Files != levels {
				t.Errorf("%d files were indexed", indexed.Files)
			}
			_, err = f.Delete(t.Context(), []string{"a"})
			check(t, err)
			if exists(f.pathOf("a")) || exists(f.pathOf(btrfs.Incoming("a"))) || len(mustList(t, f).Leftovers) > 0 {
				t.Error("something is left of it")
			}
		})
	}
}

// deepen makes so many levels of directories with a file in each.
func deepen(t *testing.T, top string, levels int) {
	t.Helper()
	fd, err := unix.Open(top, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	check(t, err)
	name := strings.Repeat("d", 50)
	for range levels {
		file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		check(t, err)
		_, err = unix.Write(file, []byte("content"))
		check(t, err)
		check(t, unix.Close(file))
		check(t, unix.Mkdirat(fd, name, 0o700))
		below, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		check(t, err)
		check(t, unix.Close(fd))
		fd = below
	}
	check(t, unix.Close(fd))
}
