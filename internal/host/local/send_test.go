package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

func TestWhatIsSentIsTheBestThatAllUnderstand(t *testing.T) {
	t.Parallel()
	v1, v2 := sendstream.Format{Protocol: 1}, sendstream.Format{Protocol: 2, Compressed: true}
	for _, test := range []struct {
		name       string
		receiver   sendstream.Format
		kernel     int // its protocol
		noData     bool
		protocol   int
		compressed bool
	}{
		{"complete", v2, 2, false, 2, true},
		{"old receiver", v1, 2, false, 1, false},
		{"old receiver that says it takes compressed data", sendstream.Format{Protocol: 1, Compressed: true}, 2, false, 1, false},
		{"any receiver", sendstream.Format{}, 2, false, 0, false},
		{"receiver that wants data plain", sendstream.Format{Protocol: 2}, 2, false, 2, false},
		{"receiver and kernel of the future", sendstream.Format{Protocol: 9}, 9, false, sendstream.MaxProtocol, false},
		{"old kernel", v2, 1, false, 1, false},
		{"measuring", v2, 2, true, 2, false},
	} {
		got := sendOptions(test.receiver, test.kernel, test.noData)
		if want := (btrfs.SendOptions{Protocol: test.protocol, Compressed: test.compressed, NoData: test.noData}); got != want {
			t.Errorf("%s: %+v, want %+v", test.name, got, want)
		}
	}
}

// begins is how a stream begins that comes to nothing.
const begins = "btrfs-stream\x00\x01\x00\x00\x00"

func TestAFailedSendIsBlamedOnTheKernelThatKnowsWhy(t *testing.T) {
	t.Parallel()
	refused := &btrfs.SendError{Errno: unix.EIO}
	for _, test := range []struct {
		name, writes string
		fails, want  error
	}{
		{"it fails at once", "", refused, refused},
		{"it fails in between", begins, refused, refused},
		{"it writes nothing", "", nil, sendstream.ErrEmpty},
		{"it ends early", begins, nil, sendstream.ErrTruncated},
		{"it writes something else", string(make([]byte, 10_000)), nil, sendstream.ErrCorrupt},
		{"it writes something else, and fails", string(make([]byte, 10_000)), refused, sendstream.ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := fromKernel(t.Context(), copyTo(&out), func(w *os.File) error {
				_, _ = w.WriteString(test.writes)
				return test.fails
			}, time.Hour, nil)
			if !errors.Is(err, test.want) || out.Len() > 0 {
				t.Errorf("error: %v, %q came through", err, out.String())
			}
		})
	}
}

func copyTo(w io.Writer) func(io.Reader) error {
	return func(r io.Reader) error { _, err := sendstream.Copy(w, r); return err }
}

// A kernel that reads for long before it writes notices nothing.
func TestAKernelThatDoesNotEndIsLeftToItself(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	for _, test := range []struct {
		name, writes string
		want         error
	}{
		{"cancelled before the first byte", "", cause},
		{"cancelled in between", begins, cause},
		{"what it wrote is wrong", string(make([]byte, 10_000)), sendstream.ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			goOn, ended := make(chan struct{}), make(chan error, 1)
			unfinished := false
			err := fromKernel(ctx, copyTo(io.Discard), func(w *os.File) error {
				_, _ = w.WriteString(test.writes)
				if test.want == cause {
					cancel(cause)
				}
				<-goOn
				_, err := w.WriteString(begins)
				ended <- err
				return err
			}, 0, func() { unfinished = true })
			if !errors.Is(err, test.want) || !unfinished {
				t.Errorf("error: %v, unfinished: %t", err, unfinished)
			}
			close(goOn)
			if err := <-ended; !errors.Is(err, unix.EPIPE) {
				t.Errorf("when nobody reads, writing gives %v", err)
			}
		})
	}
}

// The kernel makes stream after stream, so what is given to each must be given back.
func TestSendingLeavesNoDescriptorOpen(t *testing.T) {
	d := newSentFolder(t)
	count := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		btrfstest.Check(t, err)
		open := 0
		for _, f := range files {
			target, _ := os.Readlink(filepath.Join("/proc/self/fd", f.Name()))
			if strings.HasPrefix(target, "pipe:") || filepath.Dir(target) == d.status.Path {
				open++
			}
		}
		return open
	}
	before := count()
	for i := range 20 {
		_, err := d.Send(t.Context(), host.SendOrder{Snapshot: "second", Parent: "first"}, io.Discard)
		btrfstest.Check(t, err)
		_, err = d.Send(t.Context(), host.SendOrder{Snapshot: "second"}, failingWriter{errors.New(strconv.Itoa(i))})
		if err == nil {
			t.Fatal("no error")
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors more are open", after-before)
	}
}

func TestAParentThatIsGoneOrAlteredIsToldAsSuch(t *testing.T) {
	d := newSentFolder(t)
	btrfstest.Check(t, btrfs.SetReadOnly(d.dir, "first", false))
	for parent, errno := range map[string]unix.Errno{"none": unix.ENOENT, "first": 0} {
		_, err := d.Send(t.Context(), host.SendOrder{Snapshot: "second", Parent: parent}, io.Discard)
		checkRefused(t, err, errno)
	}
	if _, err := d.Measure(t.Context(), host.SendOrder{Snapshot: "first"}); err == nil {
		t.Error("a writable subvolume is measured")
	}
}

// checkRefused wants the reason why there is no stream, which errors.Is does not find.
func checkRefused(t testing.TB, err error, errno unix.Errno) {
	t.Helper()
	var refused *btrfs.SendError
	if !errors.As(err, &refused) || refused.Errno != errno || errors.Is(err, errno) {
		t.Errorf("error: %v, want one of errno %d", err, errno)
	}
}
