package removal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/internal/when"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func parse(text string, into *retention.Policy) (err error) {
	*into, err = retention.Parse(text)
	return err
}

var none = removal.Options{}

func TestBackupsAreDeletedByNameAndWhatIsOnRecordGoesWithThem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	check(t, os.WriteFile(r.at("home", "later removed"), make([]byte, 3<<20), 0o600))
	r.backUp(2, r.at("home"), r.to("home"), r.to("again"))
	check(t, os.Remove(r.at("home", "later removed")))
	r.backUp(2, r.at("home"), r.to("home"), r.to("again"))
	r.backUp(3, r.at("etc"), r.to("etc"))
	dry := removal.Options{DryRun: true}
	if gone, _ := r.deletes(r.to("home"), removal.Named(days(1, 2)), dry); len(gone) != 2 {
		t.Errorf("a dry run would delete %q", namesOf(gone))
	} else if r.freed == nil || *r.freed != 3<<20 {
		t.Errorf("it would free %v", r.freed)
	}
	r.holds(r.to("home"), days(1, 2, 3, 4)...)
	if gone, stay := r.deletes(r.to("home"), removal.Named(days(1, 2, 1)), none); len(gone) != 2 || len(stay) != 0 {
		t.Errorf("deleted %+v, kept %+v", gone, stay)
	}
	r.holds(r.to("home"), days(3, 4)...)
	r.deletes(r.to("etc"), removal.Named(days(5)), none)
	r.holds(r.to("etc"), days(6, 7)...)
	left, err := filepath.Glob(r.to("etc", ".btrfs-backup", "manifests", "*"))
	check(t, err)
	if all := fmt.Sprint(left); strings.Contains(all, day(5)) || len(left) != 4 {
		t.Errorf("manifests and records: %q", left)
	}
	if did := r.backUp(1, r.at("etc"), r.to("etc")); did.Destinations[0].Transfers[0].Parent != day(7) {
		t.Errorf("the next copy: %+v", did.Destinations[0].Transfers)
	}
}

func TestWhatTheNextIncrementNeedsIsDeletedOnlyIfTheUserInsists(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(1, r.at("home"), r.to("home"), r.to("away"))
	r.backUp(1, r.at("home"), r.to("home"))
	snapshots := r.at("home", "snapshot")
	r.refuses(snapshots, removal.Named(days(1)), none, "the next backup to "+r.to("away")+" would be built upon an older", "--even-parent")
	r.refuses(snapshots, removal.Named(days(1, 2)), none, "the next backup to "+r.to("home"), "--even-parent")
	r.refuses(r.to("home"), removal.Named(days(2)), none, "it is the newest backup of ", "--even-parent")
	r.refuses(r.to("away"), removal.Named(days(1)), none, "the next one would be complete, 1.0 MiB", "--even-parent")
	insist := removal.Options{EvenParent: true}
	gone, _ := r.deletes(snapshots, removal.Named(days(1)), insist)
	if len(gone) != 1 || len(gone[0].Means) != 1 {
		t.Errorf("it told %+v", gone)
	}
	if l := r.ledger(snapshots); strings.Contains(l, "away") || !strings.Contains(l, r.to("home")) {
		t.Errorf("the ledger holds %s", l)
	}
	r.holds(snapshots, day(2))
	r.refuses(snapshots, removal.Named(days(2)), none, "the next backup to "+r.to("home")+" would be complete, 1.0 MiB", "--even-parent")
	r.deletes(r.to("home"), removal.Named(days(2)), insist)
	r.holds(r.to("home"), day(1))
	if did := r.backUp(1, r.at("home"), r.to("home")); len(did.Destinations[0].Transfers) != 2 { // day 2 again
		t.Errorf("sent %+v", did.Destinations[0].Transfers)
	}
}

