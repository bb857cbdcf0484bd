package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// An rsyncShim is a program in front of the real rsync in PATH.
type rsyncShim struct{ dir string }

// newRsyncShim runs a script in place of rsync, which finds the real one in $real, its arguments in $@ and a directory of its
// own in $dir. What runs off its end goes on to the real one.
func newRsyncShim(t testing.TB, script string) rsyncShim {
	t.Helper()
	real, err := exec.LookPath("rsync")
	btrfstest.Check(t, err)
	s := rsyncShim{t.TempDir()}
	script = fmt.Sprintf("#!/bin/sh\nreal='%s' dir='%s'\n%s\nexec \"$real\" \"$@\"\n", real, s.dir, script)
	btrfstest.WriteProgram(t, filepath.Join(s.dir, "rsync"), script)
	return s
}

func (s rsyncShim) environ() []string { return []string{"PATH=" + s.dir + ":" + os.Getenv("PATH")} }

// wrote gives what the script wrote to a file in its directory.
func (s rsyncShim) wrote(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, name))
	btrfstest.Check(t, err)
	return string(content)
}

// atTheGate holds rsync until the file $dir/open is there.
const atTheGate = `touch "$dir/held"; while test -d "$dir" && ! test -e "$dir/open"; do sleep 0.02; done`

// isHeld waits until rsync is.
func (s rsyncShim) isHeld(t testing.TB) {
	t.Helper()
	eventually(t, func() bool { return exists(filepath.Join(s.dir, "held")) }, func() string { return "rsync is not run" })
}

func (s rsyncShim) open(t testing.TB) {
	t.Helper()
	btrfstest.Check(t, os.WriteFile(filepath.Join(s.dir, "open"), nil, 0o644))
}

// withShim runs the copy with a script in place of rsync.
func (r *copyRig) withShim(script string, options ...string) result {
	r.Helper()
	return invokeCmd(r, r.command(newRsyncShim(r, script).environ(), options...))
}

// apart gives a subtest a source and a destination of its own on the rig's filesystems.
func (r *copyRig) apart(t testing.TB, name string) *copyRig {
	t.Helper()
	sub := r.in(t)
	sub.source, sub.destination = r.at(name), filepath.Join(r.destination, name)
	btrfstest.Check(t, os.MkdirAll(sub.source, 0o755))
	return sub
}

// A keeping is what a folder held at a time: the backups, and what the link points to.
type keeping struct {
	r       *copyRig
	backups map[string]history
	latest  string
}

func (r *copyRig) keeps() keeping {
	r.Helper()
	k := keeping{r, make(map[string]history), r.latest()}
	for _, name := range r.backups() {
		k.backups[name] = historyOf(r, filepath.Join(r.destination, name))
	}
	return k
}

func (r *copyRig) latest() string {
	target, _ := os.Readlink(filepath.Join(r.destination, ".latest"))
	return target
}

// still fails the test unless there are the same backups as then.
func (k keeping) still() {
	k.r.Helper()
	if got, was := names(k.r, k.r.destination), slices.Sorted(maps.Keys(k.backups)); !slices.Equal(got, was) {
		k.r.Fatalf("there are %v, and were the backups %v", got, was)
	}
	for name, was := range k.backups {
		was.unchanged(k.r, filepath.Join(k.r.destination, name))
	}
	if got := k.r.latest(); got != k.latest {
		k.r.Errorf("the link points to %q, and pointed to %q", got, k.latest)
	}
}

// heals fails the test unless the next run makes a right backup.
func (r *copyRig) heals(options ...string) string {
	r.Helper()
	backup := r.saves(options...)
	btrfstest.Equal(r, r.source, backup)
	if r.latest() != filepath.Base(backup) {
		r.Errorf("the link points to %s and not to %s", r.latest(), backup)
	}
	return backup
}

// holdsOnly fails the test unless there are just these backups.
func (r *copyRig) holdsOnly(backups ...string) {
	r.Helper()
	for i := range backups {
		backups[i] = filepath.Base(backups[i])
	}
	want(r, "backups", r.backups(), backups...)
}

// record reads what is known of a backup.
func (r *copyRig) record(name string) (record tree.Record) {
	r.Helper()
	content, err := os.ReadFile(filepath.Join(r.destination, tree.StateDir, "manifests", name+".json"))
	btrfstest.Check(r, err)
	btrfstest.Check(r, json.Unmarshal(content, &record))
	return record
}

