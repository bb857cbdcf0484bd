package host_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host"
	"btrfs-backup/lock"
	"btrfs-backup/transport/sshtest"

	"golang.org/x/sys/unix"
)

// hintOf is the way forward that an error tells.
func hintOf(err error) string {
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		return hinter.Hint()
	}
	return ""
}

// shellWith gives a machine whose PATH begins with bin.
func shellWith(t testing.TB, bin string, o host.ShellOptions, config ...string) *host.Shell {
	t.Helper()
	server := sshtest.Start(t, sshtest.Options{Env: []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + t.TempDir()}, Config: config})
	return shellAt(t, server, o)
}

func TestWhatALoginShellPrintsIsDropped(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	h := shellWith(t, t.TempDir(), host.ShellOptions{}, `ForceCommand printf 'Welcome!\n\000btrfs\000-backup %0100000d' 1; echo noise >&2; eval "$SSH_ORIGINAL_COMMAND"`)
	check(t, h.MkdirAll(t.Context(), top+"/a"))
	d := open(t, h, top+"/a")
	check(t, d.WriteLedger(t.Context(), []byte("content")))
	if content, err := d.List(t.Context()); err != nil || string(content.Ledger.Content) != "content" {
		t.Errorf("%q, %v", content.Ledger.Content, err)
	}
	home := newSubvolume(t, top, "home")
	snapshot(t, home, top+"/s")
	var wire int64
	r, _ := transfer(t, open(t, h, top), d, host.SendOrder{Snapshot: "s"}, &wire)
	check(t, r.Commit(t.Context(), info(t, home).UUID))
}

func TestAMachineThatRunsNoCommandsIsExplained(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, command := range []string{"echo This account is not available.; exit 1", "echo This account is not available.",
		"echo This account is not available. >&2; exit 1", "while :; do echo This account is not available.; done"} {
		h := shellWith(t, t.TempDir(), host.ShellOptions{}, "ForceCommand "+command)
		_, err := h.Open(t.Context(), "/")
		if err == nil || !strings.Contains(err.Error(), "This account is not available.") || !strings.Contains(hintOf(err), "login shell") {
			t.Errorf("%s: %v, hint %q", command, err, hintOf(err))
		}
	}
}

func TestMissingProgramsAndPrivilegesAreExplained(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	bin := t.TempDir()
	script(t, bin, "sudo", `echo 'sudo: a password is required' >&2; exit 1`)
	_, err := shellWith(t, bin, host.ShellOptions{Sudo: true}).Open(t.Context(), top)
	if err == nil || !strings.Contains(err.Error(), "password") || !strings.Contains(hintOf(err), "NOPASSWD") {
		t.Errorf("without a password: %v, hint %q", err, hintOf(err))
	}
	script(t, bin, "btrfs", `echo 'sh: btrfs: not found' >&2; exit 127`)
	_, err = shellWith(t, bin, host.ShellOptions{}).Open(t.Context(), top)
	if err == nil || !strings.Contains(hintOf(err), "install btrfs-progs") {
		t.Errorf("without btrfs-progs: %v, hint %q", err, hintOf(err))
	}
}

// A list must never be shorter because a command failed.
func TestAListFailsWithAnyOfItsCommands(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	dir := newDir(t, top, "dir")
	newSubvolume(t, dir, "a")
	check(t, os.WriteFile(dir+"/"+lock.LedgerFile, []byte("{}"), 0o644))
	for _, failing := range []string{"btrfs:list -p -c -g -u -q -R /", "btrfs:-R -r", "btrfs:inspect-internal", "btrfs:scrub", "find:", "cat:",
		"ls:.outstanding", "ls:-di", "stat:"} {
		name, arguments, _ := strings.Cut(failing, ":")
		bin := t.TempDir()
		script(t, bin, name, fmt.Sprintf(`case "$*" in *"%s"*) echo 'failed: Input/output error' >&2; exit 1 ;; esac
exec /usr/bin/%s "$@"`, arguments, name))
		if _, content, err := shellWith(t, bin, host.ShellOptions{}).List(t.Context(), dir); err == nil && content.Ledger.Failure == "" {
			t.Errorf("%s failed, and the list is %+v", failing, content)
		}
	}
}

func TestAnotherDirectoryUnderTheSamePathIsNotTouched(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	home := newSubvolume(t, top, "home")
	dir := newDir(t, top, "dir")
	newSubvolume(t, dir, "a")
	d := open(t, newShell(t, "dash", false), dir)
	check(t, os.Rename(dir, top+"/moved"))
	newDir(t, top, "dir")
	newSubvolume(t, dir, "a")
	ctx := t.Context()
	_, takeErr := d.Take(ctx, home, info(t, home).UUID, "new")
	_, deleteErr := d.Delete(ctx, []string{"a"}, host.DeleteOptions{})
	_, receiveErr := d.Receive(ctx, host.ReceiveOrder{Name: "new"})
	_, lockErr := d.Lock(ctx, nil)
	_, listErr := d.List(ctx)
	for _, err := range []error{takeErr, deleteErr, receiveErr, lockErr, listErr, d.WriteLedger(ctx, nil), d.Link(ctx, "new", "a"), d.Sync(ctx)} {
		if err == nil || !strings.Contains(err.Error(), "another directory") {
			t.Errorf("error: %v", err)
		}
	}
	wantNames(t, dir, "a")
	check(t, os.RemoveAll(top+"/moved/a"))
}

