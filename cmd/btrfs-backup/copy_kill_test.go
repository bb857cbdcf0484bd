package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// noRsync fails the test if an rsync goes on working in the destination.
func (r *copyRig) noRsync() {
	r.Helper()
	eventually(r, func() bool { return len(r.rsyncs()) == 0 }, func() string {
		return "still working in " + r.destination + ": processes " + strings.Join(r.rsyncs(), ", ")
	})
}

// rsyncs gives the processes of rsync with an argument below the destination.
func (r *copyRig) rsyncs() (pids []string) {
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		line, _ := os.ReadFile(path) // none of a process that has ended
		argv := strings.Split(string(line), "\x00")
		below := func(arg string) bool { return strings.HasPrefix(arg, r.destination) }
		if filepath.Base(argv[0]) == "rsync" && slices.ContainsFunc(argv, below) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// copiesPart begins a run that takes its time, and waits until it has some bytes of the file.
func (r *copyRig) copiesPart(file string) *background {
	r.Helper()
	run := start(r, r.command(nil, "--rate-limit", "1M"))
	incoming := filepath.Join(r.destination, btrfs.Incoming(r.nameOfRun()))
	begun := func() bool {
		as, _ := filepath.Glob(filepath.Join(incoming, file))
		temporary, _ := filepath.Glob(filepath.Join(incoming, "."+file+".*"))
		return slices.ContainsFunc(append(as, temporary...), func(path string) bool {
			info, err := os.Stat(path)
			return err == nil && info.Size() > 0
		})
	}
	eventually(r, begun, func() string { return file + " does not appear in " + incoming + ":\n" + run.said() })
	return run
}

// nameOfRun is the name that the last run gives its backup.
func (r *copyRig) nameOfRun() string {
	return fmt.Sprintf("202601%02d-%02d0000", 1+*r.runs/24, *r.runs%24)
}

func TestAnInterruptedCopyIsNoBackupAndIsResumed(t *testing.T) {
	t.Parallel()
	const small, large = 200_000, 3_000_000
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			onEachKind(t, func(r *copyRig) {
				r.write("0 unchanged", "content")
				r.saves()
				kept := r.keeps()
				r.random(1, small, "1 small")
				r.random(2, large, "2 large")
				run := r.copiesPart("2 large")
				run.signal(signal)
				ended := expect(r, 128+int(signal), run.wait())
				r.noRsync()
				if told := "btrfs-backup: error: "; signal != syscall.SIGKILL {
					expect(r, 128+int(signal), ended, told, "ended by a signal: "+signal.String()+"; no backup was finished",
						"hint: the same command goes on there: "+r.destination+" keeps ")
				}
				kept.still()
				left := unfinishedCopies(r, r.destination)
				if len(left) != 1 {
					r.Fatalf("left are %v, want what was copied", left)
				}
				was := inode(r, filepath.Join(r.destination, left[0], "1 small"))

				// as with all that is there by links to the backup before
				btrfstest.Check(r, os.Chmod(r.at("0 unchanged"), 0o600))
				btrfstest.Check(r, os.Chown(r.at("0 unchanged"), 1, 2))
				again := expect(r, exitDone, r.run("--json"), "resuming the partial copy of an interrupted run")
				if copied := sentTo(r, again, r.destination)[0].Bytes; copied > large {
					r.Errorf("%d bytes were copied, though only %d were missing", copied, large)
				}
				btrfstest.Equal(r, r.source, r.newest())
				if is := inode(r, filepath.Join(r.newest(), "1 small")); is != was {
					r.Errorf("what was copied already is another file now, inode %d instead of %d", is, was)
				}
				r.nothingUnfinished()
				for name, history := range kept.backups {
					history.unchanged(r, filepath.Join(r.destination, name))
				}
			})
		})
	}
}

