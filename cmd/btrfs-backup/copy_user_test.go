package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// copyUser is a user who is not root, with a directory and a folder of his own.
type copyUser struct {
	*copyRig
	programs ordinary
}

func newCopyUser(t testing.TB, kind string) copyUser {
	t.Helper()
	r := newCopyRig(t, kind)
	for _, disk := range []string{filepath.Dir(r.source), r.destinationFS.Dir} {
		btrfstest.Check(t, os.Chmod(filepath.Dir(disk), 0o755))
	}
	r.state = filepath.Join(r.destinationFS.Dir, "state")
	for _, dir := range []string{r.source, r.destination, r.state} {
		own(t, makeDir(t, dir))
	}
	u := copyUser{r, ordinary{programs: makeDir(t, filepath.Join(r.destinationFS.Dir, "programs"))}}
	u.programs.install(t, "btrfs-backup")
	return u
}

// asUser makes a prepared run one of the user.
func (u copyUser) asUser(cmd *exec.Cmd) *exec.Cmd {
	cmd.Path, cmd.Dir = filepath.Join(u.programs.programs, "btrfs-backup"), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	return cmd
}

func (u copyUser) run(options ...string) result {
	u.Helper()
	return invokeCmd(u, u.asUser(u.command(nil, options...)))
}

// owns makes a file or an empty directory of the user's.
func (u copyUser) owns(path string, mode os.FileMode) {
	u.Helper()
	if mode.IsDir() {
		makeDir(u, u.at(path))
	} else {
		u.write(path, "content of "+path)
	}
	u.ownAll()
	btrfstest.Check(u, os.Chmod(u.at(path), mode.Perm()))
}

func (u copyUser) ownAll() {
	u.Helper()
	btrfstest.Run(u, "chown", "-R", "12345:12345", u.source)
}

func TestAnOrdinaryUserGetsABackupOfAllThatHeMayRead(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"btrfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			u := newCopyUser(t, kind)
			for _, path := range []string{"before", "directory/file", "of root/file", "secret", "my closed/file", "mute", "zz after"} {
				u.owns(path, 0o644)
			}
			btrfstest.Check(t, os.Chown(u.at("of root"), 0, 0))
			btrfstest.Check(t, os.Chown(u.at("secret"), 0, 0))
			for path, mode := range map[string]os.FileMode{"of root": 0o700, "secret": 0o600, "my closed": 0, "mute": 0} {
				btrfstest.Check(t, os.Chmod(u.at(path), mode))
			}
			retention := []string{"-n", "2"}
			if kind == "btrfs" { // where an ordinary user may delete subvolumes only if the mount allows it
				retention = nil
			}
			for range 3 {
				expect(t, exitPartly, u.run(retention...), "is incomplete", u.at("of root"), u.at("secret"), u.at("my closed"),
					u.at("mute"), "btrfs-backup: hint: ")
				backup := u.newest()
				for _, path := range []string{"before", "directory", "zz after"} {
					btrfstest.Equal(t, u.at(path), filepath.Join(backup, path))
				}
			}
			if l := u.listed(filepath.Base(u.newest())); l.Complete || l.MissingFiles < 4 {
				t.Errorf("it is listed as %+v", l)
			}
		})
	}
}

func TestADeviceThatAnOrdinaryUserCannotMakeIsMissed(t *testing.T) {
	t.Parallel()
	u := newCopyUser(t, "ext4")
	u.owns("file", 0o644)
	btrfstest.Check(t, syscall.Mknod(u.at("device"), syscall.S_IFCHR|0o600, 1<<8|3))
	expect(t, exitPartly, u.run(), "INCOMPLETE", `making the device "device"`, "sudo")
	if l := u.listed(filepath.Base(u.newest())); l.Complete || l.MissingFiles != 1 {
		t.Errorf("it is listed as %+v", l)
	}
}

