package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// explainedOf gives what explain --json tells on a day of March, a line for each name: what stays, why, and until when.
func explainedOf(t testing.TB, day int, args ...string) map[string]string {
	t.Helper()
	var all []inventory.Decided
	r := expect(t, exitDone, invoke(t, march(day), append([]string{"explain", "--json"}, args...)...))
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	told := make(map[string]string)
	for _, e := range all {
		verdict, _, _ := strings.Cut(e.String(), " ")
		told[e.Name] = verdict + ": " + strings.Join(e.Reasons, ", ")
		if !e.Goes.IsZero() {
			told[e.Name] += " until " + e.Goes.Format(time.DateOnly)
		}
	}
	if len(told) != len(all) {
		t.Fatalf("a name is told twice: %s", r.stdout)
	}
	return told
}

// wantExplained fails the test unless exactly this is told of these names.
func wantExplained(t testing.TB, got map[string]string, want map[string]string) {
	t.Helper()
	for name, line := range want {
		if got[name] != line {
			t.Errorf("%s: %q, want %q", name, got[name], line)
		}
	}
	if len(got) != len(want) {
		t.Errorf("told of %d: %q", len(got), got)
	}
}

func TestBackupsAreExplainedHereAndOnAnotherMachine(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 4, source, destination)
	other := newSource(t, smallFS(t).Dir, "other")
	ofOther := backUp(t, exitDone, march(5), other, destination).Snapshot
	altered := filepath.Join(destination, taken[2])
	alter(t, altered, func() { write(t, filepath.Join(altered, "file"), "forged") })
	subvolume(t, filepath.Join(destination, "somebody's own"))
	far := newRemote(t, sshtest.Options{})
	for _, place := range [][]string{{destination}, append(slices.Clone(far.options), far.place(destination))} {
		wantExplained(t, explainedOf(t, 5, append(place, "-n", "2")...), map[string]string{
			taken[0]: "delete: older than the newest 2",
			taken[1]: "keep: number 2 of the newest 2 until 2026-03-07",
			taken[2]: "keep: altered since it was received",
			taken[3]: "keep: the newest until 2026-03-09",
			ofOther:  "keep: the newest until 2026-03-07", // a day is usual for the first one
		})
	}
}

func TestWhatDestinationsNeedIsExplained(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	away := filepath.Join(smallFS(t).Dir, "away")
	first := backUp(t, exitDone, march(1), source, destination, away).Snapshot
	second := backUp(t, exitDone, march(2), source, destination).Snapshot
	third := backUp(t, exitDone, march(3), source, destination).Snapshot
	wantExplained(t, explainedOf(t, 3, "--keep-snapshots", "last=1", source), map[string]string{
		first:  "keep: newest common with " + away,
		second: "delete: older than the newest 1",
		third:  "keep: newest common with " + destination + ", the newest until 2026-03-04",
	})
	want(t, "what a run deletes", backUp(t, exitDone, march(4), "-N1", source, destination).Deleted, second, third)
}

func TestCopiesByRsyncAreExplained(t *testing.T) {
	t.Parallel()
	onKinds(t, func(t *testing.T, kind string) {
		r := newCopyRig(t, kind)
		var saved []string
		for i := range 4 {
			r.write("file", fmt.Sprint(i))
			saved = append(saved, filepath.Base(r.saves()))
		}
		for _, name := range saved[2:] {
			spoilRecord(t, filepath.Join(r.destination, ".btrfs-backup/manifests", name+".json"))
		}
		for _, dir := range []string{r.destination, r.destinationFS.Dir} {
			wantExplained(t, explainedOf(t, 1, "-n1", dir), map[string]string{
				saved[0]: "delete: older than the newest 1",
				saved[1]: "keep: the newest complete one",
				saved[2]: "delete: older than the newest 1",
				saved[3]: "keep: the newest until 2026-03-01",
			})
		}
	})
}

// spoilRecord makes a backup by rsync an incomplete one.
func spoilRecord(t testing.TB, path string) {
	t.Helper()
	record := make(map[string]any)
	content, err := os.ReadFile(path)
	btrfstest.Check(t, err)
	btrfstest.Check(t, json.Unmarshal(content, &record))
	record["missing"], record["incomplete"] = 1, []string{"file: permission denied"}
	content, err = json.Marshal(record)
	btrfstest.Check(t, err)
	btrfstest.Check(t, os.WriteFile(path, content, 0o600))
}
