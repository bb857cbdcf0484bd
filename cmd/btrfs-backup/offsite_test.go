package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// withStores runs a test with a store in a folder, and with one on a server.
func withStores(t *testing.T, test func(r *offsiteRig)) {
	for name, newRig := range map[string]func(testing.TB) *offsiteRig{"folder": newOffsiteRig, "server": newServedRig} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newRig(t))
		})
	}
}

func TestAStoreHoldsEachSnapshotCompleteOrUponAnother(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		btrfstest.Populate(r, r.source, 1)
		for generation := range int64(3) {
			if generation > 0 {
				btrfstest.Change(r, r.source, generation)
			}
			before := r.objects()
			expect(r, exitDone, r.run(nil, "--dry-run"))
			if after := r.objects(); len(after) != len(before) {
				r.Errorf("a rehearsal stored something: %v", after)
			}
			sent := sentTo(r, r.saves("--json"), r.place)
			if len(sent) != 1 || (sent[0].Parent == "") != (generation == 0) {
				r.Errorf("sent: %+v", sent)
			}
		}
		r.isSaved()
		before := r.objects()
		expect(r, exitDone, r.run(nil, "--no-snapshot"))
		if after := r.objects(); len(after) != len(before) {
			r.Error("a run with nothing to do stored something")
		}
	})
}

func TestStockProgramsRestoreFromAStoreByHand(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	btrfstest.Populate(t, r.source, 1)
	r.write("data", 3*smallPart)
	r.saves()
	btrfstest.Change(t, r.source, 1)
	r.saves()
	to := btrfstest.New(t, rigSize).Dir
	const byHand = `set -e -o pipefail
for dir in "$1"/backups/*/*/; do
	for p in "$dir"data.*; do age -d -i "$2" "$p"; done | zstd -dc | btrfs receive -q "$3"
done`
	btrfstest.Run(t, "bash", "-c", byHand, "-", r.folder, r.key, to)
	for _, name := range r.snapshots() {
		isCopy(t, r.source, to, name)
	}
}

func TestARunServesAStoreBesideFoldersOfSubvolumes(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	folder, second := filepath.Join(btrfstest.New(t, rigSize).Dir, "backups"), "store:"+t.TempDir()
	for range 2 {
		r.write("data", 2*smallPart)
		cmd := r.command(nil, "--json")
		cmd.Args = append(cmd.Args, folder, second)
		done := expect(t, exitDone, invokeCmd(t, cmd))
		for _, to := range []string{folder, r.place, second} {
			if sent := sentTo(t, done, to); len(sent) != 1 || sent[0].Failure != nil {
				t.Errorf("sent to %s: %+v", to, sent)
			}
		}
	}
	r.isSaved()
	other := *r
	other.server, other.place, other.folder = nil, second, strings.TrimPrefix(second, "store:")
	other.isSaved()
	for _, name := range r.snapshots() {
		isCopy(t, r.source, folder, name)
	}
}

func TestPrefixesOfABucketAreStoresApart(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	prefixes := []string{"pc", "p", "pc2"} // the names of some begin like those of others
	for _, prefix := range prefixes {
		r.in(prefix)
		r.write("data", smallPart/2)
		r.saves()
	}
	for i, prefix := range prefixes {
		r.in(prefix)
		if got := r.held(); len(got) != i+1 { // those that were taken before are stored, too
			t.Errorf("%s holds %v", prefix, got)
		}
	}
	r.in("")
	expect(t, exitFailed, r.run(nil), "there is no store in", "but something else", "use a prefix or folder of its own")
}

