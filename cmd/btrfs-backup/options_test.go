package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// printed is what the program prints with --json.
type printed struct {
	DryRun       bool                `json:"dry_run"`
	Source       string              `json:"source"`
	Snapshot     string              `json:"snapshot"`
	Latest       string              `json:"latest"`
	Nested       []string            `json:"nested"`
	Destinations []saved             `json:"destinations"`
	Verdicts     []retention.Verdict `json:"verdicts"`
	Deleted      []string            `json:"deleted"`
	Failures     []failure           `json:"failures"`
}

// saved is what it prints of a destination.
type saved struct {
	Destination string              `json:"destination"`
	Leftovers   []string            `json:"leftovers"`
	Transfers   []sent              `json:"transfers"`
	Verdicts    []retention.Verdict `json:"verdicts"`
	Deleted     []string            `json:"deleted"`
	Failures    []failure           `json:"failures"`
}

type sent struct {
	Snapshot string   `json:"snapshot"`
	Parent   string   `json:"parent"`
	Failure  *failure `json:"failure"`
}

type failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint"`
}

// clock gives the environment of a run at noon of a date.
func clock(date string) []string {
	return []string{"TZ=UTC", testOnlyNow + "=" + date + "T12:00:00Z"}
}

// march gives the environment of a run at noon of a day in March 2026.
func march(day int) []string { return clock(fmt.Sprintf("2026-03-%02d", day)) }

// backUp runs the program, which must exit with the status, and gives its report.
func backUp(t testing.TB, status int, environ []string, args ...string) printed {
	t.Helper()
	var r printed
	result := expect(t, status, invoke(t, environ, append(args, "--json")...))
	if err := json.Unmarshal([]byte(result.stdout), &r); err != nil {
		t.Fatalf("%v in %s%s", err, result.stdout, result.stderr)
	}
	return r
}

// series backs up on the first days of March and gives the names of the snapshots.
func series(t testing.TB, days int, args ...string) []string {
	t.Helper()
	var taken []string
	for day := range days {
		taken = append(taken, backUp(t, exitDone, march(day+1), args...).Snapshot)
	}
	return taken
}

// to gives the part of the report on a destination.
func (r printed) to(t testing.TB, destination string) saved {
	t.Helper()
	i := slices.IndexFunc(r.Destinations, func(s saved) bool { return s.Destination == destination })
	if i < 0 {
		t.Fatalf("%s is not in the report: %+v", destination, r)
	}
	return r.Destinations[i]
}

// transfers tells each transfer as SNAPSHOT, or as SNAPSHOT<PARENT.
func (s saved) transfers() []string {
	var all []string
	for _, t := range s.Transfers {
		text := t.Snapshot
		if t.Parent != "" {
			text += "<" + t.Parent
		}
		if t.Failure != nil {
			text += ": " + t.Failure.Error
		}
		all = append(all, text)
	}
	return all
}

// want fails the test unless got are the given words, none being none.
func want(t testing.TB, what string, got []string, words ...string) {
	t.Helper()
	if !slices.Equal(got, words) {
		t.Fatalf("%s: %q, want %q", what, got, words)
	}
}

// allIn lists what is in directories, with all that a change would show in.
func allIn(t testing.TB, dirs ...string) []string {
	t.Helper()
	const placeholder = 2 // inode number of the directory that stands for a nested subvolume in a snapshot; its time is now
	var lines []string
	note := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%q %v %d", path, info.Mode(), info.Size())
		if info.Sys().(*syscall.Stat_t).Ino != placeholder {
			line += info.ModTime().Format(" 15:04:05.000000000")
		}
		lines = append(lines, line)
		return nil
	}
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, note); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

// unchanged fails the test unless the inventory of the directories is the one made before.
func unchanged(t testing.TB, before []string, dirs ...string) {
	t.Helper()
	after := allIn(t, dirs...)
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("no longer there: %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
}

func TestOptionsChooseBetweenTakingAndSending(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")

	first := backUp(t, exitDone, march(1), "-T", source, destination).Snapshot
	want(t, "snapshots", names(t, folder), first)
	if _, err := os.Stat(destination); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the destination was contacted: %v", err)
	}

	r := backUp(t, exitDone, march(2), "-S", source, destination)
	want(t, "snapshots", names(t, folder), first)
	want(t, "transfers", r.to(t, destination).transfers(), first)
	isCopy(t, source, destination, first)

	r = backUp(t, exitDone, march(3), source)
	want(t, "snapshots", names(t, folder), first, r.Snapshot)
	want(t, "backups", names(t, destination), first)
}