func TestAnOrdinaryUserKeepsAHistoryOfHisOwnTree(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			u := newCopyUser(t, kind)
			u.owns("read-only/below/file", 0o444)
			u.owns("read-only/file", 0o644)
			u.owns("read-only/empty", os.ModeDir|0o555)
			btrfstest.Check(t, os.Symlink("nowhere", u.at("read-only/link")))
			btrfstest.Check(t, syscall.Mkfifo(u.at("read-only/fifo"), 0o600))
			for range 3 {
				u.owns("changes", 0o600)
				u.write("changes", strings.Repeat("content", *u.runs))
				for _, dir := range []string{"read-only/below", "read-only"} {
					btrfstest.Check(t, os.Chmod(u.at(dir), 0o555))
				}
				expect(t, exitDone, u.run("-n", "1"))
				btrfstest.Equal(t, u.source, u.newest())
				expect(t, exitDone, invokeCmd(t, u.asUser(u.commandTo(nil, "verify", u.newest()))), "no differences")
				u.holdsOnly(u.newest())
				u.nothingUnfinished()
			}
		})
	}
}

func TestWhatIsToBeLeftOutIsLeftOut(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(whole *copyRig) {
		for i, test := range []struct {
			options []string
			gone    string
		}{
			{[]string{"--include", "keep.tmp", "--exclude", "*.tmp"}, "a.tmp below/b.tmp"},
			{[]string{"--exclude", "*.tmp", "--include", "keep.tmp"}, "a.tmp below/b.tmp below/keep.tmp keep.tmp"},
			{[]string{"--exclude", "/a.tmp", "--exclude=below/"}, "a.tmp below below/b.tmp below/keep.tmp below/wild[a]*"},
			{[]string{"--exclude-from", whole.at("patterns")}, "a.tmp below/b.tmp"},
			{[]string{"--skip-dir", "wild[a]*"}, "wild[a]* wild[a]*/file"},
			{[]string{"--skip-dir", "cache", "--skip-dir=none"}, "cache cache/file other/cache other/cache/file"},
			{[]string{"--skip", "[ab].tmp"}, "a.tmp below/b.tmp"},
		} {
			r := whole.apart(whole.TB, fmt.Sprint(i))
			whole.write("patterns", "# comment\n+ keep.tmp\n*.tmp\n")
			for _, path := range []string{"a.tmp", "keep.tmp", "below/b.tmp", "below/keep.tmp", "below/wild[a]*", "wild[a]*/file",
				"wilda1/file", "wild[a]*1/file", "cache/file", "other/cache/file", "other/cached/file", "other/file"} {
				r.write(path, "content")
			}
			all := paths(r, r.saves()) // what is left out later is not taken over from there
			left := slices.DeleteFunc(all, func(path string) bool { return slices.Contains(strings.Fields(test.gone), path) })
			want(r, strings.Join(test.options, " "), paths(r, r.saves(test.options...)), left...)
		}
	})
}

// paths lists all that is below a directory.
func paths(t testing.TB, dir string) (all []string) {
	t.Helper()
	for path := range historyOf(t, dir) {
		if path != dir {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
	}
	slices.Sort(all)
	return all
}

func TestWhatIsMountedInTheSourceIsEnteredOnRequest(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	mounted(t, makeDir(t, r.at("inner")), "mount", "-t", "tmpfs", "none", r.at("inner"))
	r.write("inner/file", "content")
	want(t, "copied", paths(t, r.saves()), "file", "inner")
	want(t, "copied", paths(t, r.saves("--multi-fs")), "file", "inner", "inner/file")
	want(t, "copied", paths(t, r.saves()), "file", "inner")
}

func TestDirectoriesAreLeftOutByTheirNamesOnlyInTheRoot(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.source = makeDir(t, r.at("mnt/tmp"))
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "var/tmp", "mnt", "media", "lost+found"} {
		r.write(dir+"/file", "content")
		r.write("below/"+dir+"/file", "content")
	}
	r.heals()

	argumentsFor := func(source string, options ...string) []string {
		s := newRsyncShim(t, `printf '%s\n' "$@" >"$dir/arguments"; exit 11`)
		args := slices.Concat(options, []string{"--engine", "rsync", source, r.destination})
		expect(t, exitFailed, invokeCmd(t, r.commandTo(s.environ(), args...)), "rsync ended with status 11")
		return strings.Split(strings.TrimSpace(s.wrote(t, "arguments")), "\n")
	}
	excludes := func(args []string) []string {
		return slices.DeleteFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "--exclude=") })
	}
	want(t, "left out of the root", excludes(argumentsFor("/")), "--exclude=/dev/*", "--exclude=/proc/*", "--exclude=/sys/*",
		"--exclude=/run/*", "--exclude=/tmp/*", "--exclude=/var/tmp/*", "--exclude=/mnt/*", "--exclude=/media/*",
		"--exclude=/lost+found")
	want(t, "left out elsewhere", excludes(argumentsFor(r.source)))
	want(t, "left out with other options", excludes(argumentsFor("/", "--rsync-options=-a")),
		"--exclude="+r.destination) // which is not left out as a filesystem of its own
}

