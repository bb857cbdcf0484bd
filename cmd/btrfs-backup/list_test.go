package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"

	"golang.org/x/sys/unix"
)

// listedOf gives what list --json tells, by name.
func listedOf(t testing.TB, args ...string) map[string]inventory.Entry {
	t.Helper()
	var all []inventory.Entry
	r := succeed(t, append([]string{"list", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	byName := make(map[string]inventory.Entry)
	for _, l := range all {
		byName[l.Name] = l
	}
	if len(byName) != len(all) {
		t.Fatalf("a name is listed twice: %s", r.stdout)
	}
	return byName
}

// uuid gives a UUID of a subvolume as btrfs-progs tells it.
func uuid(t testing.TB, field, path string) string {
	t.Helper()
	for line := range strings.Lines(btrfstest.Run(t, "btrfs", "subvolume", "show", path)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("btrfs subvolume show tells no %q of %s", field, path)
	return ""
}

func TestListTellsStatesAndParents(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)
	at := func(name string) string { return filepath.Join(destination, name) }
	subvolume(t, at("somebody's own"))
	subvolume(t, at(".20260303-120000.incoming"))
	makeDir(t, at("plain directory"))

	backups := listedOf(t, destination)
	for name, kind := range map[string]inventory.Kind{
		taken[0]:                    inventory.Backup,
		taken[1]:                    inventory.Backup,
		"somebody's own":            inventory.Writable,
		".20260303-120000.incoming": inventory.Unfinished,
	} {
		l, ok := backups[name]
		complete := kind == inventory.Backup
		if !ok || l.Kind != kind || l.Complete != complete || l.ReadOnly != complete || l.Place != destination {
			t.Errorf("%s: %+v", name, l)
		}
		if l.UUID.String() != uuid(t, "UUID", at(name)) || l.Size != nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if len(backups) != 4 {
		t.Errorf("listed: %v", backups)
	}
	second := backups[taken[1]]
	if second.Parent != taken[0] || second.ParentUUID != backups[taken[0]].UUID {
		t.Errorf("parent: %+v", second)
	}
	if got := second.ReceivedUUID.String(); got != uuid(t, "UUID", filepath.Join(source, "snapshot", taken[1])) {
		t.Errorf("received UUID %s", got)
	}
	if got := second.Time.Format("20060102-150405"); got != taken[1] {
		t.Errorf("time: %s", got)
	}
}

func TestListOfASourceIsThatOfItsSnapshotFolder(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)
	other := backUp(t, exitDone, march(3), "-f", "other", "-p", "o-", source).Snapshot

	snapshots := listedOf(t, source)
	if l := snapshots[taken[1]]; len(snapshots) != 2 || l.Kind != inventory.Snapshot || !l.Complete || l.Place != filepath.Join(source, "snapshot") {
		t.Errorf("snapshots: %+v", snapshots)
	}
	if l := listedOf(t, "-f", "other", source); len(l) != 1 || l[other].Name == "" {
		t.Errorf("in the other folder: %+v", l)
	}
	if l := listedOf(t, "-p", "o-", filepath.Join(source, "other")); len(l) != 1 {
		t.Errorf("with the prefix: %+v", l)
	}
	if l := listedOf(t, "-p", "p-", filepath.Join(source, "other")); len(l) != 0 {
		t.Errorf("with another prefix: %+v", l)
	}
}

func TestListIsATableForEachPlace(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)

	r := succeed(t, "list", source, destination)
	blocks := strings.Split(r.stdout, destination+": ")
	if len(blocks) != 2 || !strings.HasPrefix(blocks[0], filepath.Join(source, "snapshot")) {
		t.Fatalf("%s", r.stdout)
	}
	var st unix.Statfs_t
	btrfstest.Check(t, unix.Statfs(destination, &st))
	if free := progress.Bytes(int64(st.Bavail) * st.Bsize); !strings.HasPrefix(blocks[1], "2 backups of ") || !strings.Contains(blocks[1], ":"+source+", "+free+" free\n") {
		t.Errorf("not told of what they are and that %s are free:\n%s", free, r.stdout)
	}
	if snapshot := line(blocks[0], taken[1]); !strings.HasPrefix(blocks[0], filepath.Join(source, "snapshot")+": 2 snapshots, ") || !strings.Contains(snapshot, "newest") {
		t.Errorf("snapshots:\n%s", blocks[0])
	}
	if backup := line(blocks[1], taken[1]); !strings.HasSuffix(backup, "newest, next parent\n") || strings.Contains(line(blocks[1], taken[0]), "newest") {
		t.Errorf("backups:\n%s", blocks[1])
	}
	for l := range strings.Lines(blocks[1][strings.Index(blocks[1], "\n")+1:]) {
		if len(l) > 81 {
			t.Errorf("%d columns: %s", len(l)-1, l)
		}
	}
	if l := listedOf(t, destination)[taken[1]]; l.Sent == nil || *l.Sent <= 0 || l.Freed == nil || !slices.Equal(l.Notes, []string{"newest", "next parent"}) {
		t.Errorf("what took to send, what deleting frees and what is noted of %+v", l)
	}
	if l := listedOf(t, source)[taken[1]]; len(l.Notes) != 2 || l.Notes[1] != "next parent for "+destination {
		t.Errorf("what is noted of a snapshot: %q", l.Notes)
	}
	if row := strings.Fields(line(blocks[1], taken[1])); !slices.Contains(row, taken[0]) {
		t.Errorf("the parent of %s is not told:\n%s", taken[1], r.stdout)
	}
}

// line gives the line of a text that begins with a word.
func line(text, word string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, word) {
			return l
		}
	}
	return ""
}

