package receive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"

	"golang.org/x/sys/unix"
)

var check, open = btrfstest.Check, btrfstest.Open

// rig has a source, of which snapshots are taken and sent, and a place for backups on another filesystem.
type rig struct {
	source, backups *btrfstest.FS
}

func newRig(t testing.TB, options ...string) *rig {
	const size = 512 << 20
	r := &rig{btrfstest.New(t, size, options...), btrfstest.New(t, size)}
	t.Cleanup(func() {
		btrfstest.Run(t, "umount", r.backups.Dir)
		btrfstest.Run(t, "btrfs", "check", "--readonly", r.backups.Image)
	})
	check(t, btrfs.Create(open(t, r.source.Dir), "data"))
	return r
}

func (r *rig) data() string { return filepath.Join(r.source.Dir, "data") }

// snapshot takes a snapshot and gives its path.
func (r *rig) snapshot(t testing.TB, name string) string {
	t.Helper()
	check(t, btrfs.Snapshot(open(t, r.data()), open(t, r.source.Dir), name))
	btrfstest.Run(t, "sync", "-f", r.source.Dir)
	return filepath.Join(r.source.Dir, name)
}

// send gives the stream of a snapshot.
func send(t testing.TB, arguments ...string) io.Reader {
	t.Helper()
	sender := exec.Command("btrfs", append([]string{"send", "-q"}, arguments...)...)
	sender.Stderr = os.Stderr
	out, err := sender.StdoutPipe()
	check(t, err)
	check(t, sender.Start())
	t.Cleanup(func() { out.Close(); sender.Wait() }) // what is refused is not read to its end
	return out
}

// receive makes a backup.
func (r *rig) receive(t testing.TB, stream io.Reader, o receive.Options) receive.Result {
	t.Helper()
	return r.in(t, r.backups.Dir, stream, o)
}

func (r *rig) in(t testing.TB, dir string, stream io.Reader, o receive.Options) receive.Result {
	t.Helper()
	result, err := receive.Stream(context.Background(), open(t, dir), stream, o)
	check(t, err)
	return result
}

func TestIncrementsAreFaithful(t *testing.T) {
	for _, way := range []struct {
		name      string
		arguments []string
		local     bool
	}{
		{"protocol 1", nil, false},
		{"protocol 2", []string{"--proto", "2"}, false},
		{"compressed", []string{"--proto", "2", "--compressed-data"}, false},
		{"without data", []string{"--no-data"}, true},
		{"without data, protocol 2", []string{"--proto", "2", "--no-data"}, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			btrfstest.RequireRoot(t)
			r := newRig(t, "compress=zstd")
			btrfstest.Populate(t, r.data(), 1)
			parent := ""
			for i := range 4 {
				if i > 0 {
					btrfstest.Change(t, r.data(), int64(i))
				}
				name := fmt.Sprint("s", i)
				snapshot := r.snapshot(t, name)
				var o receive.Options
				arguments := way.arguments
				if way.local {
					o.Source = &receive.Source{Snapshot: open(t, snapshot)}
				}
				if parent != "" {
					arguments = append([]string{"-p", parent}, arguments...)
					if way.local {
						o.Source.Parent = open(t, parent)
					}
				}
				got := r.receive(t, send(t, append(arguments, snapshot)...), o)
				sent, err := btrfs.Info(open(t, snapshot))
				check(t, err)
				if s := got.Subvolume; s.ReceivedUUID != sent.UUID || s.SentIn != sent.ChangedIn || !s.ReadOnly || s.Name != name {
					t.Errorf("received %+v of %+v", s, sent)
				}
				btrfstest.Equal(t, snapshot, filepath.Join(r.backups.Dir, name))
				parent = snapshot
			}
		})
	}
}

func TestDataIsOfTheSubvolumeThatWasSentOnly(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	r := newRig(t)
	btrfstest.Populate(t, r.data(), 1)
	stream, other := send(t, "--no-data", r.snapshot(t, "sent")), r.snapshot(t, "other")
	_, err := receive.Stream(context.Background(), open(t, r.backups.Dir), stream, receive.Options{Source: &receive.Source{Snapshot: open(t, other)}})
	if err == nil || !strings.Contains(err.Error(), "its data is to be taken from "+other) {
		t.Errorf("the data of another subvolume: %v", err)
	}
}

// In the block of an inline extent, a file may be longer than that. The kernel names all as one extent then.
func TestFilesEndWhereTheyEndedWhateverTheirLastExtentIs(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	r := newRig(t)
	files := map[string]func(f *os.File) error{
		"inline": func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 100, 2205) },
		"hole":   func(f *os.File) error { return f.Truncate(8<<20 + 5) },
		"unwritten": func(f *os.File) error {
			return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 9<<20+5), unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 16<<20))
		},
	}
	parent := ""
	for _, prefix := range []string{"1", "2", "3"} { // what is of 2 changes in 3
		for name, change := range files {
			f, err := os.Create(filepath.Join(r.data(), prefix+name))
			check(t, err)
			_, err = f.WriteString(strings.Repeat("x", 78))
			check(t, errors.Join(err, f.Sync()))
			if prefix != "2" {
				check(t, change(f))
			}
			check(t, f.Close())
			if prefix == "3" {
				f, err := os.OpenFile(filepath.Join(r.data(), "2"+name), os.O_RDWR, 0)
				check(t, err)
				check(t, errors.Join(change(f), f.Close()))
			}
		}
		snapshot := r.snapshot(t, "s"+prefix)
		arguments, o := []string{"--no-data", snapshot}, receive.Options{Source: &receive.Source{Snapshot: open(t, snapshot)}}
		if parent != "" {
			arguments, o.Source.Parent = append(arguments, "-p", parent), open(t, parent)
		}
		r.receive(t, send(t, arguments...), o)
		btrfstest.Equal(t, snapshot, filepath.Join(r.backups.Dir, "s"+prefix))
		parent = snapshot
	}
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(r.backups.Dir, "s3/2hole"), &st))
	if st.Blocks > 8 {
		t.Errorf("a hole takes %d sectors", st.Blocks)
	}
}
