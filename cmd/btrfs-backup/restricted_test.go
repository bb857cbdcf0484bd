package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// newRestricted starts an sshd whose key runs `serve` with these options, whatever its client asks for.
func newRestricted(t testing.TB, options string) *remote {
	t.Helper()
	return newRestrictedOn(t, nil, options)
}

func newRestrictedOn(t testing.TB, environ []string, options string) *remote {
	t.Helper()
	return newRemote(t, sshtest.Options{Env: environ, KeyOptions: fmt.Sprintf(`restrict,command="btrfs-backup serve %s"`, options)})
}

func TestAReceiverThatOnlyAddsPrunesByItsOwnCounts(t *testing.T) {
	t.Parallel()
	source, destination := newPair(t)
	folder := filepath.Join(destination, "laptop")
	btrfstest.Check(t, os.MkdirAll(folder, 0o755))
	other := filepath.Join(folder, "20200101-000000") // not this source's
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, folder), filepath.Base(other)))
	btrfstest.Check(t, btrfs.SetReadOnly(btrfstest.Open(t, folder), filepath.Base(other), true))
	r := newRestricted(t, "--restrict-to '"+destination+"' --append-only -n 2 --min-age 0s")
	for range 4 {
		succeed(t, r.arguments(source, r.place(folder))...)
	}
	snapshots := names(t, filepath.Join(source, "snapshot"))
	if got, want := fmt.Sprint(names(t, folder)), fmt.Sprint(append([]string{filepath.Base(other)}, snapshots[2:]...)); got != want {
		t.Errorf("the backups are %s, want %s", got, want)
	}
	isCopy(t, source, folder, snapshots[3])
	r.refuses(t, "may not delete", source, r.place(folder), "-n", "1")
	if got := len(names(t, folder)); got != 3 {
		t.Errorf("there are %d", got)
	}
}

func TestAReceiverNeverDeletesWhatItJustReceived(t *testing.T) {
	t.Parallel()
	source, destination := newPair(t)
	folder := filepath.Join(destination, "laptop")
	btrfstest.Check(t, os.MkdirAll(folder, 0o755))
	r := newRestricted(t, "--restrict-to '"+destination+"' --append-only -n 2 --min-age 0s")
	for range 4 {
		succeed(t, source)
	}
	snapshots := names(t, filepath.Join(source, "snapshot"))
	for range 2 { // nor is it sent what it would delete
		succeed(t, r.arguments(source, r.place(folder), "-S")...)
		if got, want := fmt.Sprint(names(t, folder)), fmt.Sprint(snapshots[2:]); got != want {
			t.Fatalf("the backups are %s, want %s", got, want)
		}
	}
	for _, name := range []string{"20300101-000000", "20200101-000000", "20200102-000000"} { // a clock that jumps
		btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, source), btrfstest.Open(t, filepath.Join(source, "snapshot")), name))
		succeed(t, r.arguments(source, r.place(folder), "-S")...)
		isCopy(t, source, folder, name)
	}
	if got, want := fmt.Sprint(names(t, folder)), fmt.Sprint([]string{"20200101-000000", "20200102-000000"}); got != want {
		t.Errorf("the backups are %s, want %s", got, want)
	}
}

// daysOn gives the environment of a run so many days after today.
func daysOn(n int) []string {
	return []string{testOnlyNow + "=" + time.Now().AddDate(0, 0, n).UTC().Format(time.RFC3339)}
}