// Two machines that call themselves alike back up what they call alike. Neither takes the backups of the other for its own.
func TestMachinesShareAStoreEvenIfAllNamesAreTheSame(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	r.write("data", smallPart)
	r.saves()
	other := *r
	other.state, other.fs = t.TempDir(), btrfstest.New(t, rigSize)
	theirs := filepath.Join(other.fs.Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", theirs)
	btrfstest.SmallFiles(t, theirs, 10, 2)
	for range 2 {
		btrfstest.Check(t, os.WriteFile(filepath.Join(theirs, "data"), []byte("theirs"), 0o600))
		cmd := other.command(nil, "-N", "1", "-n", "1")
		script := `mount --bind "$1" "$2" && shift 2 && exec "$@"`
		apart := exec.Command("unshare", slices.Concat([]string{"-m", "sh", "-c", script, "-", other.fs.Dir, r.fs.Dir}, cmd.Args)...)
		apart.Env = cmd.Env
		expect(t, exitDone, invokeCmd(t, apart))
	}
	r.write("data", smallPart)
	r.saves()
	of := make(map[string]int) // how many backups a machine has
	for _, b := range r.catalog().Backups {
		of[b.Signer]++
		if len(b.Faults) > 0 {
			t.Errorf("%s: %v", b.Name, b.Faults)
		}
	}
	var counts []int
	for _, n := range of {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	if !slices.Equal(counts, []int{1, 2}) && !slices.Equal(counts, []int{2, 2}) {
		t.Errorf("the machines have %v backups", counts)
	}
	folder, _ := r.received()
	for _, name := range r.snapshots() {
		isCopy(t, r.source, folder, name)
	}
}

func TestARunToAServerMakesFewRequests(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	for range 2 {
		r.write("data", 2*smallPart+1)
		r.saves()
	}
	r.makesFewRequests()
}

// makesFewRequests fails the test unless the next increment, of three parts, takes few requests, however much there is in the bucket.
func (r *offsiteRig) makesFewRequests() {
	r.Helper()
	r.write("data", 2*smallPart+1)
	r.server.Counts()
	began := time.Now()
	r.saves()
	counts := r.server.Counts()
	r.Logf("%v in %s", counts, time.Since(began))
	// beside the parts and what tells their names: the manifest, the index, and what tells whether the server knows conditions
	if counts["LIST"] > 3 || counts["GET"] > 2 || counts["PUT"] > 3+1+3 || counts["HEAD"] > 1 || counts["OTHER"] > 0 {
		r.Errorf("an increment of 3 parts took %v", counts)
	}
}

// A thousand machines have kept their backups in the bucket for three years.
func TestARunToABucketOfAThousandMachinesMakesFewRequests(t *testing.T) {
	btrfstest.OnlyInAll(t)
	t.Parallel()
	r := newServedRig(t)
	r.saves()
	for machine := range 1000 {
		source := fmt.Sprintf("host%03d_home", machine)
		btrfstest.Check(t, os.WriteFile(filepath.Join(r.folder, "index", source), make([]byte, 40<<10), 0o600))
		for backup := range 33 {
			dir := filepath.Join(r.folder, "backups", source, fmt.Sprintf("2026%04d-000000.%08x", backup, backup))
			btrfstest.Check(t, os.MkdirAll(dir, 0o755))
			for _, name := range []string{"data.000000", "manifest", "names.000000"} {
				btrfstest.Check(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
			}
		}
	}
	r.makesFewRequests()
	r.isSaved()
}

func TestANewStoreOnTheFilesystemOfTheSourceIsRefused(t *testing.T) {
	t.Parallel()
	r := newOffsiteSource(t)
	r.folder = filepath.Join(r.fs.Dir, "nas", "pc") // as if nothing were mounted at nas
	r.place = "store:" + r.folder
	for _, option := range []string{"--dry-run", "--no-progress"} {
		expect(t, exitFailed, r.run(nil, option), "lies on the same filesystem as "+r.source, "is its disk mounted?")
	}
	if exists(filepath.Dir(r.folder)) || exists(filepath.Join(r.source, "snapshot")) {
		t.Error("the refused run left something")
	}
	r.saves("--same-filesystem")
	r.saves()
}

func TestAMachineThatForgotItsKeyIsToldWhoSignedItsBackups(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.saves()
	r.state = t.TempDir()
	told := expect(t, exitFailed, r.run(nil), "its backups do not count", "the backups that were made there are gone").stderr
	command := regexp.MustCompile(`echo RW\S+ >>\S+`).FindString(told)
	btrfstest.Run(t, "sh", "-c", command)
	sent := sentTo(t, r.saves("--json"), r.place)
	if len(sent) == 0 || sent[0].Parent == "" {
		t.Errorf("after %q: sent %+v", command, sent)
	}
}

func TestAStoreThatCannotBeMadeIsRefusedBeforeTheSnapshot(t *testing.T) {
	t.Parallel()
	r := newOffsiteSource(t)
	r.folder = filepath.Join(r.fs.Dir, "store")
	far := newRestricted(t, "--restrict-to '"+r.folder+"' --append-only")
	r.keep = far.arguments()
	r.place = "store+" + far.place(r.folder)
	for _, option := range []string{"--dry-run", "--no-progress"} {
		expect(t, exitFailed, r.run(nil, option), "the folder that this key is confined to", "mkdir "+r.folder)
	}
	if exists(filepath.Join(r.source, "snapshot")) {
		t.Error("the refused run took a snapshot")
	}
	makeDir(t, r.folder)
	r.saves()
}

func TestAStoreOnADiskThatIsNotMountedIsRefused(t *testing.T) {
	t.Parallel()
	r := newOffsiteSource(t)
	disk, mounted := btrfstest.New(t, rigSize).Dir, t.TempDir()
	mount := func() { btrfstest.Run(t, "mount", "--bind", disk, mounted) }
	unmount := func() { btrfstest.Run(t, "umount", "-l", mounted) }
	r.folder = filepath.Join(mounted, "pc")
	r.place = "store:" + r.folder
	for _, option := range []string{"--dry-run", "--no-progress"} {
		expect(t, exitFailed, r.run(nil, "--mount-point", mounted, option), "not mounted", "mount it and try again")
	}
	if exists(r.folder) || exists(filepath.Join(r.source, "snapshot")) {
		t.Error("the refused run left something")
	}
	mount()
	r.saves("--mount-point", mounted)
	r.isSaved()
	unmount()
	expect(t, exitFailed, r.run(nil), "but backups were made there", "is its disk mounted?")
	if exists(r.folder) {
		t.Error("it was made anew")
	}
	mount()
	r.saves()
	unmount()
}