func TestNoTransferStillPrunesBackups(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 3, source, destination)

	r := backUp(t, exitDone, march(4), "-ST", "-n1", source, destination)
	want(t, "transfers", r.to(t, destination).transfers())
	want(t, "backups", names(t, destination), taken[2])
	want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), taken...)
}

func TestNoIncrementalSendsCompleteCopiesNewestFirst(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	a := series(t, 1, source, destination)[0]
	b := backUp(t, exitDone, march(2), "-T", source).Snapshot
	c := backUp(t, exitDone, march(3), "-T", source).Snapshot

	r := backUp(t, exitDone, march(4), "-I", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot, c, b)
	for _, name := range []string{a, b, c, r.Snapshot} {
		isCopy(t, source, destination, name)
	}
}

func TestIncrementsAreSentInTheOrderOfTheSnapshots(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	var taken []string
	for day := range 3 {
		taken = append(taken, backUp(t, exitDone, march(day+1), "-T", source).Snapshot)
	}
	a, b, c := taken[0], taken[1], taken[2]

	r := backUp(t, exitDone, march(4), "-S", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), a, b+"<"+a, c+"<"+b)
}

func TestSnapshotFolderIsRelativeToTheSourceUnlessAbsolute(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	for i, test := range []struct{ option, folder string }{
		{"snapshot", filepath.Join(source, "snapshot")},
		{"deep/er", filepath.Join(source, "deep", "er")},
		{"../beside", filepath.Join(filepath.Dir(source), "beside")},
		{filepath.Join(filepath.Dir(source), "absolute"), filepath.Join(filepath.Dir(source), "absolute")},
		{".", source},
	} {
		t.Run(test.option, func(t *testing.T) {
			name := backUp(t, exitDone, march(i+1), "-f", test.option, source, destination).Snapshot
			if !slices.Contains(names(t, test.folder), name) {
				t.Fatalf("no snapshot %s in %s", name, test.folder)
			}
			btrfstest.Equal(t, filepath.Join(test.folder, name, "file"), filepath.Join(destination, name, "file"))
		})
	}
}

func TestLatestLinkPointsToTheNewestSavedSnapshot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ prefix, link string }{{"", ".latest"}, {"home-", ".home-_latest"}} {
		t.Run(test.link, func(t *testing.T) {
			source, destination := newSmallPair(t)
			link := filepath.Join(source, "snapshot", test.link)

			first := backUp(t, exitDone, march(1), "-p", test.prefix, source, destination)
			points(t, link, first.Snapshot)
			second := backUp(t, exitDone, march(2), "-p", test.prefix, source, destination)
			points(t, link, second.Snapshot)

			blocked := filepath.Join(destination, test.prefix+"20260303-120000")
			write(t, blocked, "in the way")
			third := backUp(t, exitFailed, march(3), "-p", test.prefix, source, destination)
			if filepath.Base(blocked) != third.Snapshot {
				t.Fatalf("%s is not in the way of %s", blocked, third.Snapshot)
			}
			points(t, link, second.Snapshot)
		})
	}
}

func TestLatestThatIsNoLinkIsAnErrorAndNothingElseSuffers(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	first := series(t, 1, source, destination)[0]
	link := filepath.Join(source, "snapshot", ".latest")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	write(t, link, "somebody's own")

	r := backUp(t, exitPartly, march(2), "-N1", "-n1", source, destination)
	if len(r.Failures) != 1 || !strings.Contains(r.Failures[0].Error, "not a symbolic link") || r.Failures[0].Hint == "" {
		t.Fatalf("failures: %+v", r.Failures)
	}
	if content, err := os.ReadFile(link); err != nil || string(content) != "somebody's own" {
		t.Fatalf("%s was changed to %q, %v", link, content, err)
	}
	want(t, "deleted snapshots", r.Deleted, first)
	want(t, "backups", names(t, destination), r.Snapshot)
}