func TestAgesAreToldInOneUnit(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for ago, want := range map[time.Duration]string{-time.Minute: "future", 0: "0 s", 119 * time.Second: "119 s", 2 * time.Minute: "2 min", 119 * time.Minute: "119 min",
		47 * time.Hour: "47 h", 49 * time.Hour: "2 d", 800 * 24 * time.Hour: "2 y"} {
		if got := report.Age(now.Add(-ago), now); got != want {
			t.Errorf("%s: %s", ago, got)
		}
	}
}

func TestAListOfADiskTellsWhichFoldersOfBackupsAreOnIt(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	disk := filepath.Dir(destination)
	taken := series(t, 2, source, destination)
	makeDir(t, filepath.Join(disk, "photos"))
	succeed(t, "-q", "--engine", "rsync", source, filepath.Join(disk, "laptop", "etc"))
	far := newRemote(t, sshtest.Options{})
	for _, place := range [][]string{{disk}, append(slices.Clone(far.options), far.place(disk))} {
		r := succeed(t, append([]string{"list"}, place...)...)
		home, etc := strings.Fields(line(r.stdout, filepath.Base(destination))), line(r.stdout, "laptop/etc")
		if len(home) < 3 || home[2] != "2" || !strings.Contains(etc, ":"+source+" (rsync)") {
			t.Errorf("%q:\n%s", place, r.stdout)
		}
		all := listedOf(t, place...)
		if l := all[taken[1]]; l.Place == "" || !strings.HasSuffix(l.Place, destination) || len(all) != 3 {
			t.Errorf("%q: %+v", place, all)
		}
	}
}

func TestWhatIsNotFinishedIsListedAsThat(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	succeed(t, "-q", r.source, r.destination)
	state := filepath.Join(r.destination, ".btrfs-backup/unfinished.json")
	btrfstest.Check(t, os.WriteFile(state, []byte(`{".20261129-010203.incoming": {"source": "s"}, ".20261128-010203.deleting": {}}`), 0o600))
	for _, name := range []string{".20261129-010203.incoming", ".20261128-010203.deleting"} {
		makeDir(t, filepath.Join(r.destination, name))
	}
	out := succeed(t, "list", r.destination).stdout
	for name, state := range map[string]string{".20261129-010203.incoming": "unfinished", ".20261128-010203.deleting": "deleting"} {
		row := line(out, name[1:16])
		if fields := strings.Fields(row); len(fields) == 0 || fields[len(fields)-1] != state || strings.Contains(row, "0001") {
			t.Errorf("%s: %q", name, row)
		}
	}
	if l := listedOf(t, r.destination)[".20261129-010203.incoming"]; l.Time.Year() != 2026 || l.Complete {
		t.Errorf("%+v", l)
	}
}

func TestListTellsSizesWhereQuotasAreEnabled(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	const size = 3 << 20
	if err := os.WriteFile(filepath.Join(source, "large"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	name := series(t, 1, source, destination)[0]
	btrfstest.Run(t, "btrfs", "quota", "enable", destination)
	btrfstest.Run(t, "btrfs", "quota", "rescan", "-w", destination)

	l := listedOf(t, destination)[name]
	if l.Size == nil || l.Exclusive == nil || *l.Size < size || *l.Size > 2*size || *l.Exclusive > *l.Size {
		t.Fatalf("size: %+v", l)
	}
	if row := line(succeed(t, "list", destination).stdout, name); !strings.Contains(row, "MiB") {
		t.Fatalf("no size in %q", row)
	}
}

func TestListQuotesNamesThatUpsetATerminal(t *testing.T) {
	t.Parallel()
	const evil = "two\nlines \x1b[31mred"
	disk := smallFS(t).Dir
	snapshotByHand(t, subvolume(t, filepath.Join(disk, evil)), filepath.Join(disk, "child"))

	r := succeed(t, "list", disk)
	if strings.Contains(r.stdout, "\x1b") || strings.Count(r.stdout, `"two\nlines \x1b[31mred"`) != 2 {
		t.Fatalf("%q", r.stdout)
	}
	if l := listedOf(t, disk); l[evil].Name != evil || l["child"].Parent != evil {
		t.Fatalf("%+v", l)
	}
}

func TestListOfWhatIsNoPlaceIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lost := filepath.Join(dir, "lost")
	makeDir(t, filepath.Join(lost, "home-20261129-010203"))
	expect(t, exitFailed, invoke(t, nil, "list", lost), lost+": there is no record of 1 dated", "hint: its .btrfs-backup is gone")
	expect(t, exitFailed, invoke(t, nil, "list", dir), dir+": not on a btrfs filesystem", "hint: is its disk mounted?")
	expect(t, exitFailed, invoke(t, nil, "list", filepath.Join(dir, "missing")), "error: there is no folder "+filepath.Join(dir, "missing")+"\n",
		"hint: check the spelling; is its disk mounted?")
	write(t, filepath.Join(dir, "format"), "{}")
	expect(t, exitFailed, invoke(t, nil, "list", dir), dir+" is a store in a folder", "hint: name it store:"+dir)
	expect(t, exitFailed, invoke(t, nil, "explain", "mnt-pool-home"), "there is no folder /", "/mnt-pool-home\n", "hint: check the spelling")
}
