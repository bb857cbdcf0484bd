package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

// entry is what a ledger says of a snapshot.
type entry struct{ locks, parentLocks []string }

// ledger reads the ledger in a folder as strictly as btrfs-backup 0.3.1 does.
func ledger(t testing.TB, folder string) map[string]entry {
	t.Helper()
	var content map[string]map[string][]string
	text, err := os.ReadFile(filepath.Join(folder, lock.LedgerFile))
	if err == nil {
		err = json.Unmarshal(text, &content)
	}
	if err != nil || content == nil {
		t.Fatalf("%v in the ledger %s", err, text)
	}
	entries := make(map[string]entry)
	for name, lists := range content {
		for key, list := range lists {
			if list == nil || key != "locks" && key != "parent_locks" {
				t.Fatalf("%s has %q: %v in the ledger %s", name, key, list, text)
			}
		}
		entries[name] = entry{lists["locks"], lists["parent_locks"]}
	}
	return entries
}

func writeLedger(t testing.TB, folder, content string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, lock.LedgerFile), content)
}

// bury puts something else in the place of a destination, until it is revived.
func bury(t testing.TB, destination string) {
	t.Helper()
	rename(t, destination, destination+" away")
	write(t, destination, "not a directory")
}

func revive(t testing.TB, destination string) {
	t.Helper()
	remove(t, destination)
	rename(t, destination+" away", destination)
}

func TestLedgerTellsWhatDestinationsHoldAndLack(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	dead := destination + " 2"

	first := backUp(t, exitDone, march(1), source, destination, dead).Snapshot
	bury(t, dead)
	second := backUp(t, exitPartly, march(2), source, destination, dead).Snapshot
	want(t, "locks", ledger(t, folder)[second].locks, dead)
	want(t, "parent locks", ledger(t, folder)[first].parentLocks, dead)
	want(t, "parent locks", ledger(t, folder)[second].parentLocks, destination)

	revive(t, dead)
	third := backUp(t, exitDone, march(3), source, dead).Snapshot
	entries := ledger(t, folder)
	want(t, "locks", append(entries[first].locks, append(entries[second].locks, entries[third].locks...)...))
	want(t, "parent locks", entries[second].parentLocks, destination)
	want(t, "parent locks", entries[third].parentLocks, dead)
}

func TestLedgerOfVersion031IsHonouredAndMerged(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	taken := series(t, 4, "-T", source)
	writeLedger(t, folder, `{
    "`+taken[0]+`": {"parent_locks": ["/mnt/away"]},
    "`+taken[2]+`": {"locks": ["/mnt/away", "ssh://root@nas:2222/backups"]}
}`)

	last := backUp(t, exitDone, march(5), "-N1", source, destination).Snapshot
	want(t, "snapshots", names(t, folder), taken[0], taken[2], last)
	entries := ledger(t, folder)
	want(t, "parent locks", entries[taken[0]].parentLocks, "/mnt/away")
	want(t, "locks", entries[taken[2]].locks, "/mnt/away", "ssh://root@nas:2222/backups")
	want(t, "parent locks", entries[last].parentLocks, destination)
}

func TestLedgerKeepsTheEntriesOfOtherPrefixes(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	writeLedger(t, folder, `{
    "work-20260101-000000": {"locks": ["/mnt/a"]},
    "20260101-000000": {"parent_locks": ["/mnt/b"]},
    "whatever": {"locks": ["/mnt/c"], "parent_locks": ["/mnt/d"]}
}`)
	backUp(t, exitDone, march(1), "-p", "home-", "-N1", source, destination)
	r := backUp(t, exitDone, march(2), "-p", "home-", "-N1", "--remove-locks", source, destination)

	entries := ledger(t, folder)
	want(t, "locks", entries["work-20260101-000000"].locks, "/mnt/a")
	want(t, "parent locks", entries["20260101-000000"].parentLocks, "/mnt/b")
	want(t, "locks", entries["whatever"].locks, "/mnt/c")
	want(t, "parent locks", entries["whatever"].parentLocks, "/mnt/d")
	want(t, "parent locks", entries[r.Snapshot].parentLocks, destination)
}

