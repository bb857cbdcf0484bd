package volume

import (
	"context"
	"io"
	"strings"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/local"
	"btrfs-backup/internal/stream"

	"golang.org/x/sys/unix"
)

// sourceOn opens a source on a machine.
func sourceOn(t testing.TB, h host.Host) *Source {
	t.Helper()
	s := NewSource(h, newSubvolume(t, btrfstest.New(t, testSize).Dir, "home"), "", silent)
	check(t, s.Open(t.Context()))
	check(t, s.create(t.Context(), s.checkFolder))
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func TestAFailedSendComesWithAHint(t *testing.T) {
	btrfstest.RequireRoot(t)
	failing := fakeBtrfs(t, `[ "$1" = send ] || exec echo btrfs-progs v6.2
echo 'send ioctl failed with -1: Operation not permitted' >&2; exit 1`)
	s := sourceOn(t, failing)
	sendErr := s.Send(t.Context(), stream.Transfer{}, sendstream.Prefix{}, io.Discard)
	checkExplained(t, sendErr, sendErr, unix.EPERM, "refuses this to root")
	_, measureErr := s.Measure(t.Context(), stream.Transfer{})
	checkExplained(t, measureErr, measureErr, unix.EPERM, "refuses this to root")
}

func TestAFailedReceiveComesWithAHint(t *testing.T) {
	btrfstest.RequireRoot(t)
	failing := fakeBtrfs(t, `cat >/dev/null; echo 'write to f failed: No space left on device' >&2; exit 1`)
	d := NewDestination(failing, btrfstest.New(t, testSize).Dir, nil, silent)
	check(t, d.Open(t.Context()))
	t.Cleanup(func() { check(t, d.Close()) })
	r, err := d.Receive(t.Context(), transferOf("new"))
	check(t, err)
	_, err = r.Close(t.Context())
	checkExplained(t, err, err, unix.ENOSPC, "make room at "+d.path)
	check(t, r.Abort(t.Context()))
}

func TestAMissingProgramComesWithAHint(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	missing := local.New(silent.Log)
	s, d := sourceOn(t, missing), NewDestination(missing, top, programs{}, silent)
	check(t, d.Open(t.Context()))
	t.Cleanup(func() { check(t, d.Close()) })
	path := t.TempDir()
	accept := func() error { _, err := d.Accepts(t.Context()); return err }
	receive := func() error { _, err := d.Receive(t.Context(), transferOf("new")); return err }
	check, there := func() error { return s.CheckProgram(t.Context()) }, func() error { return d.CheckPrograms(t.Context()) }
	send := func() error { return s.Send(t.Context(), stream.Transfer{}, sendstream.Prefix{}, io.Discard) }
	t.Run("without it", func(t *testing.T) {
		t.Setenv("PATH", path)
		for name, do := range map[string]func() error{"check": check, "check there": there, "accept": accept, "receive": receive, "send": send} {
			if err := do(); !strings.Contains(hint.Of(err), "install btrfs-progs") {
				t.Errorf("%s: error: %v, hint: %q", name, err, hint.Of(err))
			}
		}
	})
}

// programs is a sender that misses none.
type programs struct{ stream.Sender }

func (programs) CheckProgram(context.Context) error { return nil }
