package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestAftersRunInReverse(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot), around("other", Transfer), around("b", Snapshot), Hook{After: write("-c", 0), Around: "snapshot"},
		Hook{Before: write("+d", 0), Around: "snapshot"}, around("run", ""))
	for range 2 { // the second time shows that nothing is left of the first
		check(t, r.Before(t.Context(), Snapshot))
		r.want("+a", "+b", "+d")
		if n := r.noted(); len(n) != 3 {
			t.Errorf("%d afters are noted while they are to come: %+v", len(n), n)
		}
		check(t, r.After(t.Context(), Snapshot, "20260101-000000", nil))
		r.want("+a", "+b", "+d", "-c", "-b", "-a")
		check(t, os.Remove(r.diary()))
	}
	check(t, r.Before(t.Context(), Run))
	check(t, r.After(t.Context(), Run, "", nil))
	r.want("+run", "-run")
	if n := r.noted(); len(n) != 0 {
		t.Errorf("still noted: %+v", n)
	}
}

func TestAHookIsToldWhatItIsFor(t *testing.T) {
	t.Parallel()
	show := sh(`env | grep -A1 '^BTRFS_BACKUP_' | tr '\n' ' ' >>'DIARY'; cat >>'DIARY'; pwd >>'DIARY'`)
	r := newRig(t, Hook{Name: "db", Before: sh(show[2]), After: sh(show[2]), Around: "snapshot"})
	long := strings.Repeat("x", 1<<20)
	for _, test := range []struct {
		ended  error
		status string
		text   string
	}{
		{nil, "ok", ""}, {errors.New("no\x00 space"), "failed", "no space"}, {&SkipError{Reason: "off"}, "skipped", "off"},
		{errors.New(long), "failed", long[:maxError]},
	} {
		check(t, r.Before(t.Context(), Snapshot))
		content, err := os.ReadFile(r.diary())
		check(t, err)
		for _, want := range []string{"_JOB=home ", "_HOOK=db ", "_PHASE=snapshot ", "_SOURCE=/home ", "_DESTINATION=/a nas:/b ",
			"_SNAPSHOT= ", "_STATUS= ", "_ERROR= ", "/\n"} {
			if !strings.Contains(string(content), want) {
				t.Errorf("the before was not told %q: %s", want, content)
			}
		}
		check(t, os.Remove(r.diary()))
		check(t, r.After(t.Context(), Snapshot, "20260101-000000", test.ended))
		content, err = os.ReadFile(r.diary())
		check(t, err)
		for _, want := range []string{"_JOB=home ", "_SNAPSHOT=20260101-000000 ", "_STATUS=" + test.status + " ", "_ERROR=" + test.text + " "} {
			if !strings.Contains(string(content), want) {
				t.Errorf("the after was not told %.100q: %.1000s", want, content)
			}
		}
		check(t, os.Remove(r.diary()))
	}
}

func TestABeforeThatFailsUndoesThoseThatSucceeded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		change         []variation
		isSkip, isCrit bool
		goesOn         bool
	}{
		{"a failure", []variation{beforeFails(3)}, false, false, false},
		{"a critical one", []variation{beforeFails(1), critical}, false, true, false},
		{"an optional one", []variation{beforeFails(1), optional}, false, false, true},
		{"a skip", []variation{beforeFails(75)}, true, false, false},
		{"a skip by an optional hook", []variation{beforeFails(75), optional}, true, false, false},
		{"a skip by a critical hook", []variation{beforeFails(75), critical}, true, false, false},
		{"a program that is gone", []variation{func(h *Hook) { h.Before = []string{"/missing"} }}, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, around("a", Snapshot), around("b", Snapshot), around("x", Snapshot, test.change...), around("c", Snapshot))
			err := r.Before(t.Context(), Snapshot)
			if got := errors.As(err, new(*SkipError)); got != test.isSkip {
				t.Errorf("asks for a skip: %v, error %v", got, err)
			}
			if got := errors.As(err, new(*CriticalError)); got != test.isCrit {
				t.Errorf("is critical: %v, error %v", got, err)
			}
			if test.goesOn {
				check(t, err)
				if !r.logged(slog.LevelWarn, "hook x before the snapshot: exit status 1") {
					t.Errorf("nothing was told: %q", r.log)
				}
				check(t, r.After(t.Context(), Snapshot, "", nil))
				r.want("+a", "+b", "+x", "+c", "-c", "-b", "-a")
				return
			}
			if err == nil {
				t.Error("nothing is said")
			}
			want := []string{"+a", "+b", "+x", "-b", "-a"}
			if strings.Contains(test.name, "gone") {
				want = slices.Delete(want, 2, 3)
			}
			r.want(want...)
			check(t, r.After(t.Context(), Snapshot, "", nil)) // has nothing left to do
			r.want(want...)
			if n := r.noted(); len(n) > 0 {
				t.Errorf("noted: %+v", n)
			}
		})
	}
}