func TestNumbersOfSnapshotsAndBackupsAreIndependent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		options            string
		snapshots, backups int
	}{
		{"-N2", 2, 4},
		{"-n3", 4, 3},
		{"-N1 -n2", 1, 2},
		{"-N0 -n0", 4, 4},
		{"-N9 -n9", 4, 4},
		{"--latest-only", 1, 4},
	} {
		t.Run(test.options, func(t *testing.T) {
			source, destination := newSmallPair(t)
			taken := series(t, 3, source, destination)
			r := backUp(t, exitDone, march(4), append(strings.Fields(test.options), source, destination)...)
			taken = append(taken, r.Snapshot)
			want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), taken[4-test.snapshots:]...)
			want(t, "backups", names(t, destination), taken[4-test.backups:]...)
		})
	}
}

func TestFreshDestinationGetsNoMoreThanTheNumberOfBackups(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 3, source)
	r := backUp(t, exitDone, march(4), "-n2", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), taken[2], r.Snapshot+"<"+taken[2])
}

// points fails the test unless the symbolic link has this very target.
func points(t testing.TB, link, target string) {
	t.Helper()
	if got, err := os.Readlink(link); err != nil || got != target {
		t.Fatalf("%s points to %q, %v, want %q", link, got, err, target)
	}
}

func TestDestinationsAreAllServed(t *testing.T) {
	t.Parallel()
	source, first := newSmallPair(t)
	second := filepath.Join(smallFS(t).Dir, "second")
	taken := series(t, 2, source, second)

	r := backUp(t, exitDone, march(3), source, first, second)
	last := r.Snapshot + "<" + taken[1]
	want(t, "to a fresh one", r.to(t, first).transfers(), taken[0], taken[1]+"<"+taken[0], last)
	want(t, "to one that lacks the newest", r.to(t, second).transfers(), last)
	for _, destination := range []string{first, second} {
		for _, name := range append(taken, r.Snapshot) {
			isCopy(t, source, destination, name)
		}
	}
}

func TestDestinationsOnOneFilesystemAreServedSideBySide(t *testing.T) {
	t.Parallel()
	source, first := newSmallPair(t)
	second := filepath.Join(filepath.Dir(first), "second")
	series(t, 4, "-T", source)
	backUp(t, exitDone, march(5), source, first, second)
	for _, destination := range []string{first, second} {
		for _, name := range names(t, filepath.Join(source, "snapshot")) {
			isCopy(t, source, destination, name)
		}
	}
}

func TestSkippedChecksMakeNoSubvolumeOfADirectory(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	plain := makeDir(t, filepath.Join(source, "plain"))
	for _, options := range []string{"-C", "--skip-fs-checks", "-C --dry-run"} {
		args := append(strings.Fields(options), plain, destination)
		expect(t, exitFailed, invoke(t, march(1), args...), "not a btrfs subvolume", "btrfs-backup: hint: ")
		want(t, "left", names(t, plain))
		if exists(destination) {
			t.Errorf("%s was made", destination)
		}
	}
	backUp(t, exitDone, march(2), "-C", source)
}

func TestBtrfsDebugLogsWhatBtrfsDoes(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	for i, option := range []string{"-P", "-d", "--debug", "--btrfs-debug"} {
		r := expect(t, exitDone, invoke(t, march(i+1), option, source, destination))
		for _, text := range []string{"the kernel sends " + source, "sent " + source, "received " + destination} {
			if told := strings.Contains(r.stderr, text); told != (option != "-P") {
				t.Errorf("with %s, %q is told: %t\n%s", option, text, told, r.stderr)
			}
		}
	}
}

func TestEveryCommandReachesMachinesByTheSameOptions(t *testing.T) {
	t.Parallel()
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	reach := job.Default().Reach
	defineReach(&reach, all)
	defineFurtherReach(&reach, all)
	if got, want := reflect.TypeFor[job.Reach]().NumField(), len(arguments.VisibleFlags(all)); got != want {
		t.Errorf("job.Reach has %d settings, and %d have options", got, want)
	}
	root := newRoot(environment{stdout: io.Discard, stderr: io.Discard})
	for _, c := range append(root.Commands(), root) {
		if c.Flags().Lookup("ssh-opt") == nil {
			continue
		}
		all.VisitAll(func(f *pflag.Flag) {
			if own := c.Flags().Lookup(f.Name); own == nil || own.DefValue != f.DefValue {
				t.Errorf("%s: --%s is missing, or differs", c.CommandPath(), f.Name)
			}
		})
	}
}
