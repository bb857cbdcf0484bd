package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// copyThenSay is an rsync that leaves half of the files, complains and ends with that status. Listings work.
func copyThenSay(status int, complaints ...string) string {
	script := `case "$*" in *--list-only*) exec "$real" "$@";; esac; "$real" --exclude=/half "$@"` + "\n"
	for _, line := range complaints {
		script += "cat >&2 <<'END'\n" + line + "\nEND\n"
	}
	return script + fmt.Sprintf("exit %d", status)
}

func TestAFailedRsyncMakesNoBackup(t *testing.T) {
	const summary = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]"
	for _, test := range []struct {
		status int
		said   string
		hint   string
	}{
		{1, "rsync: --frobnicate: unknown option", "--rsync-options"},
		{5, "@ERROR: auth failed on module x", "RSYNC_PASSWORD"},
		{10, "rsync: [sender] failed to connect to nas: Connection refused (111)", "does an rsync daemon listen there?"},
		{11, `rsync: [receiver] write failed on "/b/f": No space left on device (28)`, "make room"},
		{12, "rsync: connection unexpectedly closed (5 bytes received so far) [sender]", "broke off"},
		{19, "rsync error: received SIGUSR1 (code 19) at main.c(1660) [generator=3.5.0]", "signal"},
		{30, "rsync error: timeout in data send/receive (code 30) at io.c(200) [sender=3.5.0]", "--timeout"},
		{127, "sh: 1: rsync: not found", "install rsync"},
		{23, "", "the partial copy stays"},
		{23, summary, "the partial copy stays"},
		{23, `rsync: [receiver] mkstemp "/b/.f.XXXX" failed: No space left on device (28)`, "make room"},
		{23, `rsync: [generator] recv_generator: mkdir "/b/d" failed: Read-only file system (30)`, "for writing"},
		{23, `rsync: [receiver] rename "/b/.f.x" -> "f": Input/output error (5)`, "fault"},
		{23, `rsync: [generator] delete_file: unlink(gone) failed: Operation not permitted (1)`, ""},
		{23, `rsync: [receiver] rsync_xal_set: lsetxattr("/b/f","user.x") failed: Disk quota exceeded (122)`, "make room"},
		{23, `rsync: [sender] send_files failed to open "/s/f": Transport endpoint is not connected (107)`, ""},
		{23, `rsync: [sender] readlink_stat("/s/f") failed: Stale file handle (116)`, ""},
		{23, `rsync: [sender] change_dir "/s" failed: No such file or directory (2)`, ""},
		{23, `ERROR: rejecting unrequested file-list name: /etc`, ""},
		{23, `rsync: something that no version says`, ""},
		{23, `rsync: [sender] something that no version says`, ""},
		{23, `rsync: [sender] write error: Broken pipe (32)`, ""},
		// that files vanished does not outweigh what could not be written
		{24, `file has vanished: "/s/half"` + "\n" + `rsync: [receiver] mkstemp "/b/.f.XXXX" failed: No space left on device (28)`, "make room"},
		// what could not be read does not outweigh what could not be written
		{23, `rsync: [sender] opendir "/s/d" failed: Permission denied (13)` + "\n" +
			`rsync: [receiver] mkstemp "/b/.f.XXXX" failed: No space left on device (28)`, "make room"},
		// names that look like messages
		{23, `rsync: [receiver] mkstemp "/b/.a: Permission denied (13)\#012rsync: [sender] opendir "x".y" failed: No space left on device (28)`, "make room"},
	} {
		t.Run("", func(t *testing.T) {
			s := sourceOf(t, SourceOptions{}, "half", "other")
			rsyncIs(t, copyThenSay(test.status, test.said))
			f := folderFor(t, s, Options{})
			_, err := backUp(t.Context(), f, "a")
			says := fmt.Sprintf("status %d", test.status)
			if lines := strings.Split(test.said, "\n"); hopeless(lines[len(lines)-1]) {
				says = lines[len(lines)-1]
			}
			hint := mustRefuse(t, err, says)
			if !strings.Contains(hint, test.hint) || !strings.Contains(hint, "the partial copy stays") {
				t.Errorf("after %q: %v\nthe hint is %q", test.said, err, hint)
			}
			if got := names(t, f); len(got) > 0 {
				t.Errorf("after %q there are the backups %v", test.said, got)
			}
		})
	}
}