func TestAnAfterThatFailsKeepsNoOtherFromRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot, afterFails, critical), around("b", Snapshot), around("c", Snapshot, afterFails),
		around("d", Snapshot, afterFails, optional), around("e", Snapshot, func(h *Hook) { h.After = write("-e", 75) }))
	check(t, r.Before(t.Context(), Snapshot))
	err := r.After(t.Context(), Snapshot, "", nil)
	r.want("+a", "+b", "+c", "+d", "+e", "-e", "-d", "-c", "-b", "-a")
	for _, name := range []string{"a", "c", "e"} {
		if err == nil || !strings.Contains(err.Error(), "hook "+name+" after the snapshot: exit status") {
			t.Errorf("the error of %s is missing: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hook d") || !r.logged(slog.LevelWarn, "hook d after the snapshot: exit status 1") {
		t.Errorf("an optional hook failed, and the error is %v, the log %q", err, r.log)
	}
	if !errors.As(err, new(*CriticalError)) || errors.As(err, new(*SkipError)) {
		t.Errorf("critical: %v", err)
	}
	if n := r.noted(); len(n) > 0 {
		t.Errorf("noted: %+v", n)
	}
}

func TestWhatFailsInConsequenceOfASkipIsAFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot, afterFails), around("x", Snapshot, beforeFails(75)))
	var skip *SkipError
	if err := r.Before(t.Context(), Snapshot); !errors.As(err, &skip) || skip.After == nil {
		t.Errorf("error: %v", err)
	}
}

func TestTheOutputIsLoggedAndItsEndIsInTheError(t *testing.T) {
	t.Parallel()
	r := newRig(t, Hook{Name: "db", Before: sh("seq 30; echo bad >&2; exit 4")})
	err := r.Before(t.Context(), Run)
	if err == nil || !strings.HasPrefix(err.Error(), "job home: hook db before the run: exit status 4: 12; 13; ") || !strings.HasSuffix(err.Error(), "; 30; bad") {
		t.Errorf("error: %v", err)
	}
	for _, line := range []string{"hook db: 1", "hook db: 30", "hook db: bad"} {
		if !r.logged(slog.LevelInfo, line) {
			t.Errorf("not logged: %s in %q", line, r.log)
		}
	}
}

// ended fails the test unless the process whose number is in the file has ended.
func ended(t testing.TB, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	for _, pid := range strings.Fields(string(content)) {
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if _, err := identify(pid); err != nil {
				break
			}
			if time.Now().After(end) {
				n, _ := strconv.Atoi(pid)
				_ = unix.Kill(n, unix.SIGKILL)
				t.Fatalf("process %s is still there", pid)
			}
		}
	}
}

func TestAHookThatNeverEndsIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	stubborn := `trap '' TERM; sh -c "trap '' TERM; while :; do sleep 1; done" >/dev/null 2>&1 & echo $! $$ >'DIARY.pids'; `
	for name, script := range map[string]string{
		"it ignores SIGTERM":                   stubborn + "while :; do sleep 1; done",
		"it ends and leaves a child that does": stubborn + "trap - TERM; while :; do sleep 1; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, around("a", Snapshot), Hook{Name: "db", Before: sh(script), After: write("-db", 0), Around: "snapshot", Timeout: time.Second})
			err := r.Before(t.Context(), Snapshot)
			if err == nil || !strings.Contains(err.Error(), "hook db before the snapshot: it did not end within 1s") || hint.Of(err) == "" {
				t.Errorf("error: %v", err)
			}
			ended(t, r.diary()+".pids")
			r.want("+a", "-db", "-a") // it may have had an effect
		})
	}
}

func TestAHookThatIsEndedMayTidyUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, Hook{Before: sh("trap \"echo tidied >>'DIARY'; exit\" TERM; while :; do sleep 0.1; done"), Timeout: time.Second})
	if err := r.Before(t.Context(), Run); err == nil {
		t.Error("it was not ended")
	}
	r.want("tidied")
}

func TestTheAfterOfAKilledBeforeRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, Hook{Name: "db", Before: sh("echo +db >>'DIARY'; kill -9 $$"), After: write("-db", 0)})
	if err := r.Before(t.Context(), Run); err == nil || err.Error() != "job home: hook db before the run: signal: killed" {
		t.Errorf("error: %v", err)
	}
	r.want("+db", "-db")
}

