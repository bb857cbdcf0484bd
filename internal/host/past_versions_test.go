package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/past"

	"golang.org/x/sys/unix"
)

// toldVersions gives versions as "NAME:PATH:CONTENT".
func toldVersions(t testing.TB, h host.Host, folder, file string, names ...string) (all []string) {
	t.Helper()
	found, err := open(t, h, folder).Versions(t.Context(), past.Order{Names: names, Path: file})
	check(t, err)
	for _, v := range found {
		all = append(all, fmt.Sprintf("%s:%s:%d", v.Name, v.Path, v.Content))
		if v.Failure != "" {
			t.Error(v.Failure)
		}
	}
	return all
}

func day(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }

// asUser does something on a thread that has the rights of nobody.
func asUser(t testing.TB, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, 65534, 65534, 65534)
		if errno == 0 {
			_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		}
		if errno != 0 {
			done <- errno
			return
		}
		done <- do()
	}()
	check(t, <-done)
}

func TestVersionsAreToldApartByContent(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		live := newSubvolume(t, top, "live")
		file := filepath.Join(live, "dir/file")
		check(t, os.Mkdir(filepath.Dir(file), 0o755))
		n := 0
		take := func() { n++; snapshot(t, live, filepath.Join(top, fmt.Sprint(n))) }
		content := func(c byte) []byte { return []byte(strings.Repeat(string(c), 200_000)) }
		check(t, os.WriteFile(filepath.Join(live, "dir/first"), content('a'), 0o644))
		take() // 1: under another name
		check(t, os.Rename(filepath.Join(live, "dir/first"), file))
		check(t, os.Chmod(file, 0o600))
		take() // 2: the same content, another ctime
		check(t, os.Chtimes(file, day(2), day(2)))
		take() // 3: the same content, another mtime
		check(t, os.WriteFile(file+"~", content('b'), 0o644))
		check(t, os.Chtimes(file+"~", day(3), day(3)))
		check(t, os.Rename(file+"~", file))
		take() // 4: another content of that size, in another file
		check(t, os.Rename(filepath.Join(live, "dir"), filepath.Join(live, "moved")))
		take() // 5: the directory was renamed
		check(t, os.Remove(filepath.Join(live, "moved/file")))
		take() // 6: it is gone
		got := toldVersions(t, h, top, "moved/file", "6", "5", "4", "3", "2", "1")
		// In 4 it is another file than in 3, and so the path in 3 is that of 4.
		want := []string{"5:moved/file:1", "4:dir/file:1", "3:dir/file:2", "2:dir/file:2", "1:dir/first:2"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestNothingLeadsOutOfABackup(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		hostile := newSubvolume(t, top, "live")
		check(t, os.Symlink("/etc", filepath.Join(hostile, "absolute")))
		check(t, os.Symlink("../../../../../../../../etc", filepath.Join(hostile, "relative")))
		check(t, syscall.Mkfifo(filepath.Join(hostile, "fifo"), 0o600))
		snapshot(t, hostile, filepath.Join(top, "backup"))
		check(t, os.Symlink("/", filepath.Join(top, "link")))
		d := open(t, h, top)
		for _, file := range []string{"absolute/passwd", "relative/passwd", "../live/fifo", "/etc/passwd", "x/../../live/fifo", "", "."} {
			found, err := d.Versions(t.Context(), past.Order{Names: []string{"backup"}, Path: file})
			if err == nil && len(found) > 0 && found[0].Failure == "" {
				t.Errorf("%q: %+v", file, found)
			}
		}
		for _, name := range []string{"link", "..", ".", "backup/absolute", ""} {
			found, err := d.Versions(t.Context(), past.Order{Names: []string{name}, Path: "etc/passwd"})
			if err == nil && len(found) > 0 && found[0].Failure == "" {
				t.Errorf("in %q: %+v", name, found)
			}
		}
		if got := toldVersions(t, h, top, "fifo", "backup"); len(got) != 1 {
			t.Error(got)
		}
	})
}

func TestAUserSeesVersionsOfHisOwnFile(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	check(t, os.Chmod(top, 0o755))
	live := newSubvolume(t, top, "live")
	file := filepath.Join(live, "file")
	for i, c := range []string{"one", "two", "two"} {
		check(t, os.WriteFile(file, []byte(c), 0o600))
		check(t, os.Chown(file, 65534, 65534))
		check(t, os.Chtimes(file, day(i+1), day(i+1)))
		snapshot(t, live, filepath.Join(top, fmt.Sprint(i)))
	}
	dir := btrfstest.Open(t, top)
	var found []past.Version
	asUser(t, func() (err error) {
		found, err = past.Versions(t.Context(), dir, past.Order{Names: []string{"2", "1", "0"}, Path: "file"})
		return err
	})
	if len(found) != 3 || found[0].Content != found[1].Content || found[1].Content == found[2].Content {
		t.Errorf("%+v", found)
	}
}

func BenchmarkVersionsOf200Snapshots(b *testing.B) {
	top := btrfstest.New(b, testSize).Dir
	live := newSubvolume(b, top, "live")
	var names []string
	for i := range 200 {
		check(b, os.WriteFile(filepath.Join(live, "file"), make([]byte, 100_000+i/10), 0o644))
		check(b, btrfs.Snapshot(btrfstest.Open(b, live), btrfstest.Open(b, top), fmt.Sprint(i)))
		names = append([]string{fmt.Sprint(i)}, names...)
	}
	dir := btrfstest.Open(b, top)
	for b.Loop() {
		if found, err := past.Versions(b.Context(), dir, past.Order{Names: names, Path: "file"}); err != nil || len(found) != 200 {
			b.Fatal(len(found), err)
		}
	}
}
