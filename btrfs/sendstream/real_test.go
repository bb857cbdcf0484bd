package sendstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// sends are the ways to call btrfs send that the tests below go through.
func sends(older, newer string) map[string][]string {
	return map[string][]string{
		"protocol 1 full":        {"--proto", "1", newer},
		"protocol 2 full":        {"--proto", "2", newer},
		"protocol 1 incremental": {"--proto", "1", "-p", older, newer},
		"protocol 2 incremental": {"--proto", "2", "-p", older, newer},
	}
}

func send(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("btrfs", append([]string{"send", "-q"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("btrfs send: %v: %s", err, stderr.Bytes())
	}
	return out
}

// snapshots makes two snapshots of a tree that changed between them.
func snapshots(t *testing.T) (fs *btrfstest.FS, older, newer string) {
	t.Helper()
	fs = btrfstest.New(t, 2<<30)
	dir := filepath.Join(fs.Dir, "live")
	older, newer = filepath.Join(fs.Dir, "older"), filepath.Join(fs.Dir, "newer")

	btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", dir)
	btrfstest.Populate(t, dir, 1)
	populateExtents(t, dir)
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "snapshot", "-r", dir, older)

	btrfstest.Change(t, dir, 1)
	changeExtents(t, dir)
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "snapshot", "-r", dir, newer)
	return fs, older, newer
}

// sizes lie around the limits of inline extents, blocks and write commands.
var sizes = []int{
	0, 1, 2047, 2048, 2049, 4095, 4096, 4097,
	48<<10 - 1, 48 << 10, 48<<10 + 1, 128<<10 - 1, 128 << 10, 128<<10 + 1, 5<<20 + 3,
}

// populateExtents makes the files of which Measure has to know the size.
func populateExtents(t *testing.T, dir string) {
	t.Helper()
	for _, size := range sizes {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("size-%d", size)), 0, size)
	}
	for _, name := range []string{"punched", "shortened", "grown", "preallocated", "zeroed", "sparse"} {
		writeFile(t, filepath.Join(dir, name), 0, 1<<20+100)
	}
	writeFile(t, filepath.Join(dir, "sparse"), 300<<20+17, 200_001)
	allocate(t, filepath.Join(dir, "preallocated"), 0, 2<<20, 3<<20)
	allocate(t, filepath.Join(dir, "beyond-end"), unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20)
}

func changeExtents(t *testing.T, dir string) {
	t.Helper()
	for _, size := range sizes {
		name := fmt.Sprintf("size-%d", size)
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "moved-"+name)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "moved-"+name), size/2, 10)
	}
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	allocate(t, filepath.Join(dir, "punched"), punch, 4096, 300<<10)
	allocate(t, filepath.Join(dir, "punched"), punch, 500_001, 100_000)
	allocate(t, filepath.Join(dir, "zeroed"), unix.FALLOC_FL_ZERO_RANGE, 8192, 400<<10)
	allocate(t, filepath.Join(dir, "grown"), 0, 1<<20, 4<<20)
	writeFile(t, filepath.Join(dir, "preallocated"), 3<<20, 70_000)
	truncate(t, filepath.Join(dir, "shortened"), 123_457)
	truncate(t, filepath.Join(dir, "sparse"), 310<<20)
}