func TestOptionsOfRsyncReplaceTheUsualOnes(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	for _, name := range []string{"a b", "c'd", "ef", "kept"} {
		r.write(name, "content")
	}
	btrfstest.Check(t, os.Chmod(r.at("kept"), 0o640))
	s := newRsyncShim(t, `printf '%s\n' "$@" >"$dir/arguments"`)
	const options = `-rt --exclude 'a b' "--exclude=c'd" --exclude=e\f`
	expect(t, exitDone, invokeCmd(t, r.command(s.environ(), "--rsync-options", options)))
	args := strings.Split(strings.TrimSpace(s.wrote(t, "arguments")), "\n")
	want(t, "arguments", args[:5], "-rt", "--exclude", "a b", "--exclude=c'd", "--exclude=ef")
	for _, usual := range []string{"--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--delete", "--one-file-system"} {
		if slices.Contains(args, usual) {
			t.Errorf("%s is among %q", usual, args)
		}
	}
	want(t, "copied", paths(t, r.newest()), "kept")
	expect(t, exitUsage, r.run("--rsync-options", `-a "`), "btrfs-backup: error: --rsync-options", "btrfs-backup: hint: ")
	expect(t, exitUsage, r.run("--rsync-options", `-a --remove-source-files`), "rsync would delete the source")
}

func TestHabitsOfTheUserDoNotMatter(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	home := t.TempDir()
	for _, path := range []string{".cvsignore", ".rsync-filter", "file"} {
		r.write(path, "*\n")
		write(t, filepath.Join(home, path), "*\n")
	}
	environ := []string{"HOME=" + home, "CVSIGNORE=*", "RSYNC_PARTIAL_DIR=partial", "RSYNC_OLD_ARGS=1", "RSYNC_PROTECT_ARGS=0",
		"LC_ALL=C.UTF-8", "RSYNC_RSH=false", "RSYNC_CONNECT_PROG=false"}
	for range 2 {
		expect(t, exitDone, invokeCmd(t, r.command(environ)))
		btrfstest.Equal(t, r.source, r.newest())
	}
}

func TestADestinationWithinTheSourceIsLeftOutOfTheCopy(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	r.write("directory/backups/file", "content")
	r.destination = r.at("backups")
	r.saves("--same-filesystem")
	for range 3 {
		btrfstest.Equal(t, r.source, r.saves("-n", "2"), "backups", btrfstest.RootTime)
		if exists(filepath.Join(r.newest(), "backups")) {
			t.Errorf("%s holds the backups", r.newest())
		}
	}
}

func TestRsyncIsAsNiceAsAskedFor(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	s := newRsyncShim(t, `cut -d' ' -f19 /proc/self/stat >"$dir/nice"; ionice -p $$ >"$dir/ionice"`) // proc(5): nice is field 19
	expect(t, exitDone, invokeCmd(t, r.command(s.environ(), "--nice", "5", "--ionice", "idle")))
	want(t, "priorities", []string{s.wrote(t, "nice"), s.wrote(t, "ionice")}, "5\n", "idle\n")
}