func TestALedgerThatArrivesInPartReplacesNothing(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir := newDir(t, btrfstest.New(t, testSize).Dir, "dir")
	bin := t.TempDir()
	h := shellWith(t, bin, host.ShellOptions{})
	d := open(t, h, dir)
	check(t, d.WriteLedger(t.Context(), []byte("the old content")))
	script(t, bin, "tee", `head -c 5 | /usr/bin/tee "$@"`)
	if err := d.WriteLedger(t.Context(), []byte("the new content")); err == nil {
		t.Error("it was not noticed")
	}
	if content, err := os.ReadFile(dir + "/" + lock.LedgerFile); err != nil || string(content) != "the old content" {
		t.Errorf("the ledger is %q, %v", content, err)
	}
	wantNames(t, dir, lock.LedgerFile)
}

func TestWithoutFlockThereIsAWarningAndNoLock(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir := newDir(t, btrfstest.New(t, testSize).Dir, "dir")
	path := remotePath(t, "busybox", false)
	_, commands, _ := strings.Cut(path, ":")
	check(t, os.Remove(commands+"/flock"))
	var said bytes.Buffer
	server := sshtest.Start(t, sshtest.Options{Shell: "busybox sh", Env: []string{"PATH=" + commands, "HOME=" + t.TempDir()}})
	h := shellAt(t, server, host.ShellOptions{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if _, err := os.Stat("/usr/sbin/flock"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the test does not hide /usr/sbin/flock")
	}
	release, err := open(t, h, dir).Lock(t.Context(), nil)
	check(t, err)
	check(t, release())
	if !strings.Contains(said.String(), "has no program flock") {
		t.Errorf("said %q", said.String())
	}
}

// The number of commands that are run does not grow with that of the subvolumes.
func TestListingTakesAsManyCommandsForManySubvolumesAsForOne(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for _, name := range privileged {
		script(t, bin, name, fmt.Sprintf("echo >>%s\nexec /usr/bin/%s \"$@\"", log, name))
	}
	h := shellWith(t, bin, host.ShellOptions{})
	ran := make([]int, 2)
	for i := range ran {
		_, content, err := h.List(t.Context(), top)
		check(t, err)
		if i == 1 && len(content.InDirectory) != 500 {
			t.Errorf("%d are listed", len(content.InDirectory))
		}
		lines, err := os.ReadFile(log)
		check(t, err)
		check(t, os.Remove(log))
		ran[i] = bytes.Count(lines, []byte("\n"))
		for j := range 500 * (1 - i) {
			check(t, btrfs.Create(btrfstest.Open(t, top), fmt.Sprint(j)))
		}
	}
	if ran[0] == 0 || ran[0] != ran[1] {
		t.Errorf("commands run: %d", ran)
	}
}

func TestAFullDiskIsToldAsSuch(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir := newDir(t, btrfstest.New(t, testSize).Dir, "dir")
	bin := t.TempDir()
	d := open(t, shellWith(t, bin, host.ShellOptions{}), dir)
	script(t, bin, "tee", `echo 'tee: x: No space left on device' >&2; exit 1`)
	if err := d.WriteLedger(t.Context(), []byte("x")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error: %v", err)
	}
	wantNames(t, dir)
}

// The program may outlive its connection, and begin only then with what it was sent.
func TestAbortWaitsForTheEndOfTheProgram(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	stream := largeStream(t, top)
	copies := newDir(t, top, "copies")
	bin, started := t.TempDir(), filepath.Join(t.TempDir(), "started")
	script(t, bin, "btrfs", `[ "$1" = receive ] || exec /usr/bin/btrfs "$@"
exec setsid sh -c 'echo >"$0"; sleep 1; exec /usr/bin/btrfs "$@"' `+started+` "$@"`)
	server := sshtest.Start(t, sshtest.Options{Env: []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + t.TempDir()}})
	r, err := open(t, shellAt(t, server, host.ShellOptions{}), copies).Receive(t.Context(), host.ReceiveOrder{Name: "s"})
	check(t, err)
	_, err = r.Write(stream[:10_000])
	check(t, err)
	for _, err := os.Stat(started); err != nil; _, err = os.Stat(started) {
		time.Sleep(time.Millisecond)
	}
	killConnections(t, server)
	check(t, r.Abort(t.Context()))
	wantNoProcess(t, copies)
	wantNames(t, copies)
}