// An rsync that reads and writes nothing does not notice that the run has ended.
func TestACopyThatEndsTakesRsyncWithIt(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			r := newCopyRig(t, "ext4")
			r.write("file", "content")
			s := newRsyncShim(t, `echo $$ >"$dir/pid"; exec sleep 1000`)
			run := start(t, r.command(s.environ()))
			pid := shim{s.dir}.pid(t)
			run.signal(signal)
			expect(t, 128+int(signal), run.wait())
			if !within(func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Fatal("rsync outlives the run that started it")
			}
			r.heals()
		})
	}
}

func TestACopyKilledAtAnyStepLeavesOnlyCompleteBackupsAndHeals(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"btrfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			newCopyRig(t, kind).isKilledAtEachStep()
		})
	}
}

func (r *copyRig) isKilledAtEachStep() {
	retention := []string{"-n", "2"}
	seen := make(map[string]history)
	for range 2 { // from here on each run has something to delete
		r.change()
		r.heals(retention...)
		r.onlyCompleteBackups(seen)
	}
	steps := []string{"partial copy made", "rsync ended", "state begun", "state written", "state removed", "synced", "renamed", "removed",
		"link replaced"}
	if r.kind == "btrfs" {
		steps = append(steps, "read-only")
	}
	isKilledAtEachStep(r, func(at string) result {
		r.change()
		killed := invokeCmd(r, r.command([]string{testOnlyKillAt + "=" + at}, retention...))
		r.noRsync()
		r.onlyCompleteBackups(seen)
		return killed
	}, func() {
		r.change()
		r.heals(retention...)
		r.onlyCompleteBackups(seen)
		r.nothingUnfinished()
		if len(r.backups()) != 2 {
			r.Fatalf("there are %v", r.backups())
		}
	}, steps...)
}

// change gives a run all kinds of things to do.
func (r *copyRig) change() {
	r.Helper()
	n := *r.runs
	r.write("grows", strings.Repeat("content ", n+1))
	r.write(fmt.Sprint("new ", n), fmt.Sprint(n))
	r.write("directory/unchanged", "content")
	r.write("directory/mode", "content")
	btrfstest.Check(r, os.Chmod(r.at("directory/mode"), os.FileMode(0o600+n%8)))
	btrfstest.Check(r, os.RemoveAll(r.at(fmt.Sprint("new ", n-2))))
}

// onlyCompleteBackups fails the test unless every backup is as it was when it was seen first: a copy of the source.
func (r *copyRig) onlyCompleteBackups(seen map[string]history) {
	r.Helper()
	visible := names(r, r.destination)
	want(r, "under final names", visible, r.backups()...)
	for _, name := range visible {
		path := filepath.Join(r.destination, name)
		if was, known := seen[name]; known {
			was.unchanged(r, path)
			continue
		}
		btrfstest.Equal(r, r.source, path)
		expect(r, exitDone, invoke(r, nil, "verify", path))
		seen[name] = historyOf(r, path)
	}
	maps.DeleteFunc(seen, func(name string, _ history) bool { return !slices.Contains(visible, name) })
	if _, err := os.Stat(filepath.Join(r.destination, ".latest")); err != nil {
		r.Errorf("the link points to nothing: %v", err)
	}
}

// nothingUnfinished fails the test if work in progress is left in the destination, or what is known of it.
func (r *copyRig) nothingUnfinished() {
	r.Helper()
	want(r, "left unfinished", unfinishedCopies(r, r.destination))
	state := filepath.Join(r.destination, tree.StateDir)
	if list, err := os.ReadFile(filepath.Join(state, "unfinished.json")); err != nil || strings.TrimSpace(string(list)) != "{}" {
		r.Errorf("on record as unfinished are %s, %v", list, err)
	}
	for _, file := range append(everything(r, state), everything(r, filepath.Join(state, "manifests"))...) {
		if strings.HasSuffix(file, ".tmp") {
			r.Errorf("%s is left", file)
		}
	}
	var known []string
	for _, file := range everything(r, filepath.Join(state, "manifests")) {
		known = append(known, strings.TrimSuffix(strings.TrimSuffix(file, ".json"), ".zst"))
	}
	want(r, "with records and manifests", slices.Compact(known), r.backups()...)
}