func TestVanishedFilesLeaveABackupComplete(t *testing.T) {
	s := sourceOf(t, SourceOptions{}, "half", "other")
	rsyncIs(t, copyThenSay(24, `file has vanished: "/s/half"`, "rsync warning: some files vanished before they could be transferred (code 24) at main.c"))
	f := folderFor(t, s, Options{})
	mustBackUp(t, f, "a")
	if got := names(t, f); !slices.Equal(got, []string{"a"}) {
		t.Errorf("there are the backups %v", got)
	}
}

func TestASourceThatVanishesMeanwhileMakesNoBackup(t *testing.T) {
	for _, away := range []string{`rm -r "$src"`, `rm -r "$src"; mkdir "$src"`, `rm "$src/.marker"`} {
		s := sourceOf(t, SourceOptions{Marker: ".marker"}, ".marker", "a", "b")
		f := folderFor(t, s, Options{})
		mustBackUp(t, f, "a")
		t.Run("", func(t *testing.T) {
			rsyncIs(t, "src="+s.path+"\n"+away+"\nexit 24")
			_, err := backUp(t.Context(), f, "b")
			mustRefuse(t, err, "after the copy: source "+s.path)
		})
		if got := names(t, f); !slices.Equal(got, []string{"a"}) {
			t.Errorf("there are the backups %v", got)
		}
	}
}

func TestWhatCouldNotBeReadMakesAnIncompleteBackup(t *testing.T) {
	for _, said := range []string{
		`rsync: [sender] send_files failed to open "/s/half": Permission denied (13)`,
		`rsync: send_files failed to open "/s/half": Permission denied (13)`, // before 3.2
		`rsync: [sender] opendir "/s/half" failed: Permission denied (13)`,
		`rsync: [sender] read errors mapping "/s/half": Input/output error (5)`,
		`rsync: [sender] send_files failed to open "/s/half" (in module): Permission denied (13)`,
		`ERROR: half failed verification -- update discarded.`,
		`rsync: [receiver] rsync_xal_set: lsetxattr("/b/half","user.x") failed: Operation not supported (95)`,
		`rsync: [generator] set_acl: sys_acl_set_file(half, ACL_TYPE_ACCESS): Operation not supported (95)`,
		`rsync: [receiver] chgrp "/b/.half.x" failed: Operation not permitted (1)`,
		`rsync: [generator] mknod "/b/half" failed: Operation not permitted (1)`,
		`rsync: [generator] mknod "/b/half" failed: Invalid argument (22)`, // on xfs
		`rsync: [generator] recv_generator: mkdir "/b/half" failed: Invalid argument (22)`,
		`rsync: [receiver] mkstemp "/b/.half.x" failed: Invalid or incomplete multibyte or wide character (84)`,
		`rsync: [generator] symlink "/b/half" -> "x" failed: File name too long (36)`,
		`filename overflows max-path len by 130: long/half`,
		`path too long: long/half`,
		`Time value of half truncated on receiver.`,
		`skipping overly long name: half`,
		`rsync: [sender] opendir "/s/a: No space left on device (28)/half" failed: Permission denied (13)`,
	} {
		s := sourceOf(t, SourceOptions{}, "half", "other")
		t.Run("", func(t *testing.T) {
			rsyncIs(t, copyThenSay(23, said, "Warning: Permanently added 'nas' to the list of known hosts.", `file has vanished: "/s/x"`,
				"rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]",
				"rsync: [Receiver] read error: Connection reset by peer (104)"))
			f := folderFor(t, s, Options{})
			copied, err := backUp(t.Context(), f, "a")
			check(t, err)
			var missing *IncompleteError
			if !errors.As(copied.Incomplete, &missing) || missing.Count != 1 || !slices.Equal(missing.Messages, []string{said}) {
				t.Errorf("after %q is missing: %+v", said, missing)
			}
			check(t, f.Open(t.Context()))
			defer f.Close()
			found, err := f.List(t.Context())
			check(t, err)
			if len(found.Recorded) != 1 || found.Recorded[0].Complete {
				t.Errorf("after %q the folder holds %+v", said, found.Recorded)
			}
		})
	}
}