func TestAHookMayLeaveAProgramRunning(t *testing.T) {
	t.Parallel()
	for _, output := range []string{">/dev/null 2>&1", ""} {
		r := newRig(t, Hook{Name: "tunnel", Before: sh("sleep 1000 " + output + " & echo $! >'DIARY'"), After: sh("kill $(cat 'DIARY')")})
		check(t, r.Before(t.Context(), Run))
		check(t, r.After(t.Context(), Run, "", nil))
		ended(t, r.diary())
	}
}

func TestAftersRunWhenTheRunIsEnded(t *testing.T) {
	t.Parallel()
	cause := errors.New("ended by a signal")
	t.Run("between", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, around("a", Snapshot))
		ctx, cancel := context.WithCancelCause(t.Context())
		check(t, r.Before(ctx, Snapshot))
		cancel(cause)
		check(t, r.After(ctx, Snapshot, "", cause))
		r.want("+a", "-a")
		if err := r.Before(ctx, Snapshot); !errors.Is(err, cause) {
			t.Errorf("a before began after the end: %v", err)
		}
		r.want("+a", "-a")
	})
	t.Run("during a before", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, around("a", Snapshot), Hook{Name: "b", Before: sh("echo +b >>'DIARY'; echo >'DIARY.fifo'; exec sleep 1000"),
			After: write("-b", 0), Around: "snapshot"}, around("c", Snapshot))
		check(t, unix.Mkfifo(r.diary()+".fifo", 0o600))
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		go func() {
			_, _ = os.ReadFile(r.diary() + ".fifo") // returns when the before has begun
			cancel(cause)
		}()
		if err := r.Before(ctx, Snapshot); !errors.Is(err, cause) {
			t.Errorf("error: %v", err)
		}
		r.want("+a", "+b", "-b", "-a")
	})
	t.Run("during an optional before", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, around("a", Snapshot), Hook{Before: sh("echo >'DIARY.fifo'; exec sleep 1000"), Around: "snapshot", Optional: true})
		check(t, unix.Mkfifo(r.diary()+".fifo", 0o600))
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		go func() {
			_, _ = os.ReadFile(r.diary() + ".fifo") // returns when the before has begun
			cancel(cause)
		}()
		if err := r.Before(ctx, Snapshot); !errors.Is(err, cause) {
			t.Errorf("error: %v", err)
		}
		r.want("+a", "-a")
	})
}

func TestAHookRunsAsItsUser(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	want, err := exec.Command("id", "-G", "nobody").Output()
	check(t, err)
	show := `echo "$(id -un) $(id -G) $HOME $USER $LOGNAME ${SECRET-unset} ${BTRFS_BACKUP_JOB} ${PATH:+path}"`
	r := newRig(t, Hook{Name: "db", User: "nobody", Before: sh(show), After: sh(show + "; exit 1")})
	check(t, r.Before(t.Context(), Run))
	line := fmt.Sprintf("hook db: nobody %s /nonexistent nobody nobody unset home path", strings.TrimSpace(string(want)))
	if !r.logged(slog.LevelInfo, line) {
		t.Errorf("not logged: %s in %q", line, r.log)
	}
	if err := r.After(t.Context(), Run, "", nil); err == nil {
		t.Error("the after did not run as it should")
	}
}

func TestAHookHasTheGroupsOfItsUser(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	r := newRig(t, Hook{User: "nobody", Before: sh(`test "$(id -G)" = "$(id -g) 4711"`), Around: "snapshot"})
	groups := filepath.Join(r.dir, "group")
	content, err := os.ReadFile("/etc/group")
	check(t, err)
	check(t, os.WriteFile(groups, append(content, "extra:x:4711:nobody\n"...), 0o644))
	run := r.child("unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/group && exec "$@"`, groups)
	if said, err := run.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func TestAHookRunsAlsoWhereItsAfterCannotBeNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t, around("a", Snapshot))
	check(t, os.WriteFile(filepath.Join(r.dir, "file"), nil, 0o600))
	r.Dir = filepath.Join(r.dir, "file", "run")
	check(t, r.Before(t.Context(), Snapshot))
	check(t, r.After(t.Context(), Snapshot, "", nil))
	r.want("+a", "-a")
	if !r.logged(slog.LevelWarn, "hook a: its after will not run if this program is killed") || r.logged(slog.LevelWarn, "once more") {
		t.Errorf("what was told: %q", r.log)
	}
}
