package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// child is a process that runs the hooks, behind a command that starts it.
func (r *rig) child(by ...string) *exec.Cmd {
	r.t.Helper()
	text, err := json.Marshal(Runner{Hooks: r.Hooks, Job: r.Job, Source: r.Source, Dir: r.Dir})
	check(r.t, err)
	argv := append(by, os.Args[0])
	run := exec.Command(argv[0], argv[1:]...)
	run.Env = append(os.Environ(), testOnlyRun+"="+string(text))
	return run
}

// kill runs the hooks in a process that one of them kills.
func (r *rig) kill() {
	r.t.Helper()
	exit := new(exec.ExitError)
	if err := r.child().Run(); !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		r.t.Fatalf("it was not killed: %v", err)
	}
}

// killsRun is the end of a script that kills the process which runs the hook.
const killsRun = "; kill -9 $PPID; sleep 1000"

func (r *rig) finish(want int) {
	r.t.Helper()
	n, err := Finish(r.t.Context(), r.Dir, r.Log)
	check(r.t, err)
	if n != want {
		r.t.Errorf("%d afters were left, want %d", n, want)
	}
}

func TestFinishRunsTheAftersOfARunThatWasKilled(t *testing.T) {
	t.Parallel()
	tells := `echo "-$BTRFS_BACKUP_HOOK/$BTRFS_BACKUP_STATUS/$BTRFS_BACKUP_JOB/$BTRFS_BACKUP_PHASE/$BTRFS_BACKUP_SOURCE" >>'DIARY'`
	for name, killer := range map[string]Hook{
		"in a before": {Name: "c", Before: sh("echo +c >>'DIARY'" + killsRun), After: sh(tells), Around: "snapshot"},
		"in an after": {Name: "c", Before: write("+c", 0), After: sh(tells + "; test -e 'DIARY.once' || { >'DIARY.once'" + killsRun + "; }"), Around: "snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Hook{Name: "a", Before: write("+a", 0), After: sh(tells), Around: "snapshot"},
				Hook{Name: "b", Before: write("+b", 1), After: sh(tells), Around: "snapshot", Optional: true}, killer,
				around("never", Snapshot))
			if name == "in an after" {
				r.Hooks = r.Hooks[:3]
			}
			r.kill()
			ran := []string{"+a", "+b", "+c"}
			if name == "in an after" {
				ran = append(ran, "-c/ok/home/snapshot//home")
			}
			r.want(ran...)
			r.finish(2)
			ran = append(ran, "-c/failed/home/snapshot//home", "-a/failed/home/snapshot//home")
			r.want(ran...)
			if !r.logged(slog.LevelWarn, "hook c of job home: process ") {
				t.Errorf("nothing was told: %q", r.log)
			}
			r.finish(0)
			r.want(ran...)
		})
	}
}

func TestFinishTellsAFailureAndGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot), around("o", Snapshot, afterFails, optional), around("b", Snapshot, afterFails), Hook{Before: sh("true" + killsRun), Around: "snapshot"})
	r.kill()
	n, err := Finish(t.Context(), r.Dir, r.Log)
	if n != 3 || err == nil || err.Error() != "job home: hook b after the snapshot: exit status 1" {
		t.Errorf("%d, error: %v", n, err)
	}
	r.want("+a", "+o", "+b", "-b", "-o", "-a")
	r.finish(0)
}

func TestAFinishThatIsKilledIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot), around("b", Snapshot), Hook{Before: sh("true" + killsRun), Around: "snapshot"})
	r.kill()
	dead := r.noted()[0].Owner
	check(t, change(t.Context(), r.Dir, func(all []note) []note { // as a finisher that took one and was killed
		all[1].Owner.Start = "1"
		return all
	}))
	if r.noted()[1].Owner == dead {
		t.Fatal("it has the same owner")
	}
	r.finish(2)
	r.want("+a", "+b", "-b", "-a")
}

func TestOfFinishersAtOnceOneRunsEachAfter(t *testing.T) {
	t.Parallel()
	var hooks []Hook
	want := []string{}
	for i := range 8 {
		hooks = append(hooks, around(fmt.Sprint(i), Snapshot))
		want = append(want, fmt.Sprint("+", i))
	}
	r := newRig(t, append(hooks, Hook{Before: sh("true" + killsRun), Around: "snapshot"})...)
	r.kill()
	var finishing sync.WaitGroup
	total := make(chan int, 4)
	for range cap(total) {
		finishing.Go(func() {
			n, err := Finish(context.Background(), r.Dir, r.Log)
			if err != nil {
				t.Error(err)
			}
			total <- n
		})
	}
	finishing.Wait()
	close(total)
	sum := 0
	for n := range total {
		sum += n
	}
	if sum != 8 {
		t.Errorf("%d afters were found", sum)
	}
	for i := range 8 {
		want = append(want, fmt.Sprint("-", 7-i))
	}
	r.want(want...)
}

func TestFinishLeavesARunThatLivesAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot))
	check(t, r.Before(t.Context(), Snapshot))
	r.finish(0)
	r.want("+a")
	check(t, r.After(t.Context(), Snapshot, "", nil))
	r.want("+a", "-a")
}

func TestAProcessThatIsNotWaitedForYetIsDead(t *testing.T) {
	t.Parallel()
	child := exec.Command("sleep", "1000")
	check(t, child.Start())
	defer child.Wait()
	p, err := identify(fmt.Sprint(child.Process.Pid))
	check(t, err)
	if !p.lives() {
		t.Error("it does not count as alive")
	}
	check(t, child.Process.Kill())
	check(t, unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil))
	if p.lives() {
		t.Error("it counts as alive")
	}
}

func TestANumberThatAnotherProcessHasNowIsADeadProcess(t *testing.T) {
	t.Parallel()
	me, err := identify("self")
	check(t, err)
	if me.PID != os.Getpid() || !me.lives() {
		t.Errorf("%+v is dead", me)
	}
	for _, other := range []process{{me.PID, me.Start + "0", me.Boot}, {me.PID, me.Start, "another"}} {
		if other.lives() {
			t.Errorf("%+v lives", other)
		}
	}
}

func TestNotesThatOthersCanChangeAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot))
	check(t, r.Before(t.Context(), Snapshot))
	check(t, os.Chmod(r.Dir, 0o777))
	if _, err := Finish(t.Context(), r.Dir, r.Log); err == nil || !strings.Contains(err.Error(), "others may change it") {
		t.Errorf("error: %v", err)
	}
	check(t, os.Chmod(r.Dir, 0o700))
	check(t, os.WriteFile(filepath.Join(r.Dir, file), []byte("{garbage"), 0o600))
	if _, err := Finish(t.Context(), r.Dir, r.Log); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("error: %v", err)
	}
	check(t, os.Remove(filepath.Join(r.Dir, file)))
	r.finish(0)
}
