package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// restored runs restore, which must succeed, and gives its report.
func restored(t testing.TB, environ []string, args ...string) (r restore.Report) {
	t.Helper()
	result := expect(t, exitDone, invoke(t, environ, append([]string{"restore", "--json"}, args...)...))
	if err := json.Unmarshal([]byte(result.stdout), &r); err != nil {
		t.Fatalf("%v in %s%s", err, result.stdout, result.stderr)
	}
	return r
}

// isRestored tells that a subvolume can be written to and holds what a backup does.
func isRestored(t testing.TB, target, backup string) {
	t.Helper()
	if s, err := btrfs.Info(btrfstest.Open(t, target)); err != nil || s.ReadOnly {
		t.Errorf("%s: %+v, %v", target, s, err)
	}
	btrfstest.Equal(t, filepath.Join(backup, "file"), filepath.Join(target, "file"))
}

func deleteSubvolume(t testing.TB, path string) {
	t.Helper()
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "delete", path)
}

// changed gives names of backups of which each holds something else.
func changed(t testing.TB, days int, source, destination string) (taken []string) {
	t.Helper()
	for day := range days {
		write(t, filepath.Join(source, "file"), strings.Repeat("x", day+1))
		taken = append(taken, backUp(t, exitDone, march(day+1), source, destination).Snapshot)
	}
	return taken
}

func TestARestoredSubvolumeIsBackedUpByIncrementsInOneHistory(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := changed(t, 2, source, destination)
	disk := smallFS(t).Dir
	home := filepath.Join(disk, "home")
	dry := expect(t, exitDone, invoke(t, march(3), "restore", "--dry-run", filepath.Join(destination, taken[1]), home))
	if !strings.Contains(dry.stdout, "would be sent") || exists(home) || len(names(t, disk)) > 0 {
		t.Errorf("%s%q", dry.stdout, names(t, disk))
	}
	r := restored(t, march(3), filepath.Join(destination, taken[1]), home)
	if r.Parent != "" || r.Present || r.Bytes == 0 || !r.Kept {
		t.Errorf("%+v", r)
	}
	isRestored(t, home, filepath.Join(destination, taken[1]))
	want(t, "what is there", names(t, disk), "home")
	want(t, "snapshots", names(t, filepath.Join(home, "snapshot")), taken[1])

	write(t, filepath.Join(home, "file"), "restored and changed")
	next := backUp(t, exitDone, march(4), "-n", "2", home, destination)
	want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[1])
	want(t, "backups", names(t, destination), taken[1], next.Snapshot)

	deleteSubvolume(t, filepath.Join(home, "snapshot", next.Snapshot))
	again := filepath.Join(disk, "again")
	if r := restored(t, march(5), filepath.Join(destination, next.Snapshot), again); r.Parent != taken[1] {
		t.Errorf("on what came back before: %+v", r)
	}
	isRestored(t, again, filepath.Join(destination, next.Snapshot))
}

func TestARestoreIsAnIncrementToTheOriginalThatIsLeft(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	for range 10 { // so that the transactions of the two filesystems are no longer the same
		write(t, filepath.Join(filepath.Dir(destination), "other"), "")
		btrfstest.Run(t, "btrfs", "filesystem", "sync", filepath.Dir(destination))
		btrfstest.Check(t, os.Remove(filepath.Join(filepath.Dir(destination), "other")))
	}
	taken := changed(t, 2, source, destination)
	deleteSubvolume(t, filepath.Join(source, "snapshot", taken[1]))
	back := filepath.Join(filepath.Dir(source), "back")
	r := restored(t, march(3), "--at", "2026-03-02", destination, back)
	if r.Parent != taken[0] || r.Lives != "home" {
		t.Errorf("%+v", r)
	}
	isRestored(t, back, filepath.Join(destination, taken[1]))
	write(t, filepath.Join(back, "file"), "changed")
	next := backUp(t, exitDone, march(4), back, destination)
	want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[1])
}

func TestARollbackInPlaceSendsNothingAndContinuesTheHistory(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := changed(t, 3, source, destination)
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(source, "vm"))
	for day, backup := range []string{filepath.Join(destination, taken[0]), filepath.Join(source, "snapshot", taken[1])} {
		dry := expect(t, exitDone, invoke(t, march(4+2*day), "restore", "--dry-run", "--in-place", backup, source))
		if !strings.Contains(dry.stdout, "nothing would be sent") || !strings.Contains(dry.stdout, "would be kept as home.before-") {
			t.Error(dry.stdout)
		}
		r := restored(t, march(4+2*day), "--in-place", backup, source)
		if !r.Present || !r.Kept || len(r.Replace.Moved) < 4 {
			t.Errorf("%+v", r)
		}
		isRestored(t, source, filepath.Join(destination, filepath.Base(backup)))
		if !exists(filepath.Join(source, "vm")) || !exists(filepath.Join(filepath.Dir(source), filepath.Base(r.Replace.Aside))) {
			t.Errorf("something is missing: %+v", r)
		}
		write(t, filepath.Join(source, "file"), "changed")
		next := backUp(t, exitDone, march(5+2*day), "-N", "3", "-n", "3", source, destination)
		want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[2])
		want(t, "backups", names(t, destination), names(t, filepath.Join(source, "snapshot"))...)
		if len(names(t, destination)) != 3 {
			t.Errorf("%q", names(t, destination))
		}
	}
}

