package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// snapshotByHand makes a read-only snapshot without the program.
func snapshotByHand(t testing.TB, source, path string) string {
	t.Helper()
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", source, path)
	return path
}

// sendByHand sends a snapshot to a folder as people do it in a shell.
func sendByHand(t testing.TB, snapshot, folder string, options ...string) {
	t.Helper()
	argv := slices.Concat([]string{"btrfs", "send", "-q"}, options, []string{snapshot})
	pipe(t, `"$@" | btrfs receive -q "$FOLDER"`, folder, argv...)
}

// leavePartial leaves in the folder what is received when sending breaks off.
func leavePartial(t testing.TB, snapshot, folder string) string {
	t.Helper()
	pipe(t, `"$@" | head -c 200 | btrfs receive -q "$FOLDER" || true`, folder, "btrfs", "send", "-q", snapshot)
	partial := filepath.Join(folder, filepath.Base(snapshot))
	if ro := btrfstest.Run(t, "btrfs", "property", "get", "-ts", partial, "ro"); ro != "ro=false" {
		t.Fatalf("%s is no partial copy: %s", partial, ro)
	}
	return partial
}

func pipe(t testing.TB, script, folder string, argv ...string) {
	t.Helper()
	cmd := exec.Command("bash", append([]string{"-o", "pipefail", "-c", script, "bash"}, argv...)...)
	cmd.Env = append(os.Environ(), "FOLDER="+folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func makeDir(t testing.TB, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestBackupsMadeByOthersAreParents(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ first, second string }{
		{"before the update", "after it"},
		{"home.20260101T1200", "home.20260102T1200"},
		{"20260101-120000", "20260102-120000"},
	} {
		t.Run(test.first, func(t *testing.T) {
			t.Parallel()
			source, destination := newSmallPair(t)
			folder := makeDir(t, filepath.Join(source, "snapshot"))
			makeDir(t, destination)
			first := snapshotByHand(t, source, filepath.Join(folder, test.first))
			sendByHand(t, first, destination)
			second := snapshotByHand(t, source, filepath.Join(folder, test.second))
			sendByHand(t, second, destination, "-p", first)

			r := backUp(t, exitDone, march(1), source, destination)
			want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+test.second)
			isCopy(t, source, destination, r.Snapshot)
		})
	}
}

func TestParentIsFoundByUUIDWhateverItsNames(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	taken := series(t, 2, source, destination)
	rename(t, filepath.Join(destination, taken[1]), filepath.Join(destination, "kept for ever"))

	r := backUp(t, exitDone, march(3), "-S", source, destination)
	want(t, "transfers of what was renamed", r.to(t, destination).transfers())

	rename(t, filepath.Join(folder, taken[1]), filepath.Join(folder, "renamed too"))
	r = backUp(t, exitDone, march(4), source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<renamed too")
}

func TestWhatIsInTheWayOfANameIsLeftAlone(t *testing.T) {
	t.Parallel()
	for kind, put := range map[string]func(t *testing.T, path string){
		"directory":         func(t *testing.T, path string) { makeDir(t, path) },
		"file":              func(t *testing.T, path string) { write(t, path, "precious") },
		"symbolic link":     func(t *testing.T, path string) { symlink(t, "/etc", path) },
		"dangling link":     func(t *testing.T, path string) { symlink(t, "nowhere", path) },
		"foreign snapshot":  func(t *testing.T, path string) { snapshotByHand(t, newSource(t, filepath.Dir(path), "other"), path) },
		"backup of another": putBackupOfAnother,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			source, destination := newSmallPair(t)
			taken := series(t, 3, "-T", source)
			path := filepath.Join(makeDir(t, destination), taken[1])
			put(t, path)
			before := allIn(t, path)

			r := expect(t, exitDone, invoke(t, march(4), "-n9", source, destination), taken[1]+"\" not saved", "move that away or rename it")
			unchanged(t, before, path)
			isCopy(t, source, destination, taken[0])
			if dry := expect(t, exitDone, invoke(t, march(5), "-n9", "--dry-run", source, destination)); strings.Contains(dry.stdout, "send "+taken[1]) {
				t.Errorf("dry run:\n%s\nrun:\n%s", dry.stdout, r.stderr)
			}
		})
	}
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// putBackupOfAnother puts the backup of another host's source at path.
func putBackupOfAnother(t *testing.T, path string) {
	other := smallFS(t).Dir
	sendByHand(t, snapshotByHand(t, newSource(t, other, "other"), filepath.Join(other, filepath.Base(path))), filepath.Dir(path))
}

func TestLeftoversOfEarlierRunsAreReplaced(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	taken := series(t, 3, "-T", source)
	makeDir(t, destination)
	at := func(name string) string { return filepath.Join(destination, name) }

	rename(t, leavePartial(t, filepath.Join(folder, taken[0]), destination), at("."+taken[0]+".incoming"))
	sendByHand(t, filepath.Join(folder, taken[1]), destination)
	rename(t, at(taken[1]), at("."+taken[1]+".incoming"))
	leavePartial(t, filepath.Join(folder, taken[2]), destination)
	gone := snapshotByHand(t, source, filepath.Join(folder, "20260201-120000"))
	leavePartial(t, gone, destination)
	btrfstest.Run(t, "btrfs", "subvolume", "delete", gone)

	r := backUp(t, exitDone, march(4), "--clean-partial", source, destination)
	want(t, "leftovers", r.to(t, destination).Leftovers,
		"."+taken[0]+".incoming", "."+taken[1]+".incoming", "20260201-120000", taken[2])
	want(t, "backups", names(t, destination), append(taken, r.Snapshot)...)
	for _, name := range names(t, destination) {
		isCopy(t, source, destination, name)
	}
	hidden, err := filepath.Glob(filepath.Join(destination, ".*.incoming"))
	if err != nil || len(hidden) > 0 {
		t.Fatalf("left: %v, %v", hidden, err)
	}
}

func TestAWritableSubvolumeIsNeverDeletedUnasked(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	first := series(t, 1, source, destination)[0]
	at := func(name string) string { return filepath.Join(destination, name) }
	btrfstest.Run(t, "btrfs", "property", "set", "-f", "-ts", at(first), "ro", "false") // to work in it
	btrfstest.Run(t, "btrfs", "subvolume", "create", at("20240101-120000"))
	for _, name := range []string{first, "20240101-120000"} {
		btrfstest.Check(t, os.WriteFile(filepath.Join(at(name), "precious"), nil, 0o644))
	}
	for _, options := range [][]string{nil, {"-n", "1"}, {"--dry-run"}} {
		said := invoke(t, march(2), slices.Concat(options, []string{source, destination})...)
		for _, name := range []string{first, "20240101-120000"} {
			if !exists(filepath.Join(at(name), "precious")) {
				t.Fatalf("%q: %s is gone", options, name)
			}
		}
		if !strings.Contains(said.stderr, "--clean-partial") {
			t.Errorf("%q: nobody is told:\n%s", options, said.stderr)
		}
	}
}

func TestWhatMayBeSomebodysOwnIsNoLeftover(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	first := series(t, 1, source, destination)[0]
	at := func(name string) string { return filepath.Join(destination, name) }

	snapshotByHand(t, at(first), at("20260201-120000")) // keeps the received UUID
	snapshotByHand(t, newSource(t, destination, "own"), at("20260202-120000"))
	other := snapshotByHand(t, source, filepath.Join(folder, "work-20260203-120000"))
	leavePartial(t, other, destination)
	btrfstest.Run(t, "btrfs", "subvolume", "create", at(".work-20260204-120000.incoming"))
	btrfstest.Run(t, "btrfs", "subvolume", "create", at(".20260205-120000.incoming.old"))
	btrfstest.Run(t, "btrfs", "subvolume", "create", at("20260206-12000"))
	makeDir(t, at("20260207-120000"))
	makeDir(t, at(".20260208-120000.incoming"))
	before := everything(t, destination)

	r := backUp(t, exitDone, march(2), source, destination)
	want(t, "leftovers", r.to(t, destination).Leftovers)
	for _, name := range before {
		if _, err := os.Lstat(at(name)); err != nil {
			t.Error(err)
		}
	}
}

// everything gives the entries of a directory, the hidden ones too.
func everything(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestRestoredSourceGoesOn(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	disk := filepath.Dir(source)
	taken := series(t, 2, source, destination)
	rename(t, source, filepath.Join(disk, "broken"))
	folder := makeDir(t, filepath.Join(disk, "snapshots"))
	sendByHand(t, filepath.Join(destination, taken[1]), folder)
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", filepath.Join(folder, taken[1]), source)

	r := backUp(t, exitDone, march(3), "-f", folder, "-n1", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+taken[1])
	btrfstest.Equal(t, filepath.Join(source, "file"), filepath.Join(destination, r.Snapshot, "file"))
	// the policy applies to those of the source that broke, too, but it is still there, and may go on from its newest
	want(t, "backups", names(t, destination), taken[1], r.Snapshot)
}

func TestRestoredSourceWithoutItsSnapshotsIsSentCompletely(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)
	rename(t, source, source+".broken")
	sendByHand(t, filepath.Join(destination, taken[1]), filepath.Dir(source))
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", filepath.Join(filepath.Dir(source), taken[1]), source)
	// in the restored tree the snapshots of then are empty directories
	for _, placeholder := range names(t, filepath.Join(source, "snapshot")) {
		remove(t, filepath.Join(source, "snapshot", placeholder))
	}

	r := backUp(t, exitDone, march(3), source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot)
	want(t, "backups", names(t, destination), append(taken, r.Snapshot)...)
	btrfstest.Equal(t, filepath.Join(source, "file"), filepath.Join(destination, r.Snapshot, "file"))
}
