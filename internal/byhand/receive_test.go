package byhand_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/byhand"
)

var check, open = btrfstest.Check, btrfstest.Open

// received is what a program said, and made of.
type received struct{ out, said string }

func stock(t *testing.T, dir string, stream []byte, options ...string) received {
	t.Helper()
	var out, said bytes.Buffer
	c := exec.Command("btrfs", append(append([]string{"receive"}, options...), dir)...)
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(stream), &out, &said
	check(t, c.Run())
	return received{out.String(), said.String()}
}

func native(t *testing.T, o byhand.Order, dir string, stream []byte) received {
	t.Helper()
	var out, said bytes.Buffer
	o.Dir, o.Streams, o.Out, o.Said, o.Most = dir, bytes.NewReader(stream), &out, &said, 1
	check(t, byhand.Receive(context.Background(), o))
	return received{out.String(), said.String()}
}

// What scripts read is the same, and on the same of the two outputs; and so is what is made.
func TestSaysWhatBtrfsReceiveSays(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	source := btrfstest.New(t, 512<<20, "compress=zlib")
	data := filepath.Join(source.Dir, "data")
	check(t, btrfs.Create(open(t, source.Dir), "data"))
	btrfstest.Populate(t, data, 1)
	send := func(arguments ...string) []byte {
		stream, err := exec.Command("btrfs", append([]string{"send", "-q", "--proto", "2", "--compressed-data"}, arguments...)...).Output()
		check(t, err)
		return stream
	}
	snapshot := func(name string) string {
		check(t, btrfs.Snapshot(open(t, data), open(t, source.Dir), name))
		return filepath.Join(source.Dir, name)
	}
	first := snapshot("1")
	btrfstest.Change(t, data, 2)
	second := snapshot("2")
	both := append(send(first), send("-p", first, second)...)
	for _, c := range []struct {
		name    string
		order   byhand.Order
		options []string
	}{
		{"as it is", byhand.Order{}, nil},
		{"quiet", byhand.Order{Quiet: true}, []string{"-q"}},
		{"decompressed", byhand.Order{Inflate: true}, []string{"--force-decompress"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs, ours := btrfstest.New(t, 512<<20), btrfstest.New(t, 512<<20)
			want, got := stock(t, theirs.Dir, both, c.options...), native(t, c.order, ours.Dir, both)
			if got != want {
				t.Errorf("it says %+v, not %+v", got, want)
			}
			for _, sent := range []string{first, second} {
				btrfstest.Equal(t, sent, filepath.Join(ours.Dir, filepath.Base(sent)))
			}
		})
	}
}

// btrfs send -e writes one stream of several subvolumes.
func TestSeveralSubvolumesInOneStream(t *testing.T) {
	t.Parallel()
	fs := btrfstest.New(t, 256<<20)
	dir := open(t, fs.Dir)
	arguments := []string{"send", "-q", "-e"}
	for _, name := range []string{"1", "2", "3"} {
		check(t, btrfs.Create(dir, name))
		check(t, btrfs.SetReadOnly(dir, name, true))
		arguments = append(arguments, filepath.Join(fs.Dir, name))
	}
	stream, err := exec.Command("btrfs", arguments...).Output()
	check(t, err)
	for name, order := range map[string]byhand.Order{"a": {}, "b": {OnlyOne: true}} {
		check(t, os.Mkdir(filepath.Join(fs.Dir, name), 0o700))
		native(t, order, filepath.Join(fs.Dir, name), stream)
		made, err := os.ReadDir(filepath.Join(fs.Dir, name))
		check(t, err)
		if len(made) != 3 {
			t.Errorf("it made %v", made)
		}
	}
}