func TestFilesThatAreUnreadableAreNamedAndTheRestIsCopied(t *testing.T) {
	btrfstest.RequireRoot(t)
	s := sourceOf(t, SourceOptions{}, "readable", "secret", "hidden/file")
	for _, name := range []string{"secret", "hidden"} {
		check(t, os.Chown(filepath.Join(s.path, name), 1234, 1234))
		check(t, os.Chmod(filepath.Join(s.path, name), 0))
	}
	rsyncIs(t, `exec setpriv --bounding-set=-dac_override,-dac_read_search "$real" "$@"`)
	f := folderFor(t, s, Options{})
	copied, err := backUp(t.Context(), f, "a")
	check(t, err)
	if hint := hint.Of(copied.Incomplete); !strings.Contains(hint, "run as root") {
		t.Errorf("the hint is %q", hint)
	}
	for _, name := range []string{"secret", "hidden"} {
		if copied.Incomplete == nil || !strings.Contains(copied.Incomplete.Error(), filepath.Join(s.path, name)) {
			t.Errorf("%s is not named: %v", name, copied.Incomplete)
		}
	}
	if content, err := os.ReadFile(filepath.Join(f.path, "a/readable")); err != nil || string(content) != "readable" {
		t.Errorf("what can be read is %q, %v", content, err)
	}
}

func TestASourceThatCannotBeListedAnyMoreMakesNoBackup(t *testing.T) {
	btrfstest.RequireRoot(t)
	s := sourceOf(t, SourceOptions{}, "a")
	check(t, os.Chown(s.path, 1234, 1234))
	rsyncIs(t, `chmod 0111 '`+s.path+`'; exec setpriv --bounding-set=-dac_override,-dac_read_search "$real" "$@"`)
	f := folderFor(t, s, Options{})
	_, err := backUp(t.Context(), f, "a")
	mustRefuse(t, err, "opendir")
	if got := names(t, f); len(got) > 0 {
		t.Errorf("there are the backups %v", got)
	}
}

func TestAnUnreadableSourceIsNoIncompleteBackup(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"/mnt/data", `/mnt/ä "x" \#007`, "/"} {
		for _, message := range []string{
			`rsync: [sender] opendir "%s" failed: Permission denied (13)`,
			`rsync: [sender] link_stat "%s/." failed: Input/output error (5)`,
			`rsync: opendir "%s/." (in module) failed: Permission denied (13)`,
			`directory has vanished: "%s"`,
		} {
			c := complaints{root: escaped(name)}
			if got := c.kindOf(fmt.Sprintf(message, escaped(name))); got != fatal {
				t.Errorf("of %s, %s is taken for %d", name, message, got)
			}
			if got := c.kindOf(fmt.Sprintf(message, escaped("/mnt/other"))); got == fatal {
				t.Errorf("of %s, %s is taken to be about the source", name, message)
			}
		}
	}
}

func TestOnlyTheFirstOfManyMessagesAreKept(t *testing.T) {
	t.Parallel()
	var c complaints
	for i := range 5000 {
		c.add(fmt.Sprintf(`rsync: [sender] send_files failed to open "/s/%d": Permission denied (13)`, i))
	}
	if len(c.missing) != maxMissing || c.count != 5000 {
		t.Errorf("%d messages of %d are kept", len(c.missing), c.count)
	}
	text := (&IncompleteError{c.missing, c.count}).Error()
	if want := "/s/0: Permission denied; /s/1: Permission denied; /s/2: Permission denied; /s/3: Permission denied; " +
		"/s/4: Permission denied; and 4995 more"; text != want {
		t.Errorf("it is told as %q", text)
	}
}

