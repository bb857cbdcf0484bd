package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

func TestThreeGenerationsOfADirectoryAreCopiedAsTheyWere(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) { r.copiesGenerations() })
	t.Run("btrfs with dedup", func(t *testing.T) {
		btrfstest.OnlyInAll(t)
		t.Parallel()
		newCopyRig(t, "btrfs").copiesGenerations("--dedup")
	})
}

func (r *copyRig) copiesGenerations(options ...string) {
	btrfstest.Populate(r, r.source, 1)
	r.everyByteInNames()
	references := make(map[string]string) // by backup
	histories := make(map[string]history)
	for generation := range int64(3) {
		if generation > 0 {
			btrfstest.Change(r, r.source, generation)
		}
		backup := r.saves(options...)
		r.equal(r.source, backup)
		references[backup], histories[backup] = r.reference(), historyOf(r, backup)
	}
	for backup, reference := range references {
		r.equal(reference, backup)
		histories[backup].unchanged(r, backup)
		expect(r, exitDone, invoke(r, nil, "verify", backup), "no differences")
	}
}

// everyByteInNames makes a file for each byte that can stand in a name, and one of all of them.
func (r *copyRig) everyByteInNames() {
	var all []byte
	for b := 1; b < 256; b++ {
		if b == '/' {
			continue
		}
		all = append(all, byte(b))
		r.write("bytes/name "+string([]byte{byte(b)}), fmt.Sprint(b))
	}
	r.write("bytes/"+string(all), "all")
}

func TestHolesStayHoles(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		const size = 100 << 20
		for _, name := range []string{"nothing", "disk"} {
			r.write(name, "")
			btrfstest.Check(r, os.Truncate(r.at(name), size))
		}
		for i := range 2 {
			r.writeAt("disk", fmt.Sprintf("generation %d", i), int64(50+i)<<20)
			r.takes(0, 2<<20, func() { r.saves() })
			r.equal(r.source, r.newest())
		}
	})
}

// writeAt changes a file of the source in place.
func (r *copyRig) writeAt(path, content string, offset int64) {
	r.Helper()
	f, err := os.OpenFile(r.at(path), os.O_WRONLY, 0)
	btrfstest.Check(r, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(content), offset)
	btrfstest.Check(r, err)
}

// random makes files of n incompressible bytes in the source.
func (r *copyRig) random(seed byte, n int, paths ...string) {
	r.Helper()
	source := rand.NewChaCha8([32]byte{seed})
	for _, path := range paths {
		data := make([]byte, n)
		source.Read(data)
		r.write(path, string(data))
	}
}

// With --inplace --sparse, rsync 3.2 leaves the old content there.
func TestAFileThatEndsInZerosNowHasNoneOfItsOldContent(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		old, now := bytes.Repeat([]byte("B"), 300_000), bytes.Repeat([]byte("A"), 300_000)
		clear(now[70_000:])
		r.write("file", string(old))
		r.saves()
		r.write("file", string(now))
		r.equal(r.source, r.saves())
	})
}

func TestUnchangedFilesTakeNoSpace(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		for i := range 20 {
			r.random(byte(i), 1<<20, fmt.Sprintf("directory %d/file", i))
		}
		first := r.saves()
		for range 5 {
			r.takes(0, 1<<20, func() { r.saves() })
		}
		r.equal(r.source, r.newest())
		if r.kind == "btrfs" {
			return
		}
		for i := range 20 {
			file := fmt.Sprintf("directory %d/file", i)
			if was, is := inode(r, filepath.Join(first, file)), inode(r, filepath.Join(r.newest(), file)); was != is {
				r.Errorf("%s is the inode %d, and was %d", file, is, was)
			}
		}
	})
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	btrfstest.Check(t, unix.Lstat(path, &st))
	return st.Ino
}

func TestOnBtrfsTheUnchangedBlocksOfAChangedFileTakeNoSpace(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	r.random(1, 20<<20, "large")
	first := r.saves()
	h := historyOf(t, first)
	r.writeAt("large", strings.Repeat("x", 4096), 10<<20)
	r.takes(0, 2<<20, func() { r.saves() })
	r.equal(r.source, r.newest())
	h.unchanged(t, first)
}

// atTime gives the environment of a run at a time.
func atTime(now time.Time) []string { return []string{testOnlyNow + "=" + now.Format(time.RFC3339)} }

func TestAsManyBackupsAreKeptAsAskedFor(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		var all []string
		for i := range 5 {
			r.write("changes", fmt.Sprint(i))
			all = append(all, filepath.Base(r.saves("-n", "2")))
			if got, want := r.backups(), all[max(len(all)-2, 0):]; !slices.Equal(got, want) {
				r.Fatalf("after %d runs the backups are %v instead of %v", i+1, got, want)
			}
		}
		r.equal(r.source, r.newest())
		expect(r, exitDone, invoke(r, nil, "verify", filepath.Join(r.destination, all[3]), r.newest()))
	})
}

