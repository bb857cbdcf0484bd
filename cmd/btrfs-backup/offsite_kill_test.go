package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
)

// pruning is a policy with which each run deletes something.
var pruning = []string{"-N", "2", "-n", "2"}

// storesOnlyPromises fails the test unless each backup in the store is whole, with all that it builds on.
func (r *offsiteRig) storesOnlyPromises() {
	r.Helper()
	s, c := r.open(), r.catalog()
	for i := range c.Backups {
		b := &c.Backups[i]
		if _, missing := c.Chain(b); len(b.Faults) > 0 || !missing.IsZero() {
			r.Fatalf("%s: %v; it builds on %s, which is missing", b.Name, b.Faults, missing)
		}
		content := s.Stream(r.Context(), &b.Manifest, r.ids)
		n, err := io.Copy(io.Discard, content)
		if btrfstest.Check(r, errors.Join(err, content.Close())); n != b.Bytes {
			r.Fatalf("%s: %d bytes came back of %d", b.Name, n, b.Bytes)
		}
	}
}

// sentAgain tells how many of the objects that were there before are in the store no more, though nothing deleted their backup.
func sentAgain(before, after map[string]string) (lost []string) {
	for _, key := range parts(before) {
		if after[key] != before[key] {
			lost = append(lost, key)
		}
	}
	return lost
}

func TestKilledAtAnyStepOfARunToAStoreLeavesNoFalseBackupAndSendsNothingTwice(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	for range 3 {
		r.write("data", smallPart/2)
		r.saves(pruning...)
	}
	isKilledAtEachStep(t, func(at string) result {
		r.write("data", 2*smallPart+smallPart/2)
		killed := r.run([]string{testOnlyKillAt + "=" + at}, pruning...)
		r.storesOnlyPromises()
		return killed
	}, func() {
		before := r.objects()
		r.saves("-N", "3") // nothing is deleted: all that was there counts
		if again := sentAgain(before, r.objects()); len(again) > 0 {
			t.Errorf("stored before, and not used: %v", again)
		}
		r.saves(pruning...)
		r.storesOnlyPromises()
		if held := r.held(); !slices.Contains(held, r.snapshots()[len(r.snapshots())-1]) {
			t.Errorf("the newest snapshot of %v is not in %v", r.snapshots(), held)
		}
	}, "stored", "all stored", "manifest stored", "manifest deleted", "index without deleted")
	folder, all := r.received()
	for _, name := range all {
		if slices.Contains(r.snapshots(), name) {
			isCopy(t, r.source, folder, name)
		}
	}
}

func TestKilledWhileAStoreIsMadeTheNextRunMakesIt(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		if killed := r.run([]string{testOnlyKillAt + "=store begun"}); killed.step() == "" {
			r.Fatalf("%+v", killed)
		}
		r.saves()
		r.isSaved()
	})
}

// isKilledWith kills a run when the server got so many parts, and another one is under way.
func (r *offsiteRig) isKilledWith(stored int) {
	r.Helper()
	r.server.Fail(objecttest.Fault{Match: isPart, Skip: stored, Hang: true})
	run := start(r, r.command(nil))
	eventually(r, func() bool { return len(parts(r.objects())) >= stored }, func() string { return run.said() })
	time.Sleep(200 * time.Millisecond) // others are under way by now
	run.signal(syscall.SIGKILL)
	run.wait()
	r.server.Heal()
}

func TestKilledWhileObjectsAreUnderWayTheNextRunStoresOnlyThese(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	r.saves()
	r.write("data", 8*smallPart)
	first := len(parts(r.objects()))
	r.isKilledWith(first + 4)
	before := r.objects()
	if held := r.held(); len(held) != 1 {
		t.Fatalf("the store holds %v", held)
	}
	r.server.Counts()
	expect(t, exitDone, r.run(nil, "--no-snapshot"), "goes on", "objects of it are there already")
	if again := sentAgain(before, r.objects()); len(again) > 0 {
		t.Errorf("stored before, and not used: %v", again)
	}
	stored, whole := len(parts(before))-first, len(parts(r.objects()))-first
	if puts := r.server.Counts()["PUT"]; stored < 4 || puts > whole-stored+4 { // names, manifest, index, and what tells of the server
		t.Errorf("%d parts of %d were there, and %d objects were stored", stored, whole, puts)
	}
	r.isSaved()
}