func TestWhatIsNoCopyAnyMoreIsNoParentOfARestore(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := changed(t, 2, source, destination)
	disk := smallFS(t).Dir
	home := filepath.Join(disk, "home")
	restored(t, march(3), filepath.Join(destination, taken[1]), home)
	received := filepath.Join(home, "snapshot", taken[1])
	old := func(name, parent string) {
		t.Helper()
		target := filepath.Join(disk, name)
		if r := restored(t, march(4), filepath.Join(destination, taken[0]), target); r.Parent != parent || r.Present {
			t.Errorf("%s: %+v", name, r)
		}
		isRestored(t, target, filepath.Join(destination, taken[0]))
		deleteSubvolume(t, filepath.Join(target, "snapshot", taken[0]))
	}
	old("older on newer", taken[1])
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "snapshot", "-r", received, filepath.Join(disk, "twin"))
	old("with a twin", taken[1])
	deleteSubvolume(t, filepath.Join(disk, "twin"))
	btrfstest.Run(t, "btrfs", "property", "set", "-f", "-ts", received, "ro", "false") // which clears it
	btrfstest.Run(t, "btrfs", "property", "set", "-ts", received, "ro", "true")
	old("received UUID gone", "")

	deleteSubvolume(t, filepath.Join(source, "snapshot", taken[1]))
	original := filepath.Join(source, "snapshot", taken[0])
	alter(t, original, func() { write(t, filepath.Join(original, "file"), "forged") })
	back := filepath.Join(filepath.Dir(source), "back")
	if r := restored(t, march(4), filepath.Join(destination, taken[1]), back); r.Parent != "" {
		t.Errorf("on an altered original: %+v", r)
	}
	isRestored(t, back, filepath.Join(destination, taken[1]))
}

func TestARestoreThatCannotBeIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := changed(t, 2, source, destination)
	disk, elsewhere := smallFS(t).Dir, btrfstest.NewOther(t, "ext4", 64<<20).Dir
	top := filepath.Dir(destination)
	makeDir(t, filepath.Join(disk, "dir"))
	write(t, filepath.Join(disk, "dir", "precious"), "")
	altered := filepath.Join(destination, taken[0])
	alter(t, altered, func() { write(t, filepath.Join(altered, "file"), "forged") })
	for _, name := range []string{btrfs.Incoming("20200101-000000"), "writable"} {
		btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(destination, name))
	}
	backup := filepath.Join(destination, taken[1])
	before := append(everything(t, disk), everything(t, top)...)
	for _, test := range []struct {
		args []string
		text string
	}{
		{[]string{backup, filepath.Join(disk, "dir")}, "is there already"},
		{[]string{backup, disk}, "name a new subvolume in it"},
		{[]string{backup, source}, "--in-place"},
		{[]string{backup, filepath.Join(elsewhere, "home")}, "--path . --to " + filepath.Join(elsewhere, "home")},
		{[]string{backup, filepath.Join(disk, "no/home")}, "mkdir -p"},
		{[]string{"--in-place", backup, filepath.Join(disk, "missing")}, "leave out --in-place"},
		{[]string{"--in-place", backup, filepath.Join(disk, "dir")}, "only a subvolume can give its place up"},
		{[]string{"--in-place", backup, disk}, "top level"},
		{[]string{altered, filepath.Join(disk, "home")}, "altered since it was received"},
		{[]string{filepath.Join(destination, btrfs.Incoming("20200101-000000")), filepath.Join(disk, "home")}, "unfinished"},
		{[]string{filepath.Join(destination, "writable"), filepath.Join(disk, "home")}, "writ"},
		{[]string{filepath.Join(destination, "missing"), filepath.Join(disk, "home")}, "no such file"},
		{[]string{destination, filepath.Join(disk, "home")}, "one of them must be named\nbtrfs-backup: hint: --at now takes the newest; the newest is " + backup},
		{[]string{"--at", "2020-01-01", destination, filepath.Join(disk, "home")}, "nothing as old"},
		{[]string{"--snapshot-folder", elsewhere, backup, filepath.Join(disk, "home")}, "btrfs"},
	} {
		for _, option := range []string{"--dry-run", "--no-wait"} {
			failed := expect(t, exitFailed, invoke(t, march(3), append([]string{"restore", option}, test.args...)...), test.text, "hint: ")
			if got := append(everything(t, disk), everything(t, top)...); !slices.Equal(got, before) {
				t.Fatalf("%q leaves\n%q, there was\n%q:\n%s", test.args, got, before, failed.stderr)
			}
		}
	}
	expect(t, exitUsage, invoke(t, nil, "restore", backup), "TARGET")
	expect(t, exitUsage, invoke(t, nil, "restore", "--at", "someday", backup, "x"), "--at")
}

