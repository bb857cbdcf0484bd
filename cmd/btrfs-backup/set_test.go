package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"

	"github.com/spf13/pflag"
)

// testOnlySet is the program with a set on its command line: NAME=SOURCE for each member, and destinations.
const testOnlySet = "btrfs-backup-set"

func testOnlySetMain() {
	if len(os.Args) > 1 && os.Args[1] == "rsh" { // the remote shell of its rsync
		testOnlyMain()
	}
	env := testOnlyEnvironment()
	ctx, cancel := untilSignal()
	defer cancel()
	spec := job.Default()
	o := &backupOptions{spec: &spec}
	flags := pflag.NewFlagSet(testOnlySet, pflag.ContinueOnError)
	o.define(flags)
	err := flags.Parse(os.Args[1:])
	for _, arg := range flags.Args() {
		name, source, isMember := strings.Cut(arg, "=")
		place, parseErr := job.ParsePlace(arg)
		if isMember {
			place, parseErr = job.ParsePlace(source)
			o.spec.Members = append(o.spec.Members, job.Member{Name: name, Source: place})
		} else {
			o.spec.Destinations = append(o.spec.Destinations, place)
		}
		if err == nil {
			err = parseErr
		}
	}
	if err == nil {
		err = o.spec.Check().Err()
	}
	if err == nil {
		err = runJob(ctx, env, o.spec, o.output)
	}
	if err != nil && !isTold(err) {
		complain(env, err)
	}
	os.Exit(exitStatus(err))
}

// A setRig is two subvolumes and a directory, and a folder for sets of them.
type setRig struct {
	testing.TB
	source, destination string
	changes             int
}

var setMembers = []string{"data", "etc", "root"}

func newSetRig(t testing.TB) *setRig {
	t.Helper()
	s := &setRig{TB: t, source: btrfstest.New(t, testSize).Dir, destination: filepath.Join(btrfstest.New(t, testSize).Dir, "server")}
	for _, m := range setMembers {
		if m == "etc" {
			btrfstest.Check(t, os.Mkdir(filepath.Join(s.source, m), 0o755))
		} else {
			btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(s.source, m))
		}
	}
	s.change()
	return s
}

func (s *setRig) change() {
	s.changes++
	for _, m := range setMembers {
		path := filepath.Join(s.source, m, "file")
		btrfstest.Check(s, os.WriteFile(path, fmt.Append(nil, m, s.changes), 0o600))
	}
}

// backUp runs the set to a place with more options.
func (s *setRig) backUp(environ []string, place string, options ...string) result {
	s.Helper()
	args := slices.Clone(options)
	for _, m := range setMembers {
		args = append(args, m+"="+filepath.Join(s.source, m))
	}
	cmd := exec.Command(testOnlySet, append(args, place)...)
	cmd.Env = append(os.Environ(), environ...)
	return invokeCmd(s, cmd)
}

// sets gives the names of the sets at the destination, each of which must be complete and lead to what it should.
func (s *setRig) sets() (sets []string) {
	s.Helper()
	for _, name := range names(s, s.destination) {
		if slices.Contains(setMembers, name) {
			continue
		}
		sets = append(sets, name)
		if got := names(s, filepath.Join(s.destination, name)); !slices.Equal(got, setMembers) {
			s.Errorf("the set %s has %q", name, got)
		}
		var contents []string
		for _, m := range setMembers {
			content, err := os.ReadFile(filepath.Join(s.destination, name, m, "file"))
			if err != nil {
				s.Error(err)
			}
			contents = append(contents, strings.TrimPrefix(string(content), m))
		}
		if len(slices.Compact(contents)) != 1 {
			s.Errorf("the set %s is of several times: %q", name, contents)
		}
	}
	return sets
}

// isWhole fails unless the newest set holds what there is now, and nothing unfinished is left.
func (s *setRig) isWhole() {
	s.Helper()
	sets := s.sets()
	if len(sets) == 0 {
		s.Fatal("there is no set")
	}
	for _, m := range setMembers {
		content, _ := os.ReadFile(filepath.Join(s.destination, sets[len(sets)-1], m, "file"))
		if string(content) != fmt.Sprint(m, s.changes) {
			s.Errorf("%s holds %q", m, content)
		}
	}
	for _, pattern := range []string{".*.incoming", ".*.deleting", "*/.*.incoming", "*/.*.deleting"} {
		if left, _ := filepath.Glob(filepath.Join(s.destination, pattern)); len(left) > 0 {
			s.Errorf("left: %q", left)
		}
	}
}

func TestASetKilledAtAnyStepIsFinishedOrRemovedByTheNextRun(t *testing.T) {
	t.Parallel()
	s := newSetRig(t)
	keep := []string{"-N", "2", "-n", "2"}
	for range 3 { // from here on each run has something to delete
		s.change()
		expect(t, exitDone, s.backUp(nil, s.destination, keep...))
	}
	for _, step := range []string{"snapshot taken", "committed", "set begun", "set linked", "set renamed", "link removed", "subvolume deleted"} {
		s.change()
		killed := s.backUp([]string{testOnlyKillAt + "=" + step}, s.destination, keep...)
		if killed.step() != step {
			t.Fatalf("not killed at %q, but at %q", step, killed.step())
		}
		s.sets()
		s.change()
		expect(t, exitDone, s.backUp(nil, s.destination, keep...))
		s.isWhole()
		if got := s.sets(); len(got) > 2 {
			t.Fatalf("there are %q after %q", got, step)
		}
	}
}

