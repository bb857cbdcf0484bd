package mirror

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestAnRsyncThatDoesNothingIsEnded(t *testing.T) {
	s := sourceOf(t, SourceOptions{}, "file")
	rsyncIs(t, "sleep 100000")
	_, err := backUp(t.Context(), folderFor(t, s, Options{StallTimeout: time.Second}), "a")
	if hint := mustRefuse(t, err, "it made no progress for 1s"); !strings.Contains(hint, "--stall-timeout 0") || !strings.Contains(hint, "resumes it") {
		t.Errorf("the hint is %q", hint)
	}
}

func TestWhateverRsyncDoesIsProgress(t *testing.T) {
	const limit = 15 * time.Minute
	before := pulse{bytes: 1000, busy: time.Second}
	for name, test := range map[string]struct {
		now   pulse
		moved bool
	}{
		"nothing":                  {before, false},
		"it woke up to no purpose": {pulse{1000, time.Second + 50*time.Millisecond}, false},
		"it looked at files":       {pulse{1000, time.Second + 200*time.Millisecond}, true},
		"a process ended":          {pulse{600, time.Second / 2}, true},
		"it moved a byte":          {pulse{1001, time.Second}, true},
		"it cannot be looked at":   {pulse{}, true},
	} {
		if got := test.now.moved(before, limit); got != test.moved {
			t.Errorf("%s: %t", name, got)
		}
	}
	if unseen := (pulse{}); !unseen.moved(unseen, limit) {
		t.Error("what could never be looked at did nothing")
	}
}

func TestThePulseIsThatOfAllProcessesOfAGroup(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	group := exec.Command("sh", "-c", `(head -c 1000000 /dev/zero >/dev/null; : >"$1"; exec sleep 100000) & wait`, "sh", ready)
	group.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(t, group.Start())
	t.Cleanup(func() { _, _ = syscall.Kill(-group.Process.Pid, syscall.SIGKILL), group.Wait() })
	for _, err := os.Stat(ready); errors.Is(err, os.ErrNotExist); _, err = os.Stat(ready) {
		time.Sleep(time.Millisecond)
	}
	if p := pulseOf(group.Process.Pid); p.bytes < 2_000_000 {
		t.Errorf("a process of the group read and wrote a million bytes, but the pulse is %+v", p)
	}
	ctx, end := context.WithCancelCause(t.Context())
	watch(ctx, func() pulse { return pulseOf(group.Process.Pid) }, time.Millisecond, end) // or the test would not end
	if err := context.Cause(ctx); err == nil || !strings.Contains(err.Error(), "no progress") {
		t.Error(err)
	}
}

func TestOnlyATimeWithoutAnyProgressEndsWhatIsWatched(t *testing.T) {
	const limit = 15 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancelCause(t.Context())
		started := time.Now()
		watch(ctx, func() pulse { // which moves every ten minutes, for an hour
			return pulse{bytes: 1 + uint64(min(time.Since(started), time.Hour)/(10*time.Minute))}
		}, limit, end)
		if took := time.Since(started); context.Cause(ctx) == nil || took < time.Hour+limit || took > time.Hour+limit+limit/5 {
			t.Errorf("it was ended after %s: %v", took, context.Cause(ctx))
		}
	})
}

// rsync 3.2 to 3.5 go on with thousands of complaints, and 3.2.7 then hung at times.
func TestAFullDiskEndsRsyncAtItsFirstComplaint(t *testing.T) {
	s := sourceOf(t, SourceOptions{}, "file")
	const complaint = `rsync: [receiver] mkstemp "/b/.file.x" failed: No space left on device (28)`
	rsyncIs(t, `case "$*" in *--list-only*) exec "$real" "$@";; esac; echo '`+complaint+`' >&2; sleep 100000`)
	f := folderFor(t, s, Options{})
	_, err := backUp(t.Context(), f, "a")
	if hint := mustRefuse(t, err, complaint); !strings.Contains(hint, "make room") || !strings.Contains(hint, "delete the partial copy "+f.path+"/.a.incoming") {
		t.Errorf("the hint is %q", hint)
	}
}

func TestARunToAFullDiskFailsAndGoesOnWhenThereIsRoom(t *testing.T) {
	for _, fsType := range []string{"xfs", "ext4"} {
		t.Run(fsType, func(t *testing.T) {
			top := btrfstest.NewOther(t, fsType, 320<<20).Dir
			s := sourceOf(t, SourceOptions{}, "small")
			for _, name := range []string{"a", "b", "c", "d"} {
				check(t, os.WriteFile(filepath.Join(s.path, name), bytes.Repeat([]byte(name), 10<<20), 0o644))
			}
			ballast := filepath.Join(top, "ballast")
			btrfstest.Run(t, "sh", "-c", `fallocate -l $(($(df --output=avail -k "$1" | tail -n 1) - 20000))K "$1/ballast"`, "sh", top)
			f := NewDestination(here(), filepath.Join(top, "backups"), s, Options{Log: quiet(), MaxDelete: 100})
			_, err := backUp(t.Context(), f, "a")
			if hint := mustRefuse(t, err, "No space left on device"); !strings.Contains(hint, f.path+"/.a.incoming") {
				t.Errorf("the hint is %q", hint)
			}
			check(t, os.Remove(ballast))
			mustBackUp(t, f, "b")
		})
	}
}