// listed gives what the program lists of a backup.
func (r *copyRig) listed(name string) inventory.Entry {
	r.Helper()
	var all []inventory.Entry
	btrfstest.Check(r, json.Unmarshal([]byte(expect(r, exitDone, r.listing("--json")).stdout), &all))
	i := slices.IndexFunc(all, func(l inventory.Entry) bool { return l.Name == name })
	if i < 0 {
		r.Fatalf("%s is not listed: %v", name, all)
	}
	return all[i]
}

func (r *copyRig) listing(options ...string) result {
	r.Helper()
	return invokeCmd(r, r.commandTo(nil, slices.Concat([]string{"list"}, options, []string{r.destination})...))
}

func TestAFailedRsyncMakesNoBackupAndDeletesNone(t *testing.T) {
	t.Parallel()
	const part = `"$real" --exclude=/late "$@"; `
	onEachKind(t, func(r *copyRig) {
		r.write("early", "first")
		r.saves()
		r.write("late", "first")
		r.saves()
		r.write("early", "second, and longer")
		r.write("late", "second, and longer")
		r.write("new", "new")
		kept := r.keeps()
		for _, test := range []struct{ script, says string }{
			{`exit 11`, "rsync ended with status 11"},
			{part + `exit 12`, "rsync ended with status 12"},
			{`echo "rsync error: received SIGINT, SIGTERM, or SIGHUP (code 20)" >&2; exit 20`, "rsync ended with status 20"},
			{part + `exit 30`, "rsync ended with status 30"},
			{part + `kill -9 $$`, "rsync ended by signal: killed"},
			{`kill -15 $$`, "rsync ended by signal: terminated"},
		} {
			expect(r, exitFailed, r.withShim(test.script, "-n", "1"), "btrfs-backup: error: copying "+r.source+" to "+r.destination,
				test.says, "the next run resumes it")
			kept.still()
		}
		r.holdsOnly(r.heals("-n", "1"))
	})
}

func TestVanishedFilesMakeNoDifference(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	expect(t, exitDone, r.withShim(`"$real" "$@"; echo "file has vanished: \"/x\"" >&2; exit 24`))
	backup := r.backups()[0]
	if l := r.listed(backup); !l.Complete || l.MissingFiles != 0 {
		t.Errorf("it is listed as %+v", l)
	}
	btrfstest.Equal(t, r.source, filepath.Join(r.destination, backup))
}

// asNobodySpecial runs rsync as a root who may read and search only what its modes say.
const asNobodySpecial = `exec setpriv --bounding-set=-dac_override,-dac_read_search "$real" "$@"`

func TestUnreadableFilesMakeABackupThatIsCalledIncomplete(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("readable", "first")
		r.write("secret", "first")
		complete := r.saves()
		for _, name := range []string{"readable", "secret", "below/private"} {
			r.write(name, "second, and longer")
		}
		for _, name := range []string{"secret", "below/private"} {
			btrfstest.Check(r, os.Chown(r.at(name), 1234, 1234))
			btrfstest.Check(r, os.Chmod(r.at(name), 0))
		}
		for range 2 {
			expect(r, exitPartly, r.withShim(asNobodySpecial, "-n", "1"), "is incomplete at "+r.destination, r.at("secret"),
				r.at("below/private"), "btrfs-backup: hint: ")
		}
		told := sentTo(r, r.withShim(asNobodySpecial, "-n", "1", "--json"), r.destination)[0]
		if len(told.Missing) != 2 || !strings.Contains(strings.Join(told.Missing, "\n"), r.at("secret")) {
			r.Errorf("the report names %q", told.Missing)
		}
		all := r.backups()
		if len(all) != 2 || all[0] != filepath.Base(complete) {
			r.Fatalf("the backups are %v; %s is the only complete one", all, complete)
		}
		expect(r, exitDone, r.listing(), all[1], "INCOMPLETE: 2 missing")
		if l := r.listed(all[1]); l.Complete || l.MissingFiles != 2 {
			r.Errorf("%s is listed as %+v", all[1], l)
		}
		if l := r.listed(all[0]); !l.Complete || l.MissingFiles != 0 {
			r.Errorf("%s is listed as %+v", all[0], l)
		}
		recorded := strings.Join(r.record(all[1]).Incomplete, "\n")
		if !strings.Contains(recorded, r.at("secret")) || !strings.Contains(recorded, r.at("below/private")) {
			r.Errorf("the record tells of %q", recorded)
		}
		btrfstest.Equal(r, r.at("readable"), filepath.Join(r.destination, all[1], "readable"))
		r.holdsOnly(r.heals("-n", "1"))
	})
}