// What is known of an attempt is lost: it begins anew, and nothing of it is taken for a backup, nor deleted too early.
func TestALostOrDamagedJournalOfAnUploadCostsOnlyTime(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t testing.TB, path string){
		"lost":    func(t testing.TB, path string) { btrfstest.Check(t, os.Remove(path)) },
		"empty":   func(t testing.TB, path string) { btrfstest.Check(t, os.Truncate(path, 0)) },
		"cut":     func(t testing.TB, path string) { btrfstest.Check(t, os.Truncate(path, 150)) },
		"flipped": flip,
		"zeros": func(t testing.TB, path string) { // as after a power failure
			info, err := os.Stat(path)
			btrfstest.Check(t, err)
			btrfstest.Check(t, os.WriteFile(path, make([]byte, info.Size()), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newOffsiteRig(t)
			r.write("data", 4*smallPart)
			killed := r.run([]string{testOnlyKillAt + "=all stored"})
			if killed.step() != "all stored" {
				t.Fatalf("%+v", killed)
			}
			journals, err := filepath.Glob(filepath.Join(r.state, "btrfs-backup", "uploads", "*"))
			if err != nil || len(journals) != 1 {
				t.Fatal(journals, err)
			}
			harm(t, journals[0])
			r.saves("--no-snapshot")
			r.holdsOnly(r.snapshots())
			if rest := r.catalog().Rest; len(rest) > 1 {
				t.Errorf("besides: %+v", rest)
			}
			r.age(old)
			r.saves()
			r.isSaved()
		})
	}
}

// old is long before any run of a test.
var old = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// age makes all objects as old as if they were stored then.
func (r *offsiteRig) age(to time.Time) {
	r.Helper()
	for key := range r.objects() {
		btrfstest.Check(r, os.Chtimes(filepath.Join(r.folder, key), to, to))
	}
}

// The snapshot's extents were deduplicated since, so its stream is another one.
func TestAnUploadWhoseStreamIsAnotherBeginsAnew(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.write("first", 2*smallPart)
	content, err := os.ReadFile(filepath.Join(r.source, "first"))
	btrfstest.Check(t, err)
	btrfstest.Check(t, os.WriteFile(filepath.Join(r.source, "second"), content, 0o600))
	r.write("third", smallPart)
	killed := r.run([]string{testOnlyKillAt + "=all stored"})
	if killed.step() != "all stored" {
		t.Fatalf("%+v", killed)
	}
	share(t, filepath.Join(r.source, "snapshot", r.snapshots()[0]), "first", "second", len(content))
	expect(t, exitDone, r.run(nil, "--no-snapshot"), "sending once more from the start")
	r.isSaved()
}

func TestKilledAtAnyMomentLeavesNoFalseBackup(t *testing.T) {
	btrfstest.OnlyInAll(t)
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		began := time.Now()
		r.write("data", 6*smallPart)
		r.saves(pruning...)
		took := time.Since(began)
		for range 40 {
			r.write("data", 6*smallPart)
			run := start(r, r.command(nil, pruning...))
			time.Sleep(time.Duration(rand.Int64N(int64(took))))
			_ = run.cmd.Process.Kill() // it may have ended
			run.wait()
			r.storesOnlyPromises()
			r.saves(pruning...)
			r.storesOnlyPromises()
		}
		r.age(old)
		r.write("data", smallPart)
		r.saves(pruning...)
		if rest := r.catalog().Rest; len(rest) > 0 {
			r.Errorf("besides: %+v", rest)
		}
	})
}

func TestABadStreamIsNeverCommittedToAStore(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.write("data", 2*smallPart)
	r.saves()
	for kind, faults := range map[string][]streamFault{"truncated": truncations, "flipped bit": flippedBits} {
		for i, fault := range faults {
			if i%3 > 0 && !btrfstest.All() {
				continue
			}
			r.write("data", 2*smallPart)
			before := r.objects()
			streams := newTap(t, fault.does)
			expect(t, exitFailed, r.run(streams.environ()), "sending once more from the start", "send stream is ")
			streams.passed(t, 2)
			if after := r.objects(); len(after) != len(before) {
				t.Errorf("%s %s: %d objects became %d", kind, fault.name, len(before), len(after))
			}
			r.saves()
		}
	}
	r.isSaved()
	r.write("data", 2*smallPart)
	streams := newTapForOne(t, "flip 1/2")
	expect(t, exitDone, r.run(streams.environ()), "sending once more from the start")
	r.isSaved()
}