func TestWhatIsMissingIsToldByNameAndCause(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`rsync: [sender] send_files failed to open "/s/a": b": Permission denied (13)`:                     `/s/a": b: Permission denied`,
		`rsync: opendir "/s/dir" failed: Input/output error (5)`:                                           `/s/dir: Input/output error`,
		`rsync: [sender] readlink_stat("/s/l") failed: Input/output error (5)`:                             `/s/l: Input/output error`,
		`rsync: [receiver] rsync_xal_set: lsetxattr("/d/f","user.a") failed: Operation not supported (95)`: `rsync_xal_set: lsetxattr("/d/f","user.a") failed: Operation not supported (95)`,
		`skipping overly long name: x`:                                                                     `skipping overly long name: x`,
	} {
		if got := (&IncompleteError{[]string{message}, 1}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRsyncIsMissing(t *testing.T) {
	s := sourceOf(t, SourceOptions{}, "a")
	f := folderFor(t, s, Options{})
	t.Setenv("PATH", t.TempDir())
	_, err := backUp(t.Context(), f, "a")
	if hint := mustRefuse(t, err, "rsync"); !strings.HasPrefix(hint, "install rsync") {
		t.Errorf("the hint is %q", hint)
	}
}

func TestErrorsOfRsyncAreFoundByTheirErrno(t *testing.T) {
	s := sourceOf(t, SourceOptions{}, "a")
	rsyncIs(t, copyThenSay(11, `rsync: [receiver] write failed on "/b/f": No space left on device (28)`))
	_, err := backUp(t.Context(), folderFor(t, s, Options{}), "a")
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheDestinationCannotHoldLeavesTheRestSaved(t *testing.T) {
	from := btrfstest.New(t, imageSize)
	source := filepath.Join(from.Dir, "source")
	write(t, source, "a", "attributes/b")
	check(t, unix.Setxattr(filepath.Join(source, "attributes/b"), "user.long", make([]byte, 10000), 0))
	check(t, unix.Mknod(filepath.Join(source, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(4095, 1048575))))
	check(t, os.Symlink(strings.Repeat("z", 2000), filepath.Join(source, "link")))
	deep := btrfstest.Open(t, source)
	for range 22 {
		name := strings.Repeat("y", 200)
		check(t, unix.Mkdirat(int(deep.Fd()), name, 0o755))
		fd, err := unix.Openat(int(deep.Fd()), name, unix.O_RDONLY, 0)
		check(t, err)
		deep = os.NewFile(uintptr(fd), name)
		t.Cleanup(func() { deep.Close() })
	}
	s := NewSource(here(), source, SourceOptions{Log: quiet()})
	for fsType, says := range map[string][]string{
		"ext4":  {`"user.long"`, "overflows max-path len"},
		"xfs":   {`mknod "`, "symlink", "overflows max-path len"},
		"btrfs": {"overflows max-path len"},
	} {
		t.Run(fsType, func(t *testing.T) {
			top := btrfstest.NewOther(t, fsType, 320<<20).Dir
			f := NewDestination(here(), filepath.Join(top, "backups"), s, Options{Log: quiet(), MaxDelete: 100})
			for _, name := range []string{"1", "2"} {
				copied, err := backUp(t.Context(), f, name)
				check(t, err)
				var missing *IncompleteError
				if !errors.As(copied.Incomplete, &missing) {
					t.Fatalf("%s: %v", name, copied.Incomplete)
				}
				if text := missing.Error(); strings.Contains(text, ".incoming") || !strings.Contains(text, "overflows") {
					t.Errorf("the message is %q", text)
				}
				if hint := missing.Hint(); strings.Contains(hint, "can store them") != (fsType != "btrfs") || strings.Contains(hint, "root") {
					t.Errorf("the hint is %q", hint)
				}
				for _, say := range says {
					if !strings.Contains(strings.Join(missing.Messages, "\n"), say) {
						t.Errorf("%s is not told: %q", say, missing.Messages)
					}
				}
				for _, file := range []string{"a", "attributes/b"} {
					_, err := os.Stat(filepath.Join(f.path, name, file))
					check(t, err)
				}
			}
		})
	}
}

func TestFiveMissingFilesAreNamedByTheirNames(t *testing.T) {
	e := &IncompleteError{Count: 12, Messages: []string{
		`rsync: [receiver] rsync_xal_set: fsetxattr("/b/.1.incoming/.many.iDfIaY","user.a") failed: No space left on device (28)`,
		`rsync: [receiver] rsync_xal_set: fsetxattr("/b/.1.incoming/.many.iDfIaY","user.b") failed: No space left on device (28)`,
		`rsync: [generator] set_acl: xacl_set(.z.t7zqE2, ACL_TYPE_ACCESS): No space left on device (28)`,
		`rsync: [sender] send_files failed to open "/s/.secret.secret": Permission denied (13)`,
		`rsync: [sender] opendir "/s/d" failed: Permission denied (13)`,
		`skipping overly long name: long`,
		`rsync: [sender] opendir "/s/e" failed: Permission denied (13)`,
	}}
	const want = `rsync_xal_set: fsetxattr("/b/1/many","user.a") failed: No space left on device (28); ` +
		`set_acl: xacl_set(z, ACL_TYPE_ACCESS): No space left on device (28); /s/.secret.secret: Permission denied; ` +
		`/s/d: Permission denied; skipping overly long name: long; and 6 more`
	if got := e.Error(); got != want {
		t.Errorf("got %s", got)
	}
}