func TestAFullDestinationKeepsItsBackupsAndHealsWithSpace(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		large := 60 << 20
		if r.kind == "btrfs" {
			large = 100 << 20
		}
		r.random(1, large, "large")
		oldest := r.saves()
		btrfstest.Check(r, os.Remove(r.at("large")))
		r.write("small", "content")
		r.saves()
		kept := r.keeps()
		fill(r, r.destinationFS, 8<<20) // and what btrfs and, for root, ext4 have beyond what they tell
		r.random(2, large*2/3, "too large")
		for range 2 {
			expect(r, exitFailed, r.run("-n", "1"), "btrfs-backup: error: ", "o space left on device",
				"btrfs-backup: hint: make room at "+r.destination)
			kept.still()
		}
		if r.kind == "btrfs" {
			btrfstest.Run(r, "btrfs", "subvolume", "delete", "--commit-after", oldest)
			btrfstest.Run(r, "btrfs", "subvolume", "sync", r.destinationFS.Dir)
		} else {
			btrfstest.Run(r, "rm", "-r", oldest)
		}
		r.heals("-n", "2")
	})
}

func TestADeletionThatWasCutShortIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ext4", "xfs"} { // on btrfs a backup is deleted at once
		t.Run(kind, func(t *testing.T) {
			r := newCopyRig(t, kind)
			for _, name := range []string{"a/file", "b/stays", "c/file"} {
				r.write(name, "content")
			}
			first := r.saves()
			btrfstest.Check(t, os.RemoveAll(r.at("b")))
			btrfstest.Run(t, "chattr", "+i", filepath.Join(first, "b/stays"))
			expect(t, exitPartly, r.run("-n", "1"), "btrfs-backup: error: deleting "+first, "operation not permitted")
			left := filepath.Join(r.destination, "."+filepath.Base(first)+".deleting")
			if all := r.backups(); len(all) != 1 || all[0] == filepath.Base(first) || !exists(filepath.Join(left, "b/stays")) {
				t.Fatalf("there are the backups %v, and half deleted %v", all, unfinishedCopies(t, r.destination))
			}
			btrfstest.Equal(t, r.source, r.newest())
			btrfstest.Run(t, "chattr", "-i", filepath.Join(left, "b/stays"))
			r.holdsOnly(r.heals("-n", "1"))
			r.nothingUnfinished()
		})
	}
}

func TestADestinationThatCannotBeWrittenToIsRefused(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		r.saves()
		r.write("file", "other content")
		btrfstest.Run(r, "mount", "-o", "remount,ro", r.destinationFS.Dir)
		before := historyOf(r, r.destination)
		expect(r, exitFailed, r.run("-n", "1"), "btrfs-backup: error: ", r.destination, "read-only file system",
			"btrfs-backup: hint: mount the filesystem of "+r.destination+" for writing")
		before.unchanged(r, r.destination)
		btrfstest.Run(r, "mount", "-o", "remount,rw", r.destinationFS.Dir)
		r.heals("-n", "1")
	})
}

func TestASecondCopyWaitsForTheFirstOrFailsAtOnce(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	s := newRsyncShim(t, atTheGate)
	first := start(t, r.command(s.environ()))
	s.isHeld(t)
	expect(t, exitBusy, r.run("--no-wait"), "btrfs-backup: error: ", " is in use by "+holder(first), "btrfs-backup: hint: ")
	second := start(t, r.command(nil))
	second.says("waiting for " + holder(first))
	first.isRunning()
	s.open(t)
	expect(t, exitDone, first.wait())
	expect(t, exitDone, second.wait())
	if all := r.backups(); len(all) != 2 {
		t.Errorf("the backups are %v, want one of each run", all)
	}
}

func TestAFileThatHasAllTheLinksItCanIsInTheNextBackupToo(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	first := r.saves()
	links := filepath.Join(r.destinationFS.Dir, "links")
	btrfstest.Check(t, os.Mkdir(links, 0o755))
	const most = 65_000 // linux/fs/ext4/ext4.h: EXT4_LINK_MAX
	for i := range most - 1 {
		btrfstest.Check(t, os.Link(filepath.Join(first, "file"), filepath.Join(links, fmt.Sprint(i))))
	}
	was := historyOf(t, first)
	r.equal(r.source, r.saves())
	was.unchanged(t, first)
}

func TestACopyThatIsInUseIsKeptWithThatVerdict(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	r.write("file", "content")
	first := r.saves()
	r.saves()
	btrfstest.Run(t, "btrfs", "subvolume", "set-default", first)
	newest := r.saves("-n", "1")
	if got := r.backups(); !slices.Equal(got, []string{filepath.Base(first), filepath.Base(newest)}) {
		t.Errorf("backups: %v", got)
	}
}