func writeFile(t *testing.T, name string, offset, size int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>8 ^ i*7 + len(name) + offset)
	}
	_, err = f.WriteAt(data, int64(offset))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func allocate(t *testing.T, name string, mode uint32, offset, size int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Fallocate(int(f.Fd()), mode, offset, size)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

func TestCopyForwardsRealStreams(t *testing.T) {
	_, older, newer := snapshots(t)
	for name, args := range sends(older, newer) {
		t.Run(name, func(t *testing.T) {
			s := send(t, args...)
			sum := wantCopied(t, s, s)
			if sum.Name != "newer" || sum.UUID == [16]byte{} || sum.TransID == 0 {
				t.Fatalf("identity: %+v", sum)
			}
			if incremental := len(args) > 3; incremental != (sum.ParentUUID != [16]byte{}) {
				t.Fatalf("parent %x", sum.ParentUUID)
			}
		})
	}
}

func TestMeasurePredictsRealStreams(t *testing.T) {
	_, older, newer := snapshots(t)
	for name, args := range sends(older, newer) {
		t.Run(name, func(t *testing.T) {
			want := len(send(t, args...))
			s := send(t, append([]string{"--no-data"}, args...)...)
			got, err := sendstream.Measure(bytes.NewReader(s))
			if err != nil || got != int64(want) {
				t.Fatalf("got %d, want %d, error %v", got, want, err)
			}
			t.Logf("%d bytes, measured with %d", want, len(s))
		})
	}
}

func TestReaderUnderstandsRealStreams(t *testing.T) {
	_, older, newer := snapshots(t)
	for name, args := range sends(older, newer) {
		t.Run(name, func(t *testing.T) {
			r := sendstream.NewReader(bytes.NewReader(send(t, args...)))
			for {
				_, err := r.Next()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestReceiveAcceptsRenamedStreams(t *testing.T) {
	fs, older, newer := snapshots(t)
	const hiddenOlder, hiddenNewer = ".older.incoming", ".a-longer-name.incoming"
	backup := filepath.Join(fs.Dir, "backup")
	if err := os.Mkdir(backup, 0o755); err != nil {
		t.Fatal(err)
	}
	receive(t, backup, send(t, "--proto", "1", older), hiddenOlder)
	receive(t, backup, send(t, "--proto", "2", "-p", older, newer), hiddenNewer)
	btrfstest.Equal(t, older, filepath.Join(backup, hiddenOlder))
	btrfstest.Equal(t, newer, filepath.Join(backup, hiddenNewer))
}

// receive runs btrfs receive over a stream that is renamed on the way.
func receive(t *testing.T, dir string, s []byte, name string) {
	t.Helper()
	var out bytes.Buffer
	if err := writeIn(sendstream.NewRenamer(&out, name), s, 65536); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("btrfs", "receive", "-q", dir)
	cmd.Stdin = &out
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("btrfs receive: %v: %s", err, msg)
	}
}

func TestCopyRepairsStreamOfStoppedSender(t *testing.T) {
	_, _, newer := snapshots(t)
	want := send(t, "--proto", "2", newer)

	// A stop restarts the stream only if it hits the sender in the middle of
	// a write, so it is tried until that happened often enough.
	restarts := 0
	for attempt := 0; restarts < 3; attempt++ {
		if attempt == 20 {
			t.Fatalf("%d attempts made %d restarts", attempt, restarts)
		}
		var out bytes.Buffer
		sum, err := copyFromStoppedSender(t, &out, newer)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("%d restarts: forwarded %d bytes that differ from the %d wanted", sum.Restarts, out.Len(), len(want))
		}
		restarts += sum.Restarts
	}
	t.Logf("%d restarts", restarts)
}

// copyFromStoppedSender stops a btrfs send several times while it waits for
// its pipe to be read.
func copyFromStoppedSender(t *testing.T, dst io.Writer, snapshot string) (sendstream.Summary, error) {
	t.Helper()
	cmd := exec.Command("btrfs", "send", "-q", "--proto", "2", snapshot)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	src := &disturbingReader{r: stdout, every: 1 << 20, disturbances: 3, disturb: func() { stopAndContinue(t, cmd.Process) }}
	sum, err := sendstream.Copy(dst, src)
	if waitErr := cmd.Wait(); waitErr != nil && err == nil {
		t.Fatalf("btrfs send: %v", waitErr)
	}
	return sum, err
}

func stopAndContinue(t *testing.T, p *os.Process) {
	t.Helper()
	// Long enough for the sender to fill the pipe and block.
	const patience = 20 * time.Millisecond
	time.Sleep(patience)
	for _, sig := range []os.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		time.Sleep(patience)
	}
}

// disturbingReader calls disturb every so many bytes.
type disturbingReader struct {
	r            io.Reader
	every        int
	disturbances int
	disturb      func()
	read         int
}

func (d *disturbingReader) Read(p []byte) (int, error) {
	if d.disturbances > 0 && d.read >= d.every {
		d.disturb()
		d.disturbances--
		d.read = 0
	}
	n, err := d.r.Read(p)
	d.read += n
	return n, err
}