func TestTheNewestCompleteCopyIsNeededHoweverManyIncompleteOnesCameAfterIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(2, r.at("etc"), r.to("etc"))
	record := r.to("etc", ".btrfs-backup", "manifests", day(2)+".json")
	content, err := os.ReadFile(record)
	check(t, err)
	check(t, os.WriteFile(record, []byte(strings.Replace(string(content), `"files"`, `"missing": 1, "files"`, 1)), 0o600))
	r.refuses(r.to("etc"), removal.Named(days(1)), none, "the only complete backup of ", "--even-parent")
	r.deletes(r.to("etc"), removal.Named(days(2)), none)
	r.holds(r.to("etc"), day(1))
	if latest, err := os.Readlink(r.to("etc", ".latest")); err != nil || latest != day(1) {
		t.Errorf(".latest leads to %q, %v", latest, err)
	}
}

func TestWhatIsNotCertainlyOursIsNeverDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(4, r.at("home"), r.to("home"))
	folder := btrfstest.Open(t, r.to("home"))
	check(t, btrfs.Create(folder, day(20)))
	check(t, os.Mkdir(r.to("home", day(21)), 0o755))
	check(t, btrfs.SetReadOnly(folder, day(1), false))
	check(t, os.WriteFile(r.to("home", day(1), "forged"), nil, 0o600))
	check(t, btrfs.SetReadOnly(folder, day(1), true))
	mounted := t.TempDir()
	btrfstest.Run(t, "mount", "--bind", r.to("home", day(2)), mounted)
	t.Cleanup(func() { btrfstest.Unmount(t, mounted) })
	btrfstest.Run(t, "btrfs", "subvolume", "set-default", r.to("home", day(3)))
	insist := removal.Options{EvenParent: true, EvenMember: true}
	for name, want := range map[string][2]string{
		day(20): {"it can be written to", "btrfs subvolume delete " + r.to("home", day(20))},
		day(21): {"is no snapshot or backup that this program made", "btrfs-backup list"},
		day(22): {"there is no such snapshot or backup", "btrfs-backup list"},
		day(1):  {"somebody altered it", "btrfs subvolume delete"},
		day(2):  {"it is mounted", "findmnt"},
		day(3):  {"it is the default subvolume", "btrfs subvolume set-default 5 "},
	} {
		r.refuses(r.to("home"), removal.Named{day(4), name}, insist, want[0], want[1])
	}
	origins := r.to("home", ".btrfs-backup", "origins.json")
	check(t, os.Rename(origins, origins+".away"))
	r.refuses(r.to("home"), removal.Named{day(4)}, insist, "there is no record of what it is a backup of", "btrfs subvolume delete")
	check(t, os.WriteFile(origins, []byte("{"), 0o600))
	r.fails(r.to("home"), removal.Named{day(4)}, insist, "origins.json")
	check(t, os.Rename(origins+".away", origins))
	r.deletes(r.to("home"), removal.Named{day(4)}, insist)
}

func (r *rig) fails(folder string, c removal.Choice, o removal.Options, text string) {
	r.Helper()
	r.refuses(folder, c, o, text, "")
}

func TestWhatIsOlderThanADateGoesButNotTheNewestCompleteOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(3, r.at("home"), r.to("home"))
	r.backUp(2, r.at("etc"), r.to("etc"))
	older := func(text string) removal.Older {
		span, err := when.Parse(text, r.now)
		check(t, err)
		return removal.Older(span)
	}
	r.deletes(r.to("home"), older("2026-06-03"), none)
	r.holds(r.to("home"), days(2, 3)...)
	for _, folder := range []string{r.to("home"), r.to("etc"), r.at("home", "snapshot")} {
		newest := dated(t, folder)
		newest = newest[len(newest)-1:]
		if _, stay := r.deletes(folder, older("2027-06-03"), none); !slices.Equal(namesOf(stay), newest) || len(stay[0].Reasons) != 1 {
			t.Errorf("%s: kept %+v", folder, stay)
		}
		r.holds(folder, newest...)
	}
}

func TestAPolicyDeletesWhatARunWouldDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(4, r.at("home"), r.to("home"))
	unrecorded := r.to("home", day(30))
	btrfstest.Run(t, "sh", "-c", `btrfs subvolume create "$1/other" && btrfs subvolume snapshot -r "$1/other" "$1/$2" &&
		btrfs send -q "$1/$2" | btrfs receive -q "$3"`, "sh", r.source, day(0), r.to("home"))
	check(t, os.Rename(r.to("home", day(0)), unrecorded))
	r.now = r.now.AddDate(0, 0, 40)
	p := removal.ByPolicy{Policy: r.policy("last=2"), Now: r.now}
	gone, _ := r.deletes(r.to("home"), p, removal.Options{DryRun: true})
	want := []string{day(2), day(1)}
	if !slices.Equal(namesOf(gone), want) || gone[0].Reasons[0] != "older than the newest 2" {
		t.Errorf("would delete %+v", gone)
	}
	r.now = r.now.AddDate(0, 0, -40)
	r.spec.KeepBackups, r.spec.DryRun, r.spec.Subvolume.NoSnapshot = p.Backups, true, true
	if did := r.backUp(1, r.at("home"), r.to("home")); !slices.Equal(did.Destinations[0].Deleted, days(1, 2)) {
		t.Errorf("a run would delete %q", did.Destinations[0].Deleted)
	}
	r.deletes(r.to("home"), p, none)
	r.holds(r.to("home"), days(3, 4, 30)...)
}

func TestAPolicyLeavesSnapshotsThatADestinationMayNeed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(1, r.at("home"), r.to("home"), r.to("away"))
	r.backUp(2, r.at("home"), r.to("home"))
	snapshots := r.at("home", "snapshot")
	p := removal.ByPolicy{Policy: r.policy("last=1"), Now: r.now, Destinations: []string{r.to("home"), "/never/reached"}}
	r.refuses(snapshots, p, none, "/never/reached may still need them", "btrfs-backup forget")
	ledger := filepath.Join(snapshots, lock.LedgerFile)
	content := r.ledger(snapshots)
	check(t, os.WriteFile(ledger, []byte("{"), 0o600))
	p.Destinations = p.Destinations[:1]
	r.refuses(snapshots, p, none, "not a ledger", "repair the file")
	check(t, os.WriteFile(ledger, []byte(content), 0o600))
	r.deletes(snapshots, p, none)
	r.holds(snapshots, days(1, 3)...)
}

func TestAPolicyOfOneSourceLeavesTheBackupsOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	check(t, btrfs.Create(btrfstest.Open(t, r.source), "other"))
	r.backUp(2, r.at("home"), r.to("home"))
	r.backUp(2, r.at("other"), r.to("home"))
	info, err := btrfs.Info(btrfstest.Open(t, r.at("home")))
	check(t, err)
	p := removal.ByPolicy{Policy: r.policy("last=1"), Now: r.now, Of: []inventory.Owner{{UUIDs: []btrfs.UUID{info.UUID}}}}
	if gone, stay := r.deletes(r.to("home"), p, none); !slices.Equal(namesOf(gone), days(1)) || !slices.Equal(namesOf(stay), days(3)) {
		t.Errorf("deleted %q, kept %q", namesOf(gone), namesOf(stay))
	}
}

func TestASetGoesAsAWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, name := range []string{"home", "etc"} {
		r.spec.Members = append(r.spec.Members, job.Member{Name: name, Source: job.Local{Path: r.at(name)}})
	}
	r.spec.Destinations = []job.Place{job.Local{Path: r.to("set")}}
	r.run(4)
	r.refuses(r.to("set", "home"), removal.Named(days(1)), none, "it is a member of a set", "btrfs-backup delete "+r.to("set", day(1)))
	r.refuses(r.to("set"), removal.Named(days(4)), none, "it is the newest complete set there", "--even-parent")
	gone, _ := r.deletes(r.to("set"), removal.Named(days(1)), none)
	if len(gone) != 3 {
		t.Errorf("deleted %+v", gone)
	}
	r.deletes(r.to("set", "home"), removal.Named(days(2)), removal.Options{EvenMember: true})
	r.refuses(r.to("set", "home"), removal.Named(days(4)), removal.Options{EvenMember: true}, "it is in the newest complete set", "--even-parent")
	p := removal.ByPolicy{Policy: r.policy("last=1"), Now: r.now}
	r.deletes(r.to("set"), p, none)
	for _, folder := range []string{r.to("set"), r.to("set", "home"), r.to("set", "etc")} {
		r.holds(folder, day(4))
	}
	older := removal.Older{First: r.now.Add(time.Hour), Last: r.now.Add(time.Hour)}
	if gone, stay := r.deletes(r.to("set"), older, none); len(gone) > 0 || len(stay) != 1 {
		t.Errorf("deleted %+v, kept %+v", gone, stay)
	}
	r.deletes(r.to("set"), removal.Named(days(4)), removal.Options{EvenParent: true})
	r.holds(r.to("set"))
	r.holds(r.to("set", "etc"))
}

func TestAFolderThatIsInUseIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(2, r.at("home"), r.to("home"))
	held, err := lock.Acquire(t.Context(), btrfstest.Open(t, r.to("home")), nil)
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if did, err := removal.Run(ctx, r.order(r.to("home"), removal.Named(days(1))), removal.Options{Log: r.given.Log}); err == nil || did.Deleted() {
		t.Errorf("%v, %+v", err, did)
	}
	r.holds(r.to("home"), days(1, 2)...)
	check(t, held.Release())
	r.deletes(r.to("home"), removal.Named(days(1)), none)
}

func TestWhatCannotBeReachedStopsNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(2, r.at("home"), r.to("home"))
	orders := append(r.order(r.to("missing"), removal.Named{"x"}), r.order(r.to("home"), removal.Named(days(1)))...)
	did, err := removal.Run(t.Context(), orders, removal.Options{Log: r.given.Log})
	if err == nil || !slices.Equal(namesOf(did.Items), days(1)) || !did.Deleted() {
		t.Errorf("%v, %+v", err, did)
	}
	r.holds(r.to("home"), day(2))
}

func TestForgottenDestinationsHoldNoSnapshots(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.backUp(1, r.at("home"), r.to("home"), r.to("old"))
	r.backUp(2, r.at("home"), r.to("home"))
	snapshots, state := r.at("home", "snapshot"), lock.State{Dir: r.given.State}
	content := strings.Replace(r.ledger(snapshots), `"`+day(3)+`": {`, `"`+day(2)+`": {"locks": ["/typo"]}, "`+day(3)+`": {`, 1)
	check(t, os.WriteFile(filepath.Join(snapshots, lock.LedgerFile), []byte(content), 0o644))
	p := removal.Parting{Host: r.host, Source: r.at("home"), Folder: "snapshot", State: state, Log: r.given.Log,
		Destinations: []removal.Forsaken{{Text: "/unknown", Names: []string{"/unknown"}}, {Text: "old", Names: []string{"old", r.to("old")}}}}
	if _, err := removal.Forget(t.Context(), p); err == nil || !strings.Contains(fmt.Sprint(err), "/unknown") || r.ledger(snapshots) != content {
		t.Errorf("%v, and the ledger holds %s", err, r.ledger(snapshots))
	}
	p.Destinations, p.DryRun = p.Destinations[1:], true
	did, err := removal.Forget(t.Context(), p)
	if check(t, err); did.String() != "would forget 1 destination; 1 snapshot would be free to be deleted" || r.ledger(snapshots) != content {
		t.Errorf("%s", did)
	}
	p.DryRun = false
	did, err = removal.Forget(t.Context(), p)
	if check(t, err); !slices.Equal(did.Free, days(1)) || strings.Contains(r.ledger(snapshots), r.to("old")) {
		t.Errorf("%s", did)
	}
	used, err := state.Used()
	if check(t, err); used.Knows(r.to("old")) || !used.Knows(r.to("home")) {
		t.Errorf("used: %v", used)
	}
	p.Destinations, p.NeverReached = nil, true
	did, err = removal.Forget(t.Context(), p)
	if check(t, err); !slices.Equal(did.Destinations, []string{"/typo"}) || !slices.Equal(did.Free, days(2)) {
		t.Errorf("%+v", did)
	}
	did, err = removal.Forget(t.Context(), p)
	if check(t, err); len(did.Destinations) != 0 {
		t.Errorf("%+v", did)
	}
}