func TestUnreadableLedgerStopsDeletionsAtTheSourceOnly(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"not JSON",
		`{"20260301-120000": ["/mnt/usb"]}`,
		`{"20260301-120000": {"locks": ["/mnt/usb"], "more": []}}`,
		`[]`,
		`null`,
		`{"20260301-120000": {"locks": ["/mnt/usb"]}`,
		`{} {}`,
	} {
		t.Run(content, func(t *testing.T) {
			source, destination := newSmallPair(t)
			folder := filepath.Join(source, "snapshot")
			first := series(t, 1, source, destination)[0]
			writeLedger(t, folder, content)

			r := backUp(t, exitPartly, march(2), "-N1", "-n1", source, destination)
			if len(r.Failures) != 1 || !strings.Contains(r.Failures[0].Error, lock.LedgerFile) || r.Failures[0].Hint == "" {
				t.Fatalf("failures: %+v", r.Failures)
			}
			want(t, "snapshots", names(t, folder), first, r.Snapshot)
			want(t, "backups", names(t, destination), r.Snapshot)
			isCopy(t, source, destination, r.Snapshot)
			if kept, err := os.ReadFile(filepath.Join(folder, lock.LedgerFile)); err != nil || string(kept) != content {
				t.Fatalf("the ledger was changed to %s, %v", kept, err)
			}
		})
	}
}

// Without the ledger nobody knows whether a missing folder is that of a disk which is not mounted.
func TestUnreadableLedgerStopsFoldersFromBeingCreated(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	series(t, 1, source, destination)
	writeLedger(t, filepath.Join(source, "snapshot"), "not JSON")
	missing := filepath.Join(filepath.Dir(destination), "missing")
	expect(t, exitFailed, invoke(t, nil, source, missing), missing, "is its disk mounted?")
	if _, err := os.Lstat(missing); err == nil {
		t.Fatalf("%s was created", missing)
	}
}

func TestRemoveLocksForgetsDestinationsHoweverTheyAreSpelled(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	const other = "/mnt/other"
	taken := series(t, 2, "-T", source)
	writeLedger(t, folder, `{
    "`+taken[0]+`": {"locks": ["`+destination+`", "`+other+`"], "parent_locks": ["`+destination+`"]}
}`)

	parent, base := filepath.Split(destination)
	cmd := exec.Command("btrfs-backup", "-ST", "-N1", "--remove-locks", source, "./x/.././"+base+"//")
	cmd.Dir = parent
	cmd.Env = append(os.Environ(), march(3)...)
	expect(t, exitDone, invokeCmd(t, cmd))
	entries := ledger(t, folder)
	want(t, "locks", entries[taken[0]].locks, other)
	want(t, "parent locks", entries[taken[0]].parentLocks)
	want(t, "snapshots", names(t, folder), taken...)

	backUp(t, exitDone, march(4), "-ST", "-N1", "--remove-locks", source, other)
	want(t, "snapshots", names(t, folder), taken[1])
}

func TestLockedDestinationsAreThoseThatFailed(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	dead := destination + " 2"
	backUp(t, exitDone, clock("2026-02-27"), source, destination, dead)
	bury(t, dead)
	backUp(t, exitPartly, march(1), source, destination, dead)
	revive(t, dead)

	r := backUp(t, exitDone, march(2), "--locked-dests", source)
	if len(r.Destinations) != 1 {
		t.Fatalf("destinations: %+v", r.Destinations)
	}
	want(t, "backups", names(t, dead), names(t, filepath.Join(source, "snapshot"))...)

	r = backUp(t, exitDone, march(3), "--locked-dests", source)
	if len(r.Destinations) != 0 || r.Snapshot == "" {
		t.Fatalf("with nothing outstanding: %+v", r)
	}
	r = backUp(t, exitDone, march(4), "--locked-dests", source, destination)
	if !slices.Contains(names(t, destination), r.Snapshot) {
		t.Fatalf("%s is missing at %s", r.Snapshot, destination)
	}
}

func TestLockedDestinationThatIsNamedTooIsServedOnce(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	dead := destination
	backUp(t, exitDone, clock("2026-02-27"), source, dead)
	bury(t, dead)
	backUp(t, exitFailed, march(1), source, dead)
	revive(t, dead)

	r := backUp(t, exitDone, march(2), "--locked-dests", source, dead+"/")
	if len(r.Destinations) != 1 {
		t.Fatalf("destinations: %+v", r.Destinations)
	}
}
