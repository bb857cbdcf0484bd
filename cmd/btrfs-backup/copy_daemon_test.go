package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// A daemon is a real rsync daemon with one module, laptop, that only takes files, and freezes what it took.
type daemon struct {
	*copyRig
	port    int
	current string // path of the module
	log     string
	frozen  string // what freeze said
}

// newDaemon starts a daemon whose module lies in the destination of a rig.
func newDaemon(r *copyRig, freezeOptions string, more ...string) *daemon {
	r.Helper()
	dir := r.TempDir()
	d := &daemon{copyRig: r, current: filepath.Join(r.destination, "current"), log: filepath.Join(dir, "log"), frozen: filepath.Join(dir, "frozen")}
	btrfstest.Check(r, os.MkdirAll(r.destination, 0o755))
	if r.kind == "btrfs" {
		btrfstest.Run(r, "btrfs", "subvolume", "create", d.current)
	} else {
		btrfstest.Check(r, os.Mkdir(d.current, 0o755))
	}
	d.port = sshtest.Port(r)
	config := fmt.Sprintf(`address = 127.0.0.1
port = %d
log file = %s
[laptop]
	path = %s
	uid = root
	gid = root
	read only = false
	write only = true
	max connections = 1
	lock file = %s/lock
	post-xfer exec = btrfs-backup freeze %s >>%s 2>&1
%s
`, d.port, d.log, d.current, dir, freezeOptions, d.frozen, strings.Join(more, "\n"))
	file := filepath.Join(dir, "rsyncd.conf")
	btrfstest.Check(r, os.WriteFile(file, []byte(config), 0o600))
	cmd := exec.Command("rsync", "--daemon", "--no-detach", "--config="+file)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+r.state)
	btrfstest.Check(r, cmd.Start())
	r.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(r, func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		if err == nil {
			c.Close()
		}
		return err == nil
	}, func() string { return "the daemon does not answer" })
	return d
}

// latest gives the backup that the link points to.
func latest(t testing.TB, folder string) string {
	t.Helper()
	backup, err := filepath.EvalSymlinks(filepath.Join(folder, ".latest"))
	btrfstest.Check(t, err)
	return backup
}

func (d *daemon) url() string { return fmt.Sprintf("rsync://127.0.0.1:%d/laptop", d.port) }

func (d *daemon) said() string {
	content, _ := os.ReadFile(d.frozen) // there is none at first
	return string(content)
}

// takes copies the source to the module, and waits until it is frozen, or refused.
func (d *daemon) takes(status int, saying string, options ...string) result {
	d.Helper()
	before := strings.Count(d.said(), saying)
	var r result
	eventually(d, func() bool {
		r = invokeCmd(d, d.commandTo(nil, slices.Concat(options, []string{d.source, d.url()})...))
		return !strings.Contains(r.stderr, "max connections (1) reached") // freeze has told of the last transfer, and not ended yet
	}, func() string { return r.stderr })
	expect(d, status, r)
	eventually(d, func() bool { return strings.Count(d.said(), saying) > before }, func() string {
		log, _ := os.ReadFile(d.log)
		return "freeze does not say " + saying + ":\n" + d.said() + string(log)
	})
	return r
}

func TestWhatADaemonReceivesIsFrozenBesideItsModule(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		if r.kind == "xfs" {
			return // there a daemon as root loses ACLs: rsync takes what xfs shows of them for attributes that are too many
		}
		d := newDaemon(r, "-n 2")
		btrfstest.Populate(r, r.source, 1)
		var references []string
		var second history
		for generation := range int64(3) {
			if generation > 0 {
				btrfstest.Change(r, r.source, generation)
			}
			references = append(references, r.reference())
			expect(r, exitDone, d.takes(exitDone, "saved:"), "stored, not verified")
			if generation == 1 {
				second = historyOf(r, filepath.Join(r.destination, r.backups()[1]))
			}
		}
		backups := r.backups()
		if len(backups) != 2 {
			r.Fatalf("-n 2 keeps %v", backups)
		}
		for i, name := range backups {
			btrfstest.Equal(r, references[i+1], filepath.Join(r.destination, name), btrfstest.RootTime)
			expect(r, exitDone, invoke(r, nil, "verify", filepath.Join(r.destination, name)), "no differences")
		}
		second.unchanged(r, filepath.Join(r.destination, backups[0]))
		expect(r, exitDone, invoke(r, nil, "list", r.destination), backups[0], backups[1])
	})
}

func TestHistoryBesideADaemonsModuleSurvivesABadClient(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	d := newDaemon(r, "")
	for i := range 200 {
		r.write(fmt.Sprintf("file %d", i), "content")
	}
	d.takes(exitDone, "saved:")
	first := filepath.Join(r.destination, r.backups()[0])
	was := historyOf(t, first)

	empty := filepath.Join(t.TempDir(), "bad")
	btrfstest.Check(t, os.Mkdir(empty, 0o755))
	btrfstest.Check(t, os.WriteFile(filepath.Join(empty, "alone"), nil, 0o644))
	d.source = empty
	d.takes(exitDone, "more than 50 %")
	if got := r.backups(); len(got) != 1 {
		t.Errorf("a backup of nearly nothing was made: %v", got)
	}
	was.unchanged(t, first)
}