func TestARestoreToAndFromAnotherMachine(t *testing.T) {
	t.Parallel()
	far := newRemote(t, sshtest.Options{})
	source, destination := newSmallPair(t)
	taken := changed(t, 2, source, destination)
	disk := smallFS(t).Dir
	home := filepath.Join(disk, "home")
	with := func(args ...string) []string { return append(slices.Clone(far.options), args...) }
	r := restored(t, march(3), with(filepath.Join(destination, taken[1]), far.place(home))...)
	if r.Parent != "" || len(names(t, disk)) != 1 {
		t.Errorf("to it: %+v, %q", r, names(t, disk))
	}
	isRestored(t, home, filepath.Join(destination, taken[1]))
	r = restored(t, march(3), with("--in-place", far.place(filepath.Join(destination, taken[0])), far.place(home))...)
	if r.Parent != taken[1] || len(names(t, disk)) != 2 {
		t.Errorf("in place: %+v, %q", r, names(t, disk))
	}
	isRestored(t, home, filepath.Join(destination, taken[0]))
	want(t, "snapshots", names(t, filepath.Join(home, "snapshot")), taken...)
	write(t, filepath.Join(home, "file"), "changed")
	next := backUp(t, exitDone, march(4), with(far.place(home), destination)...)
	want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[0])

	limited := newRestricted(t, "--restrict-to "+destination+" --append-only --receive-only")
	refused := filepath.Join(disk, "refused")
	expect(t, exitFailed, invoke(t, march(5), append(limited.options, "restore", limited.place(filepath.Join(destination, taken[1])), refused)...),
		"refused: this key may not look into backups", "use a key without")
	if exists(refused) {
		t.Error("it is there")
	}
}

func TestAKilledRestoreLeavesTheOldOneInPlaceAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"receive begun", "received", "renamed", "committed", "writable snapshot made", "subvolumes exchanged", "snapshot writable"} {
		t.Run(step, func(t *testing.T) {
			if step != "subvolumes exchanged" && step != "committed" {
				btrfstest.OnlyInAll(t)
			}
			t.Parallel()
			source, destination := newSmallPair(t)
			taken := changed(t, 2, source, destination)
			deleteSubvolume(t, filepath.Join(source, "snapshot", taken[1]))
			write(t, filepath.Join(source, "file"), "present")
			args := []string{"restore", "--in-place", filepath.Join(destination, taken[1]), source}
			killed := invoke(t, append(march(3), testOnlyKillAt+"="+step), args...)
			if killed.step() != step {
				t.Fatalf("not killed:\n%s", killed.stderr)
			}
			content, err := os.ReadFile(filepath.Join(source, "file"))
			if after := step == "subvolumes exchanged" || step == "snapshot writable"; err != nil || (string(content) == "present") == after {
				t.Errorf("%q, %v", content, err)
			}
			expect(t, exitDone, invoke(t, march(4), args...))
			isRestored(t, source, filepath.Join(destination, taken[1]))
			want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), taken...)
			if left := names(t, filepath.Dir(source)); len(left) != 2 {
				t.Errorf("there are %q", left)
			}
			next := backUp(t, exitDone, march(5), source, destination)
			want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[1])
		})
	}
}

func TestAKilledRestoreToANewSubvolumeGoesOn(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"receive begun", "committed", "writable snapshot made", "snapshot writable", "snapshot moved", "subvolume in its place"} {
		t.Run(step, func(t *testing.T) {
			if step != "snapshot writable" {
				btrfstest.OnlyInAll(t)
			}
			t.Parallel()
			source, destination := newSmallPair(t)
			taken := changed(t, 2, source, destination)
			disk := smallFS(t).Dir
			home := filepath.Join(disk, "home")
			args := []string{"restore", filepath.Join(destination, taken[1]), home}
			killed := invoke(t, append(march(3), testOnlyKillAt+"="+step), args...)
			if killed.step() != step {
				t.Fatalf("not killed:\n%s", killed.stderr)
			}
			expect(t, exitDone, invoke(t, march(4), args...))
			isRestored(t, home, filepath.Join(destination, taken[1]))
			want(t, "what is there", names(t, disk), "home")
			want(t, "snapshots", names(t, filepath.Join(home, "snapshot")), taken[1])
			next := backUp(t, exitDone, march(5), home, destination)
			want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[1])
		})
	}
}