func TestASetIsKeptOnAnotherMachine(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	s, r := newSetRig(t), newRemote(t, sshtest.Options{})
	for range 3 {
		s.change()
		expect(t, exitDone, s.backUp(nil, r.place(s.destination), r.arguments("-n", "2", "-N", "1")...))
		s.isWhole()
	}
	if got := s.sets(); len(got) != 2 {
		t.Errorf("there are %q", got)
	}
}

func TestASetOfSubvolumesGoesThroughARestrictedKey(t *testing.T) {
	btrfstest.OnlyInAll(t)
	t.Parallel()
	s := newSetRig(t)
	btrfstest.Check(t, os.RemoveAll(filepath.Join(s.source, "etc")))
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, s.source), "etc"))
	r := newRestricted(t, "--restrict-to '"+filepath.Dir(s.destination)+"' --append-only -n 2 --min-age 0s")
	btrfstest.Check(t, os.Chmod(filepath.Dir(s.destination), 0o700))
	for range 4 {
		s.change()
		expect(t, exitDone, s.backUp(nil, r.place(s.destination), r.arguments()...))
	}
	s.isWhole()
	if got := s.sets(); len(got) != 2 {
		t.Errorf("there are %q", got)
	}
	expect(t, exitPartly, s.backUp(nil, r.place(s.destination), r.arguments("-n", "1")...), "may not delete")
	only := newRestricted(t, "--send-only")
	expect(t, exitFailed, s.backUp(nil, only.place(filepath.Join(filepath.Dir(s.destination), "other")), only.arguments()...), "may only fetch")
}

func TestSubvolumesBelowASourceOnAnotherMachineAreBackedUp(t *testing.T) {
	btrfstest.OnlyInAll(t)
	t.Parallel()
	btrfstest.RequireRoot(t)
	r := newRemote(t, sshtest.Options{})
	source, destination := newPair(t)
	for _, level := range []string{"home", "home/alice", "docker"} {
		btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(source, level))
		btrfstest.SmallFiles(t, filepath.Join(source, level), 3, 1)
	}
	for range 2 {
		did := succeed(t, r.arguments("--recursive", "--exclude", "/docker", r.place(source), destination)...)
		expect(t, exitDone, did, "3 subvolumes, itself included; skipped: 0 read-only, 1 excluded", "complete")
	}
	snapshots := names(t, filepath.Join(source, "snapshot"))
	for _, level := range []string{"", "home", "home/alice"} {
		folder := filepath.Join(destination, level)
		got := slices.DeleteFunc(names(t, folder), func(name string) bool { return name == "home" || name == "alice" })
		if !slices.Equal(got, snapshots) || len(got) != 2 {
			t.Errorf("%q holds %q, want %q", level, got, snapshots)
		}
	}
	isCopy(t, filepath.Join(source, "home", "alice"), filepath.Join(destination, "home", "alice"), snapshots[1])
	planned := succeed(t, r.arguments("--recursive", "--exclude", "docker", "--dry-run", "-n", "1", "-N", "1", r.place(source), destination)...)
	for _, want := range []string{"home/alice: would delete " + snapshots[0], "/docker: would", r.place(source) + "/home: would take snapshot"} {
		if strings.Contains(planned.stdout, want) == strings.Contains(want, "docker") {
			t.Errorf("%q in the plan:\n%s", want, planned.stdout)
		}
	}
	if got := names(t, filepath.Join(source, "home", "snapshot")); !slices.Equal(got, snapshots) {
		t.Errorf("a dry run left %q", got)
	}
}

func TestASetIsListedExplainedAndVerifiedAsOne(t *testing.T) {
	t.Parallel()
	s := newSetRig(t)
	for range 2 {
		s.change()
		expect(t, exitDone, s.backUp(nil, s.destination, "--engine", "rsync"))
	}
	sets := s.sets()
	all := succeed(t, "list", s.destination).stdout
	for _, want := range []string{": 2 sets, 3 folders of backups", sets[1], "set of data, etc, root"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in the list:\n%s", want, all)
		}
	}
	if all := succeed(t, "list", "--json", s.destination).stdout; strings.Count(all, `"kind": "set"`) != 2 || !strings.Contains(all, `"members": [`) {
		t.Error(all)
	}
	why := succeed(t, "explain", "-n", "1", s.destination).stdout
	if !strings.Contains(why, s.destination+": 2 sets, 1 stay, 1 go") || strings.Contains(why, "data:") {
		t.Error(why)
	}
	for place, verified := range map[string]int{s.destination: 6, filepath.Join(s.destination, sets[0]): 3} {
		if got := succeed(t, "verify", place).stdout; strings.Count(got, "no differences") != verified {
			t.Errorf("%s:\n%s", place, got)
		}
	}
	file := filepath.Join(s.destination, "etc", sets[0])
	btrfstest.Run(t, "btrfs", "property", "set", file, "ro", "false")
	btrfstest.Check(t, os.WriteFile(filepath.Join(file, "file"), []byte("changed"), 0o600))
	expect(t, exitDiffer, invoke(t, nil, "verify", filepath.Join(s.destination, sets[0])), "etc/"+sets[0], "DIFFERS")
	succeed(t, "verify", filepath.Join(s.destination, sets[1]))
	btrfstest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(s.destination, "root", sets[0]))
	expect(t, exitDone, invoke(t, nil, "list", s.destination), "INCOMPLETE set, without root")
	expect(t, exitDiffer, invoke(t, nil, "verify", filepath.Join(s.destination, sets[0])), "root/"+sets[0])
	btrfstest.Check(t, os.RemoveAll(filepath.Join(s.destination, sets[1]))) // links
	expect(t, exitDone, invoke(t, nil, "list", s.destination), ": 2 sets, ", "INCOMPLETE set, not marked yet")
	expect(t, exitDone, invoke(t, nil, "explain", s.destination), ": 2 sets, 2 stay, 0 go")
}