func TestNothingIsFrozenAfterATransferThatFailed(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	dir := filepath.Join(r.destination, "current")
	btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	btrfstest.Check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	freeze := func(status string) result {
		return invokeCmd(t, r.commandTo([]string{"RSYNC_MODULE_PATH=" + dir, "RSYNC_EXIT_STATUS=" + status}, "freeze"))
	}
	for _, status := range []string{"12", "-1", "20", "nonsense"} {
		expect(t, exitFailed, freeze(status), "error: the transfer failed ($RSYNC_EXIT_STATUS is ", "hint: ")
	}
	if got := names(t, r.destination); !slices.Equal(got, []string{"current"}) {
		t.Errorf("there is %v", got)
	}
	expect(t, exitDone, freeze("24"))
	btrfstest.Check(t, os.WriteFile(filepath.Join(dir, "second"), nil, 0o644))
	expect(t, exitPartly, freeze("23"), "is incomplete", "status 23")
	expect(t, exitDone, freeze("23"), "no backup is made")
	expect(t, exitDone, freeze(""))
	expect(t, exitDone, invoke(t, nil, "list", r.destination), "INCOMPLETE: 1 missing")
	if got := r.backups(); len(got) != 3 {
		t.Errorf("there is %v", got)
	}
	expect(t, exitUsage, invoke(t, []string{"RSYNC_MODULE_PATH="}, "freeze"), "DIR is missing")
}

func TestTransfersThatChangeNothingMakeNoBackups(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		d := newDaemon(r, "-n 1")
		r.write("directory/file", "content")
		d.takes(exitDone, "saved:")
		for range 2 {
			d.takes(exitDone, "no backup is made")
		}
		first := r.backups()
		btrfstest.Check(r, os.Chtimes(filepath.Join(d.current, "directory/file"), time.Unix(2e9, 0), time.Time{})) // reading it may do so
		d.takes(exitDone, "no backup is made")
		if got := r.backups(); len(got) != 1 || got[0] != first[0] {
			r.Errorf("there is %v, and was %v", got, first)
		}
		btrfstest.Check(r, os.Chmod(filepath.Join(r.source, "directory"), 0o700))
		d.takes(exitDone, "saved:")
		if got := r.backups(); len(got) != 1 || got[0] == first[0] {
			r.Errorf("there is %v, and was %v", got, first)
		}
	})
}

func TestTheFolderOfBackupsIsNotFrozen(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	dir := filepath.Join(r.destination, "current")
	btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	btrfstest.Check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	expect(t, exitUsage, invokeCmd(t, r.commandTo([]string{"RSYNC_MODULE_PATH=" + dir}, "freeze", r.destination)), "holds $RSYNC_MODULE_PATH")
	expect(t, exitDone, invoke(t, nil, "freeze", dir))
	expect(t, exitUsage, invoke(t, nil, "freeze", r.destination), "is a folder of backups")
	if got := names(t, filepath.Dir(r.destination)); slices.ContainsFunc(got, func(name string) bool { return strings.HasPrefix(name, "2") }) {
		t.Errorf("there is %v", got)
	}
}

func TestADaemonIsReachedThroughAnAccountThatMayRunNothing(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	d := newDaemon(r, "", "[photos]", "path = "+r.source, "uid = root", "read only = true")
	r.write("file", "content")
	nothing := newRemote(t, sshtest.Options{Config: []string{"MaxSessions 0", "ForceCommand /bin/false"}})
	through := append(slices.Clone(nothing.options), "--tunnel", fmt.Sprintf("%s@%s:%d", nothing.User, nothing.Host, nothing.Port))
	d.takes(exitDone, "saved:", through...)
	btrfstest.Equal(t, r.source, filepath.Join(r.destination, r.backups()[0]), btrfstest.RootTime)

	photos := fmt.Sprintf("rsync://127.0.0.1:%d/photos", d.port)
	pulled := filepath.Join(t.TempDir(), "pulled")
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, slices.Concat(through, []string{photos, pulled})...)))
	btrfstest.Equal(t, r.source, latest(t, pulled), btrfstest.RootTime)
}

func TestAModuleIsASource(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	btrfstest.Populate(t, r.source, 1)
	d := newDaemon(r, "", "[photos]", "path = "+filepath.Dir(r.source), "uid = root", "read only = true")
	module := fmt.Sprintf("rsync://127.0.0.1:%d/photos/source", d.port)
	pulled := filepath.Join(r.destination, "pulled")
	for range 2 {
		expect(t, exitDone, invokeCmd(t, r.commandTo(nil, module, pulled)))
		btrfstest.Change(t, r.source, 1)
	}
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, module, pulled)))
	btrfstest.Equal(t, r.source, latest(t, pulled), btrfstest.RootTime)
	expect(t, exitFailed, invokeCmd(t, r.commandTo(nil, module+"/nowhere", pulled)), "hint: ")
	expect(t, exitFailed, invokeCmd(t, r.commandTo(nil, module, d.url())), "rsync cannot copy between two other machines")
}