// A hostile client has the key, and a clock and names of its own.
func TestAReceiverDeletesNothingYoungForAHostileClient(t *testing.T) {
	t.Parallel()
	for policy, old := range map[string]int{"-n 2": 0, "--keep-backups '2d 1w'": 1} {
		t.Run(policy, func(t *testing.T) {
			if old == 0 {
				btrfstest.OnlyInAll(t)
			}
			t.Parallel()
			source, destination := newSmallPair(t)
			btrfstest.Check(t, os.MkdirAll(destination, 0o755))
			serve := "--restrict-to '" + destination + "' --append-only " + policy
			today := newRestricted(t, serve)
			first := backUp(t, exitDone, nil, today.arguments(source, today.place(destination))...).Snapshot
			flood := []string{"20000101-000000", "20991231-235959", "20260301-120000", "20260302-120000"}
			for i, name := range flood { // in sessions of their own, by a clock that is years ahead
				btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, source), btrfstest.Open(t, filepath.Join(source, "snapshot")), name))
				expect(t, exitDone, invoke(t, daysOn(400*i), today.arguments("-S", source, today.place(destination))...))
			}
			all := append(slices.Clone(flood), first)
			slices.Sort(all)
			want(t, "backups", names(t, destination), all...)

			inAWeek := newRestrictedOn(t, daysOn(8), serve)
			last := backUp(t, exitDone, nil, inAWeek.arguments(source, inAWeek.place(destination))...).Snapshot
			left := names(t, destination)
			if !slices.Contains(left, last) || slices.Contains(left, first) != (old == 1) || slices.Contains(left, flood[1]) {
				t.Errorf("after a week, there are %q", left)
			}
			r := backUp(t, exitDone, nil, inAWeek.arguments("-S", source, inAWeek.place(destination))...)
			if sent := r.to(t, inAWeek.place(destination)).Transfers; len(sent) > 0 {
				t.Errorf("sent again: %+v", sent)
			}
		})
	}
}

func TestCopiesOfDirectoriesThatArriveArePrunedByTheOwnersPolicy(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	source, destination := t.TempDir(), filepath.Join(t.TempDir(), "backups")
	agent := newAgent(t, `case $1 in serve) shift; set -- serve --keep-backups last=2 "$@" ;; esac; exec "$real" "$@"`)
	r := newRemote(t, agent.options())
	var made []string
	for _, date := range []string{"2030-01-01", "2020-01-01", "2020-01-02"} {
		write(t, filepath.Join(source, "file"), date)
		run := backUp(t, exitDone, clock(date), r.arguments("--engine", "rsync", "--agent", "installed", source, r.place(destination))...)
		made = append(made, run.to(t, r.place(destination)).Transfers[0].Snapshot)
	}
	want(t, "backups", names(t, destination), made[1:]...)
}

// refuses fails the test unless a run fails and says why.
func (r *remote) refuses(t testing.TB, why string, args ...string) {
	t.Helper()
	result := invoke(t, nil, r.arguments(args...)...)
	if result.status == exitDone {
		t.Errorf("%q succeeded\n%s", args, result.stderr)
		return
	}
	expect(t, result.status, result, why, "hint: ")
}

func TestAKeyIsGoodForItsRoleAndDirectoryOnly(t *testing.T) {
	t.Parallel()
	source, destination := newPair(t)
	btrfstest.Check(t, os.MkdirAll(destination, 0o755))
	beside := destination + "-beside"
	btrfstest.Check(t, os.Mkdir(beside, 0o755))

	out := newRestricted(t, "--restrict-to '"+source+"' --send-only")
	succeed(t, out.arguments(out.place(source), filepath.Join(btrfstest.New(t, testSize).Dir, "pulled"))...)
	out.refuses(t, "may only fetch", source, out.place(source+"/folder"))
	if _, err := os.Stat(source + "/folder"); err == nil {
		t.Error("a refused run made a folder")
	}

	in := newRestricted(t, "--restrict-to '"+destination+"' --receive-only")
	in.refuses(t, "confined to", source, in.place(beside))
	in.refuses(t, "confined to", source, in.place(destination+"/../"+filepath.Base(beside)))
	in.refuses(t, "refused", in.place(source), destination)
	succeed(t, in.arguments(source, in.place(destination))...)
	in.refuses(t, "no other command", in.place(destination), filepath.Join(t.TempDir(), "restored"), "--engine", "rsync")
	for dir := destination; dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode()&0o005 == 0 {
			btrfstest.Check(t, os.Chmod(dir, st.Mode()|0o055))
			t.Cleanup(func() { _ = os.Chmod(dir, st.Mode()) })
		}
	}
	expect(t, exitDone, succeed(t, in.arguments(source, in.place(destination))...), "other users there can enter "+destination)
	if left := names(t, beside); len(left) > 0 {
		t.Errorf("beside there is %v", left)
	}
}