func TestTheNewestBackupSurvivesRunsWithinOneHour(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		for i := range 3 {
			r.write("file", fmt.Sprint(i))
			now = now.Add(10 * time.Minute)
			expect(r, exitDone, invokeCmd(r, r.command(atTime(now), "-n", "1")))
			if got, want := r.backups(), []string{now.Format("20060102-150405")}; !slices.Equal(got, want) {
				r.Fatalf("the backups are %v instead of %v", got, want)
			}
			r.equal(r.source, r.newest())
		}
	})
}

func TestNothingButBackupsIsPruned(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		r.saves()
		foreign := []string{"notes-2017-05-01.txt", "photos-2016-01-01/picture", "20170501-101010/by hand", "other-20170501-101010/file",
			"2016-01-07-085247/file", ".hidden/file", "20170501-101010.old/file"}
		for _, path := range foreign {
			path = filepath.Join(r.destination, path)
			btrfstest.Check(r, os.MkdirAll(filepath.Dir(path), 0o755))
			btrfstest.Check(r, os.WriteFile(path, []byte(path), 0o644))
		}
		for i := range 2 {
			r.write("file", fmt.Sprint(i))
			expect(r, exitDone, r.run("-n", "1"))
		}
		for _, path := range foreign {
			path = filepath.Join(r.destination, path)
			if content, err := os.ReadFile(path); err != nil || string(content) != path {
				r.Errorf("%s holds %q, %v", path, content, err)
			}
		}
		own := slices.DeleteFunc(r.backups(), func(name string) bool { return strings.Contains(name, "2017") })
		if len(own) != 1 {
			r.Errorf("the backups are %v", own)
		}
	})
}

func TestEachSeriesInAFolderHasItsOwnLinkAndIsPrunedOnItsOwn(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		other := *r
		other.source = filepath.Join(filepath.Dir(r.source), "other")
		btrfstest.Check(r, os.Mkdir(other.source, 0o755))
		r.write("file", "one")
		other.write("file", "another")
		all := map[string][]string{}
		for i := range 3 {
			r.write("changes", fmt.Sprint(i))
			expect(r, exitDone, r.run("-n", "2"))
			expect(r, exitDone, r.run("-n", "1", "--snapshot-prefix", "same-"))
			other.write("changes", fmt.Sprint(-i))
			expect(r, exitDone, other.run("-n", "1", "--snapshot-prefix", "other-"))
		}
		for _, name := range r.backups() {
			prefix, _, _ := strings.Cut(name, "2026")
			all[prefix] = append(all[prefix], name)
		}
		if len(all[""]) != 2 || len(all["same-"]) != 1 || len(all["other-"]) != 1 {
			r.Fatalf("the backups are %v", all)
		}
		for link, want := range map[string]struct{ name, source string }{
			".latest": {all[""][1], r.source}, ".same-_latest": {all["same-"][0], r.source},
			".other-_latest": {all["other-"][0], other.source},
		} {
			if target, err := os.Readlink(filepath.Join(r.destination, link)); err != nil || target != want.name {
				r.Errorf("%s points to %q instead of %q, %v", link, target, want.name, err)
			}
			r.equal(want.source, filepath.Join(r.destination, want.name))
		}
	})
}

func TestBackupsOnBtrfsAreSentOnAsIncrements(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	btrfstest.Populate(t, r.source, 1)
	further := filepath.Join(btrfstest.New(t, copyRigSize).Dir, "further")
	sendOn := func() result {
		return invokeCmd(t, r.commandTo(nil, "-S", "--json", "--snapshot-folder", r.destination, filepath.Join(r.destination, ".latest"), further))
	}
	histories := make(map[string]history)
	parent := ""
	for generation := range int64(4) {
		if generation > 0 {
			btrfstest.Change(t, r.source, generation)
		}
		backup := r.saves()
		histories[backup] = historyOf(t, backup)
		if generation == 0 { // two are sent at once
			continue
		}
		for _, sent := range sentTo(t, expect(t, exitDone, sendOn()), further) {
			if sent.Parent != parent {
				t.Fatalf("%s was sent as an increment to %q instead of %q", sent.Snapshot, sent.Parent, parent)
			}
			parent = sent.Snapshot
		}
	}
	if got, want := names(t, further), r.backups(); !slices.Equal(got, want) {
		t.Fatalf("sent on were %v of %v", got, want)
	}
	for backup, h := range histories {
		h.unchanged(t, backup)
		r.equal(backup, filepath.Join(further, filepath.Base(backup)), btrfstest.RootTime)
	}

	for range 2 { // retention leaves what the next increment builds upon
		r.write("new", "content")
		r.saves("-n", "1")
	}
	if got := r.backups(); !slices.Contains(got, parent) || len(got) != 2 {
		t.Errorf("-n 1 leaves %v, where %s was sent on last", got, parent)
	}
	for _, sent := range sentTo(t, expect(t, exitDone, sendOn()), further) {
		if sent.Parent != parent {
			t.Errorf("%s was sent as an increment to %q instead of %q", sent.Snapshot, sent.Parent, parent)
		}
	}
}
