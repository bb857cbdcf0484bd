package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// refuses fails the test unless a run is refused with these texts, a hint among them, and leaves the destination as it was.
func (r *copyRig) refuses(options []string, texts ...string) {
	r.Helper()
	before := historyOf(r, r.destination)
	expect(r, exitFailed, r.run(options...), slices.Concat([]string{"btrfs-backup: error: ", "btrfs-backup: hint: "}, texts)...)
	before.unchanged(r, r.destination)
}

func TestADoubtfulSourceIsRefusedAndNothingIsTouched(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		r.saves()
		away := r.source + " away"
		btrfstest.Check(r, os.Rename(r.source, away))
		r.refuses([]string{"-n", "1"}, "source "+r.source+": no such file or directory", "check the spelling")
		r.refuses([]string{"-n", "1", "--engine", "rsync"}, "source "+r.source+": no such file or directory", "is the source mounted?")
		btrfstest.Check(r, os.Mkdir(r.source, 0o755))
		r.refuses([]string{"-n", "1"}, "source "+r.source+": the directory is empty", "is the source mounted?")
		btrfstest.Check(r, os.Remove(r.source))
		btrfstest.Check(r, os.Rename(away, r.source))

		marked := []string{"-n", "1", "--marker", ".backup_valid"}
		r.refuses(marked, "source "+r.source+": its marker .backup_valid is missing", "is the source mounted?")
		r.write(".backup_valid", "")
		r.holdsOnly(r.heals(marked...))
	})
}

func TestASourceThatLostMostOfItsFilesIsRefused(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(whole *copyRig) {
		t := whole.TB.(*testing.T)
		for _, test := range []struct {
			files, gone int
			options     string
			refused     string
		}{
			{300, 151, "", "151 of the 300 files in 20"},
			{300, 150, "", ""},
			{300, 299, "--max-delete 100", ""},
			{300, 121, "--max-delete 40", "121 of the 300 files in 20"},
			{300, 120, "", ""},
			{100, 99, "", ""},
		} {
			t.Run(fmt.Sprintf("%d of %d gone %s", test.gone, test.files, test.options), func(t *testing.T) {
				r := whole.apart(t, fmt.Sprint(test.gone, " of ", test.files))
				for i := range test.files {
					r.write(fmt.Sprintf("directory %d/file %d", i%10, i), fmt.Sprint(i))
				}
				r.saves()
				for i := range test.gone {
					btrfstest.Check(r, os.Remove(r.at(fmt.Sprintf("directory %d/file %d", i%10, i))))
				}
				options := append(strings.Fields(test.options), "-n", "1")
				if test.refused == "" {
					expect(r, exitDone, r.run(append(options, "--dry-run")...))
					r.holdsOnly(r.heals(options...))
					return
				}
				kept := r.keeps()
				for _, dry := range []string{"--dry-run", "--dry-run=false"} {
					expect(r, exitFailed, r.run(append(options, dry)...), "btrfs-backup: error: ", test.refused, "are missing in the source",
						"btrfs-backup: hint: ", "--max-delete 100")
					kept.still()
				}
				want(r, "left unfinished", unfinishedCopies(r, r.destination))
				r.holdsOnly(r.heals("-n", "1", "--max-delete", "100"))
			})
		}
	})
}

func TestADestinationWhoseDiskIsNotMountedIsLeftAlone(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		r.saves()
		first := r.keeps()
		disk := r.destinationFS.Dir
		r.destinationFS.Mount(r, disk+" elsewhere") // which keeps the device
		btrfstest.Unmount(r, disk)
		for _, dry := range []string{"--dry-run=false", "--dry-run"} {
			expect(r, exitFailed, r.run(dry), "btrfs-backup: error: destination "+r.destination,
				"no such file or directory, but backups were made there", "btrfs-backup: hint: is its disk mounted? --new-destination")
			want(r, "written to the mount point", everything(r, disk))
		}
		btrfstest.Check(r, os.Mkdir(r.destination, 0o755))
		for _, dry := range []string{"--dry-run=false", "--dry-run"} {
			r.refuses([]string{dry}, "destination "+r.destination, "the backups that were made there are gone", "is its disk mounted? --new-destination")
		}
		r.heals("--new-destination")
		r.heals()

		btrfstest.Check(r, os.RemoveAll(r.destination))
		r.destinationFS.Mount(r, disk)
		first.still()
		r.heals()
	})
}

func TestADestinationThatLostItsIdentityIsRefused(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	r.saves()
	btrfstest.Check(t, os.Remove(filepath.Join(r.destination, ".btrfs-backup/id")))
	r.refuses([]string{"-n", "1"}, "destination "+r.destination, "the backups that were made there are gone", "--new-destination")
	r.holdsOnly(r.heals("-n", "1", "--new-destination"))
}

