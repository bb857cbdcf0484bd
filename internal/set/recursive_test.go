package set_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// levels are the subvolumes of a recursive rig, by their paths from root.
var levels = []string{"", "home", "home/alice", "home/alice/mail", "var/lib/machines"}

// newRecursive is a rig with subvolumes in subvolumes, and some that are to be left out.
func newRecursive(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	for _, level := range append(slices.Clone(levels[1:]), "home/cache", "home/cache/inner", "home/20250101-000000") {
		r.subvolume("root", level)
	}
	for _, level := range levels {
		r.write(filepath.Join("root", level), "in "+level)
	}
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", r.at("root", "home"), r.at("root", "read-only"))
	r.spec.Members, r.spec.Source, r.spec.Recursive = nil, job.Local{Path: r.at("root")}, true
	r.spec.Copy.Filters = []job.Filter{{Rule: "exclude", Value: "cache"}}
	return r
}

// isMirrored fails unless these backups, and no others, are in the folder of every subvolume, the last of them up to date.
func (r *rig) isMirrored(levels []string, names ...string) {
	r.Helper()
	for _, level := range levels {
		var got []string
		entries, err := os.ReadDir(r.to(level))
		btrfstest.Check(r, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "2026") {
				got = append(got, e.Name())
			}
		}
		if !slices.Equal(got, names) {
			r.Errorf("of %q there are %q, want %q", level, got, names)
		}
		content, err := os.ReadFile(r.to(level, names[len(names)-1], "file"))
		if now, _ := os.ReadFile(r.at("root", level, "file")); err != nil || string(now) != string(content) {
			r.Errorf("%q holds %q, %v", level, content, err)
		}
	}
}

func TestAllSubvolumesBelowASourceAreBackedUpUnderOneName(t *testing.T) {
	r := newRecursive(t)
	did := r.succeed()
	if got := did.Destinations[0].Sets; len(got) != 1 || got[0].Name != day(1) || got[0].Lacks != nil || len(did.Members) != len(levels) {
		t.Errorf("it tells %+v of %d members", got, len(did.Members))
	}
	for _, want := range []string{"5 subvolumes, itself included; skipped: 1 read-only, 1 excluded", "would look like backups: \\\"home/20250101-000000\\\""} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("not told: %s\n%s", want, r.log.String())
		}
	}
	r.write("root/home/alice", "changed")
	did = r.succeed()
	r.isMirrored(levels, days(1, 2)...)
	for i, level := range levels {
		r.holds(r.at("root", level, "snapshot"), days(1, 2)...)
		if sent := did.Members[i].Destinations[0].Transfers; len(sent) != 1 || sent[0].Parent != day(1) {
			t.Errorf("%q: %+v", level, sent)
		}
		if omitted := did.Members[i].Omitted; len(omitted) > 0 {
			t.Errorf("%q: missing %q", level, omitted)
		}
	}
	for _, left := range []string{"home/cache", "read-only", "home/20250101-000000"} {
		if _, err := os.Lstat(r.to(left)); err == nil {
			t.Errorf("%s has a folder", left)
		}
	}
}

// The commands are those of docs/sets.md.
func TestARecursiveBackupIsRestoredFromTheTopDown(t *testing.T) {
	r := newRecursive(t)
	r.succeed()
	btrfstest.Run(t, "sh", "-ec", `cd "$1" && mkdir received received-home
btrfs send "$2/$3" | btrfs receive received
btrfs send "$2/home/$3" | btrfs receive received-home
btrfs subvolume snapshot received/$3 root
btrfs subvolume snapshot received-home/$3 root/home`, "sh", btrfstest.New(t, size).Dir, r.to(), day(1))
}

func TestSubvolumesComeAndGoBetweenRuns(t *testing.T) {
	r := newRecursive(t)
	r.spec.KeepBackups, r.spec.KeepSnapshots = policy(t, "last=2"), policy(t, "last=1")
	r.succeed()
	btrfstest.Run(t, "btrfs", "subvolume", "delete", r.at("root/home/alice/mail/snapshot", day(1)), r.at("root/home/alice/mail"))
	r.subvolume("root", "new")
	r.write("root/new", "new")
	gone := "no subvolumes any more, or excluded: \\\"home/alice/mail\\\""
	for i := 2; i <= 4; i++ {
		r.succeed()
		if strings.Count(r.log.String(), gone) != 1 {
			t.Errorf("run %d: told %d times", i, strings.Count(r.log.String(), gone))
		}
	}
	r.isMirrored([]string{"", "home", "home/alice", "var/lib/machines", "new"}, days(3, 4)...)
	r.holds(r.to("home/alice/mail"), day(1))
	r.holds(r.at("root/home/snapshot"), day(4))
	r.subvolume("root", "home/alice/mail") // of the same name as the one that is gone
	r.write("root/home/alice/mail", "again")
	r.succeed()
	r.holds(r.to("home/alice/mail"), days(1, 5)...)
}

