package set_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

func TestASetIsSavedUnderOneNameAndMarkedWhenAllOfItIsThere(t *testing.T) {
	r := newRig(t)
	for i := 1; i <= 2; i++ {
		r.write("root", fmt.Sprint("root ", i))
		r.write("etc", fmt.Sprint("etc ", i))
		did := r.succeed()
		if did.Snapshot != day(i) || len(did.Members) != 3 {
			t.Errorf("it tells %+v", did)
		}
		for _, m := range did.Members {
			if d := m.Destinations[0]; len(d.Transfers) != 1 || d.Transfers[0].Snapshot != day(i) || (d.Transfers[0].Parent == "") != (i == 1) {
				t.Errorf("%s: %+v", m.Source, d.Transfers)
			}
		}
	}
	r.isComplete(day(1), day(2))
	r.holds(r.to(), append(days(1, 2), "root", "data", "etc")...)
	for _, m := range []string{"root", "data", "etc"} {
		r.holds(r.to(m), days(1, 2)...)
	}
	r.holds(r.at("root", "snapshot"), days(1, 2)...)
}

func TestTheRetentionDecidesOnASetAsOnOne(t *testing.T) {
	r := newRig(t)
	r.spec.KeepSnapshots, r.spec.KeepBackups = policy(t, "last=1"), policy(t, "last=2")
	for range 4 {
		r.succeed()
	}
	r.isComplete(day(3), day(4))
	r.holds(r.to(), append(days(3, 4), "root", "data", "etc")...)
	for _, m := range []string{"root", "data", "etc"} {
		r.holds(r.to(m), days(3, 4)...)
	}
	for _, m := range []string{"root", "data"} {
		r.holds(r.at(m, "snapshot"), day(4))
	}
}

// A member that came later has by itself other oldest days of its weeks than the set.
func TestAMemberThatCameLaterIsKeptByTheVerdictOnTheSet(t *testing.T) {
	r := newRig(t)
	r.spec.KeepSnapshots, r.spec.KeepBackups = policy(t, "4w"), policy(t, "4w")
	all := r.spec.Members
	r.spec.Members = []job.Member{all[0], all[2]}
	r.succeed() // Tuesday
	r.succeed()
	r.spec.Members = all
	r.succeed()
	for range 2 { // nor is anything sent again that the set does not keep
		for _, m := range r.succeed().Members {
			if n := len(m.Destinations[0].Transfers); n != 1 {
				t.Errorf("%s: %d transfers", m.Source, n)
			}
		}
	}
	for _, m := range []string{"root", "etc"} {
		r.holds(r.to(m), days(1, 5)...)
	}
	r.holds(r.to("data"), day(5))
	r.holds(r.at("root", "snapshot"), days(1, 5)...)
	r.holds(r.at("data", "snapshot"), day(5))
	r.holds(r.to(), append(days(1, 5), "root", "data", "etc")...)
}

func TestWhatTheSetDoesNotKeepIsNotSentAgainForAMemberThatWould(t *testing.T) {
	r := newRig(t)
	r.spec.KeepBackups = policy(t, "4w")
	all := r.spec.Members
	r.spec.Members = all[:1]
	r.succeed()
	r.spec.Members = all[:2]
	for range 3 { // the second has the oldest snapshot of its own week
		for _, m := range r.succeed().Members {
			if n := len(m.Destinations[0].Transfers); n != 1 {
				t.Errorf("%s: %d transfers", m.Source, n)
			}
		}
	}
}