func TestAMountPointIsInsistedUpon(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		disk := r.destinationFS.Dir
		r.heals("--mount-point", disk)

		beside := filepath.Join(disk+"2", "folder")
		btrfstest.Check(r, os.Mkdir(filepath.Dir(beside), 0o755))
		expect(r, exitFailed, invokeCmd(r, r.commandTo(nil, "--mount-point", disk, r.source, beside)),
			"btrfs-backup: error: destination "+beside, beside+" is not on the filesystem mounted at "+disk,
			"btrfs-backup: hint: choose a folder inside "+disk)
		want(r, "written beside the disk", everything(r, filepath.Dir(beside)))

		btrfstest.Unmount(r, disk)
		for _, dry := range []string{"--dry-run=false", "--dry-run"} {
			for _, known := range []string{"--new-destination", "--new-destination=false"} {
				expect(r, exitFailed, r.run(dry, known, "--mount-point", disk), "btrfs-backup: error: destination "+r.destination,
					disk+" is not mounted", "btrfs-backup: hint: mount it")
				want(r, "written to the mount point", everything(r, disk))
			}
		}
		expect(r, exitFailed, r.run("--mount-point", disk+"3"), disk+"3 is not mounted: it does not exist")
	})
}

// What is found where a subvolume was to be mounted is no reason to prune its backups.
func TestAFolderOfASubvolumeGetsNoCopiesUnlessAsked(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	disk := btrfstest.New(t, copyRigSize)
	r.source = newSource(t, disk.Dir, "home")
	expect(t, exitDone, r.run())
	btrfstest.Unmount(t, disk.Dir)
	r.write("file", "found in its place")
	r.refuses([]string{"-n", "1"}, "holds backups of a btrfs subvolume, but "+r.source+" is a directory",
		"is the source's filesystem mounted? --engine rsync")
	kept := r.keeps()
	btrfstest.Equal(t, r.source, r.saves("-n", "1", "--engine", "rsync"))
	for name, was := range kept.backups {
		was.unchanged(t, filepath.Join(r.destination, name))
	}
}

func TestADryRunOfACopyTellsWhatItWouldDoAndDoesNothing(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.write("file", "content")
		changesNothing := func(texts ...string) {
			r.Helper()
			before := []history{historyOf(r, r.destinationFS.Dir), historyOf(r, r.source), historyOf(r, r.state)}
			expect(r, exitDone, r.run("--dry-run", "-n", "1"), texts...)
			for i, dir := range []string{r.destinationFS.Dir, r.source, r.state} {
				before[i].unchanged(r, dir)
			}
		}
		changesNothing("would copy " + r.source + " to 20260101-010000 as a complete copy")
		btrfstest.Check(r, os.Mkdir(r.destination, 0o755)) // of somebody else
		changesNothing("would copy "+r.source+" to 20260101-020000 as a complete copy", "would copy 1 files with 7 B")
		first := filepath.Base(r.saves())
		r.write("file", "other content")
		r.write("second", "content")
		changesNothing("would copy "+r.source+" to 20260101-040000 as an increment to "+first,
			"would copy 2 files with 20 B, and delete 0", "would delete "+first)
		r.heals("-n", "1")
	})
}

func TestTheReportOfACopyIsJSON(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	for _, dry := range []bool{true, false} {
		var told struct {
			printed
			Copy bool
		}
		run := expect(t, exitDone, r.run("--json", fmt.Sprint("--dry-run=", dry)))
		if err := json.Unmarshal([]byte(run.stdout), &told); err != nil {
			t.Fatalf("%v in %s", err, run.stdout)
		}
		if !told.Copy || told.DryRun != dry || told.Source != r.source || len(told.to(t, r.destination).Transfers) != 1 {
			t.Errorf("the report is %s", run.stdout)
		}
	}
}

func TestOptionsAboutSnapshotsMeanNothingForACopy(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	expect(t, exitDone, r.run("--num-snapshots", "3"), "--num-snapshots has no effect")
	if quiet := r.run("--quiet", "--num-snapshots", "3"); strings.Contains(quiet.stderr, "has no effect") {
		t.Errorf("each quiet run tells: %s", quiet.stderr)
	}
	before := historyOf(t, r.destination)
	for _, args := range [][]string{{"-S", r.source, r.destination}, {"-T", r.source, r.destination}, {r.source}} {
		run := expect(t, exitUsage, invokeCmd(t, r.commandTo(nil, args...)), "btrfs-backup: error: ", "btrfs-backup: hint: ")
		if len(args) == 1 && !strings.Contains(run.stderr, "DEST is missing") {
			t.Errorf("without DEST is said: %s", run.stderr)
		}
	}
	before.unchanged(t, r.destination)
	want(t, "written to the source", everything(t, r.source), "file")
}

func TestARunFailsUntilWhatItCannotDeleteIsGone(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("immutable", "content")
	r.write("changing", "1")
	first := filepath.Base(r.saves())
	hidden := filepath.Join(r.destination, "."+first+".deleting")
	btrfstest.Run(t, "chattr", "+i", filepath.Join(r.destination, first, "changing"))
	t.Cleanup(func() { _ = exec.Command("chattr", "-i", filepath.Join(hidden, "changing")).Run() })
	r.write("changing", "22")
	for range 3 {
		expect(t, exitPartly, r.run("-n", "1"), "error: deleting ", first, "hint: ", "chattr -R -i -a "+hidden)
		if got := r.backups(); len(got) != 1 || got[0] == first {
			t.Errorf("there are %q", got)
		}
	}
	btrfstest.Run(t, "chattr", "-i", filepath.Join(hidden, "changing"))
	r.saves("-n", "1")
	if _, err := os.Lstat(hidden); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