func TestWithoutADestinationTheSnapshotsAreTakenAndPruned(t *testing.T) {
	r := newRecursive(t)
	r.spec.Destinations, r.spec.KeepSnapshots = nil, policy(t, "last=2")
	for range 3 {
		r.succeed()
	}
	for _, level := range levels {
		r.holds(r.at("root", level, "snapshot"), days(2, 3)...)
	}
}

func TestASubvolumeThatIsGoneAgainIsLeftOut(t *testing.T) {
	r := newRecursive(t)
	r.atNow = func() { // when all was opened
		r.atNow = nil
		btrfstest.Run(t, "btrfs", "subvolume", "delete", r.at("root/home/alice/mail"))
	}
	if did := r.succeed(); r.atNow != nil || len(did.Members) != len(levels)-1 {
		t.Errorf("%d members", len(did.Members))
	}
	r.isMirrored([]string{"", "home", "home/alice", "var/lib/machines"}, day(1))
	r.holds(r.to("home/alice/mail"))
	btrfstest.Run(t, "btrfs", "subvolume", "delete", r.at("root/home/alice/snapshot", day(1)), r.at("root/home/alice"))
	btrfstest.Check(t, os.Rename(r.at("root"), r.at("moved"))) // the source itself may not be gone
	r.atNow = nil
	machines := job.NewMachines(r.spec.Reach, r.given)
	defer machines.Close()
	if _, err := r.spec.Prepare(t.Context(), machines, r.given); err == nil {
		t.Error("a source that is gone is backed up")
	}
}

func TestAnAbsoluteSnapshotFolderMirrorsTheTree(t *testing.T) {
	for _, folder := range []string{"snapshots", "root/.snapshots"} {
		t.Run(folder, func(t *testing.T) {
			r := newRecursive(t)
			if folder != "snapshots" {
				r.subvolume(folder)
			}
			r.spec.Subvolume.Folder = r.at(folder)
			r.succeed()
			r.succeed()
			r.isMirrored(levels, days(1, 2)...)
			for _, level := range levels {
				for _, name := range days(1, 2) {
					if _, err := os.Stat(r.at(folder, level, name)); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := os.Lstat(r.to(".snapshots")); err == nil {
				t.Error("the folder of the snapshots is backed up")
			}
		})
	}
}

func TestWhatIsHiddenByAMountIsLeftOutAndTold(t *testing.T) {
	r := newRecursive(t)
	btrfstest.Run(t, "mount", "--bind", r.at("data"), r.at("root/home/alice"))
	t.Cleanup(func() { btrfstest.Unmount(t, r.at("root/home/alice")) })
	r.succeed()
	if !strings.Contains(r.log.String(), "something else is mounted there: \\\"home/alice\\\"") {
		t.Error(r.log.String())
	}
	if _, err := os.Lstat(r.to("home/alice")); err == nil {
		t.Error("it has a folder")
	}
}

func TestRecursionIsForSubvolumes(t *testing.T) {
	r := newRecursive(t)
	r.spec.Source = job.Local{Path: r.at("etc")}
	machines := job.NewMachines(r.spec.Reach, r.given)
	defer machines.Close()
	if _, err := r.spec.Prepare(t.Context(), machines, r.given); err == nil || !strings.Contains(err.Error(), btrfs.ErrNotSubvolume.Error()) {
		t.Error(err)
	}
	r.holds(r.destination)
}

func TestASubvolumeThatFailsLeavesTheOthersTheirBackups(t *testing.T) {
	r := newRecursive(t)
	r.spec.KeepBackups = policy(t, "last=1")
	r.succeed()
	blocked := r.to("home", "."+day(2)+".incoming")
	btrfstest.Check(t, os.WriteFile(blocked, nil, 0o600))
	did := r.fail("home")
	if got := did.Destinations[0].Sets; len(got) != 1 || strings.Join(got[0].Lacks, " ") != "home" {
		t.Errorf("it tells %+v", got)
	}
	r.isMirrored([]string{"", "home/alice"}, days(1, 2)...)
	btrfstest.Check(t, os.Remove(blocked))
	r.succeed()
	r.isMirrored(levels, day(3))
}