func TestWhatAKilledRunLeftOfAnotherSetIsRemoved(t *testing.T) {
	r := newRig(t)
	r.succeed()
	for _, hidden := range []string{".20200101-000000.incoming", ".20200102-000000.deleting"} {
		btrfstest.Check(t, os.Mkdir(r.to(hidden), 0o755))
		btrfstest.Check(t, os.Symlink("../root/"+hidden[1:16], r.to(hidden, "root")))
	}
	r.succeed()
	if left, _ := filepath.Glob(r.to(".2020*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestNothingIsDeletedWhereAMemberFailed(t *testing.T) {
	r := newRig(t)
	r.spec.KeepBackups = policy(t, "last=2")
	r.succeed()
	r.succeed()
	blocked := r.to("etc", "."+day(3)+".incoming")
	btrfstest.Check(t, os.WriteFile(blocked, nil, 0o600))
	r.fail("etc")
	r.holds(r.to("root"), days(1, 2, 3)...)
	r.isComplete(days(1, 2)...)
	btrfstest.Check(t, os.Remove(blocked))
	r.succeed()
	r.holds(r.to("root"), days(3, 4)...)
}

// Of two members that are copied, each lacks another name.
func TestTheNewestCompleteSetStaysBesideNewerIncompleteOnes(t *testing.T) {
	r := newRig(t)
	btrfstest.Check(t, os.Mkdir(r.at("conf"), 0o755))
	r.write("conf", "conf")
	r.spec.Members[1] = job.Member{Name: "conf", Source: job.Local{Path: r.at("conf")}}
	r.succeed()
	for i, m := range []string{"etc", "conf"} {
		blocked := r.to(m, "."+day(2+i)+".incoming")
		btrfstest.Check(t, os.WriteFile(blocked, nil, 0o600))
		r.fail(m)
		btrfstest.Check(t, os.Remove(blocked))
	}
	r.spec.Subvolume.NoTransfer, r.spec.Subvolume.NoSnapshot, r.spec.KeepBackups = true, true, policy(t, "last=1")
	r.succeed()
	r.holds(r.to(), day(1), "root", "conf", "etc")
	r.holds(r.to("conf"), days(1, 2)...)
	r.holds(r.to("etc"), days(1, 3)...)
	for _, m := range []string{"root", "conf", "etc"} {
		if _, err := os.Stat(r.to(day(1), m)); err != nil {
			t.Error(err)
		}
	}
}

func TestOfASetThatCannotBeTakenNothingIsTaken(t *testing.T) {
	r := newRig(t)
	r.spec.Members = r.spec.Members[:2]
	r.spec.Members[0], r.spec.Members[1] = r.spec.Members[1], r.spec.Members[0]
	r.succeed()
	r.atNow = func() { // when all was opened
		r.atNow = nil
		btrfstest.Check(t, os.Rename(r.at("root"), r.at("moved")))
		r.subvolume("root")
		btrfstest.Check(t, os.Mkdir(r.at("root", "snapshot"), 0o755))
	}
	told := &refusal{}
	r.given.Around = told
	r.fail("is another subvolume than before")
	if told.ended == nil || !strings.Contains(told.ended.Error(), "another subvolume") {
		t.Errorf("what runs after the snapshots is told %v", told.ended)
	}
	if r.atNow != nil || !strings.Contains(r.log.String(), "taking snapshot "+day(2)) {
		t.Fatal("the other one was not taken")
	}
	r.holds(r.at("data", "snapshot"), day(1))
	for _, m := range []string{"root", "data"} {
		r.holds(r.to(m), day(1))
	}
	btrfstest.Check(t, os.Rename(r.at("root"), r.at("other")))
	btrfstest.Check(t, os.Rename(r.at("moved"), r.at("root")))
	r.succeed()
	r.holds(r.to(), append(days(1, 3), "root", "data")...)
}

func TestASetThatIsInterruptedBetweenItsSnapshotsKeepsNone(t *testing.T) {
	r := newRig(t)
	stop := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	r.given.Log = slog.New(&atMessage{Handler: r.given.Log.Handler(), text: "taking snapshot " + day(1), do: func() { cancel(stop) }})
	if did, err := r.runIn(ctx); !errors.Is(err, stop) || len(did.AllFailures()) > 0 {
		t.Errorf("%v, %v", err, did.AllFailures())
	}
	if !strings.Contains(r.log.String(), "taking snapshot "+day(1)) {
		t.Fatal("none was taken")
	}
	r.holds(r.at("root", "snapshot"))
	r.holds(r.at("data", "snapshot"))
	r.holds(r.to())
}

// atMessage does something when a text is logged.
type atMessage struct {
	slog.Handler
	text string
	do   func()
}

func (h *atMessage) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == h.text {
		h.do()
	}
	return h.Handler.Handle(ctx, r)
}

func TestASourceThatIsMissingLeavesNothing(t *testing.T) {
	r := newRig(t)
	btrfstest.Check(t, os.RemoveAll(r.at("etc")))
	if _, err := r.spec.Prepare(t.Context(), job.NewMachines(r.spec.Reach, r.given), r.given); err == nil {
		r.fail("etc")
	}
	r.holds(r.at("root"), "file")
	r.holds(r.destination)
}

func TestAMemberThatFailsAtADestinationLeavesTheSetIncompleteUntilALaterRun(t *testing.T) {
	r := newRig(t)
	r.spec.KeepBackups = policy(t, "last=1")
	r.succeed()
	blocked := r.to("data", "."+day(2)+".incoming")
	btrfstest.Check(t, os.WriteFile(blocked, nil, 0o600))
	did := r.fail("data")
	if got := did.Destinations[0].Sets; len(got) != 1 || fmt.Sprint(got[0].Lacks) != "[data]" || got[0].Name != day(2) {
		t.Errorf("it tells %+v", got)
	}
	if did.Outcome() != engine.Partly {
		t.Errorf("the outcome is %v", did.Outcome())
	}
	r.holds(r.to("root"), days(1, 2)...)
	r.holds(r.to("data"), day(1))
	r.holds(r.to(), day(1), "root", "data", "etc")
	btrfstest.Check(t, os.Remove(blocked))
	r.spec.KeepBackups = policy(t, "last=5")
	r.succeed()
	r.isComplete(days(1, 2, 3)...)
}

// Of the two kinds of members only the subvolumes are refused on a filesystem that is not btrfs.
func TestADestinationThatIsRefusedToOneMemberGetsNothingOfTheOthers(t *testing.T) {
	r := newRig(t)
	gone := filepath.Join(t.TempDir(), "gone")
	r.spec.Destinations = append(r.spec.Destinations, job.Local{Path: filepath.Join(gone, "server")})
	did := r.fail("is left alone, since that of another member of the set is refused")
	if made, err := os.Lstat(gone); err == nil {
		t.Errorf("%s was made", made.Name())
	}
	if len(did.AllFailures()) != 3 {
		t.Errorf("%v", did.AllFailures())
	}
	r.isComplete(day(1))
	r.fail("etc: is left alone") // in each run
	r.isComplete(days(1, 2)...)
}

func TestADiskThatIsAwayGetsNoNewMember(t *testing.T) {
	r := newRig(t)
	all := r.spec.Members
	r.spec.Members = all[:2]
	second := btrfstest.New(t, size).Dir
	r.spec.Destinations = append(r.spec.Destinations, job.Local{Path: filepath.Join(second, "server")})
	r.succeed()
	for _, m := range []string{"root", "data"} { // what lies below the mount point of the disk
		btrfstest.Check(t, os.Rename(filepath.Join(second, "server", m), filepath.Join(second, m)))
		btrfstest.Check(t, os.Mkdir(filepath.Join(second, "server", m), 0o755))
	}
	r.spec.Members = all
	r.fail("the backups that were made there are gone")
	r.holds(filepath.Join(second, "server"), day(1), "data", "root")
	r.isComplete(day(2))
}

func TestANameThatIsTakenAnywhereIsTakenByNoMember(t *testing.T) {
	for _, taken := range [][]string{{"source", "root", "snapshot"}, {"destination", "etc"}, {"destination"}} {
		t.Run(strings.Join(taken, "/"), func(t *testing.T) {
			r := newRig(t)
			r.succeed()
			dir := append(taken[1:], day(2))
			path := r.to(dir...)
			if taken[0] == "source" {
				path = r.at(dir...)
			}
			btrfstest.Check(t, os.Mkdir(path, 0o755))
			began := time.Now()
			r.atNow = func() { r.now = r.now.Add(time.Since(began)); began = time.Now() }
			did := r.succeed()
			if !strings.HasPrefix(did.Snapshot, day(2)[:9]) || did.Snapshot == day(2) {
				t.Fatalf("the snapshots are called %s", did.Snapshot)
			}
			r.isComplete(day(1), did.Snapshot)
			r.holds(r.at("data", "snapshot"), day(1), did.Snapshot)
		})
	}
}

func TestASetWhoseNameIsTakenKeepsNoOtherFromBeingMarked(t *testing.T) {
	r := newRig(t)
	r.succeed()
	btrfstest.Check(t, os.RemoveAll(r.to(day(1))))
	btrfstest.Check(t, os.WriteFile(r.to(day(1)), []byte("somebody's"), 0o600))
	did, err := r.run()
	if err != nil || did.Outcome() != engine.Partly {
		t.Errorf("%v, %v", did.AllFailures(), err)
	}
	r.isComplete(day(2))
	if content, err := os.ReadFile(r.to(day(1))); err != nil || string(content) != "somebody's" {
		t.Errorf("of what is in the way %q is left, %v", content, err)
	}
}

func TestACopyOfTheSnapshotsPhaseIsMadeBeforeItsEnd(t *testing.T) {
	for _, inside := range []bool{true, false} {
		r := newRig(t)
		r.spec.CopyInside = inside
		phases := &phases{rig: r}
		r.given.Around = phases
		r.succeed()
		want := "before snapshot; after snapshot: root/snapshot; before transfer; after transfer: root/snapshot data root etc set"
		if inside {
			want = "before snapshot; after snapshot: root/snapshot etc; before transfer; after transfer: root/snapshot data root etc set"
		}
		if got := strings.Join(phases.told, "; "); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// A refusal of a phase.
type refusal struct {
	of    hook.Phase
	ended error
}

func (r *refusal) Before(_ context.Context, phase hook.Phase) error {
	if phase == r.of {
		return &hook.SkipError{Reason: "not now"}
	}
	return nil
}

func (r *refusal) After(_ context.Context, _ hook.Phase, _ string, ended error) error {
	r.ended = ended
	return nil
}

func TestAPhaseThatAHookRefusesIsLeftOutForAllMembers(t *testing.T) {
	r := newRig(t)
	r.spec.KeepSnapshots = policy(t, "last=1")
	r.succeed()
	r.given.Around = &refusal{of: hook.Snapshot}
	if did := r.succeed(); did.Skipped != "not now" {
		t.Errorf("%+v", did)
	}
	r.holds(r.at("root", "snapshot"), day(1))
	r.given.Around = &refusal{of: hook.Transfer}
	for range 2 {
		if did := r.succeed(); did.Skipped != "not now" {
			t.Errorf("%+v", did)
		}
	}
	r.holds(r.at("root", "snapshot"), days(1, 3, 4)...)
	r.holds(r.to("data"), day(1))
	r.given.Around = nil
	r.succeed()
	r.isComplete(day(1), day(5))
	r.holds(r.at("data", "snapshot"), day(5))
}

// phases tells what there is after each phase.
type phases struct {
	*rig
	told []string
}

func (p *phases) Before(_ context.Context, phase hook.Phase) error {
	p.told = append(p.told, "before "+string(phase))
	return nil
}

func (p *phases) After(_ context.Context, phase hook.Phase, snapshot string, ended error) error {
	there := []string{"after " + string(phase) + ":"}
	for name, path := range map[string]string{"root/snapshot": p.at("root", "snapshot", day(1)), "data": p.to("data", day(1)),
		"root": p.to("root", day(1)), "etc": p.to("etc", day(1)), "set": p.to(day(1))} {
		if _, err := os.Stat(path); err == nil {
			there = append(there, name)
		}
	}
	order := []string{"root/snapshot", "data", "root", "etc", "set"}
	slices.SortStableFunc(there[1:], func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	p.told = append(p.told, strings.Join(there, " "))
	if snapshot != day(1) || ended != nil {
		p.Errorf("%s: %s, %v", phase, snapshot, ended)
	}
	return nil
}
