package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// A fullRig has a snapshot that takes about 12 MiB of data and 5 MiB of metadata, and its streams.
type fullRig struct {
	source  *Dir
	streams map[string][]byte
}

// attribute is so large, in bytes, that it takes a block of the metadata.
const attribute = 15_000

func newFullRig(t *testing.T) *fullRig {
	top := btrfstest.New(t, size, "compress=zstd").Dir
	home := newSubvolume(t, top, "home")
	random := rand.NewChaCha8([32]byte{})
	for i := range 40 {
		content, err := io.ReadAll(io.LimitReader(random, 300<<10))
		btrfstest.Check(t, err)
		btrfstest.Check(t, os.WriteFile(fmt.Sprint(home, "/large", i), content, 0o644))
		btrfstest.Check(t, os.WriteFile(fmt.Sprint(home, "/packed", i), bytes.Repeat([]byte("all work and no play "), 10_000), 0o644))
	}
	makeSmall(t, home, 300)
	r := &fullRig{open(t, newHost(), top, "source"), make(map[string][]byte)}
	_, err := r.source.Take(t.Context(), home, info(t, home).UUID, "new")
	btrfstest.Check(t, err)
	for name, format := range map[string]sendstream.Format{
		"plain": {}, "compressed": {Protocol: 2, Compressed: true}, "without data": {Protocol: 2, NoData: true},
	} {
		var stream bytes.Buffer
		_, err = r.source.Send(t.Context(), host.SendOrder{Snapshot: "new", Format: format}, &stream)
		btrfstest.Check(t, err)
		r.streams[name] = stream.Bytes()
	}
	return r
}

// makeSmall makes files in a directory, of which each takes a block of metadata, until there is no space, and gives how many.
func makeSmall(t *testing.T, dir string, most int) (n int) {
	t.Helper()
	value := make([]byte, attribute)
	for ; n < most; n++ {
		path := fmt.Sprint(dir, "/small", n)
		err := os.WriteFile(path, nil, 0o600)
		if err == nil {
			err = unix.Setxattr(path, "user.large", value, 0)
		}
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		btrfstest.Check(t, err)
	}
	return n
}

// fill leaves so many MiB of data free, or of metadata and then half of the data.
func fill(t *testing.T, top, kind string, left int) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		var err error
		files[i], err = os.Create(fmt.Sprint(top, "/fill", i))
		btrfstest.Check(t, err)
		defer files[i].Close()
	}
	var written int64
	var err error
	for chunk := make([]byte, 64<<10); err == nil; written += int64(len(chunk)) { // by turns, so that no part of the disk is free again as a whole
		_, err = files[written/int64(len(chunk))%2].Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	btrfstest.Run(t, "sync", "-f", top)
	if kind == "data" {
		btrfstest.Check(t, files[0].Truncate(written/2-int64(left)<<20))
	} else {
		btrfstest.Check(t, files[0].Truncate(0))
		dir := top + "/small"
		btrfstest.Check(t, os.Mkdir(dir, 0o700))
		made := makeSmall(t, dir, 1<<20)
		btrfstest.Run(t, "sync", "-f", top)
		for i := range min(made, left<<20/attribute) {
			btrfstest.Check(t, os.Remove(fmt.Sprint(dir, "/small", i)))
		}
	}
	btrfstest.Run(t, "sync", "-f", top)
}

func TestAFullDiskLeavesNothing(t *testing.T) { newFullRig(t).receiveWithLeft(t, 0, 6) }

func TestADiskThatIsFullAtAnyStepLeavesNothing(t *testing.T) {
	btrfstest.OnlyInAll(t)
	var steps []int
	for left := range 17 {
		steps = append(steps, left)
	}
	newFullRig(t).receiveWithLeft(t, steps...)
}

func (r *fullRig) receiveWithLeft(t *testing.T, steps ...int) {
	for stream := range r.streams {
		for _, kind := range []string{"data", "metadata"} {
			for _, left := range steps {
				t.Run(fmt.Sprintf("%s, %s, %d MiB", stream, kind, left), func(t *testing.T) { r.receiveInto(t, stream, kind, left) })
			}
		}
	}
}

// receiveInto receives into a filesystem that has so little left.
func (r *fullRig) receiveInto(t *testing.T, stream, kind string, left int) {
	top := btrfstest.New(t, 160<<20).Dir
	d := open(t, newHost(), top, "folder")
	fill(t, top, kind, left)
	order := host.ReceiveOrder{Name: "new"}
	if stream == "without data" {
		order.From = &host.DataSource{Dir: r.source, Snapshot: "new"}
	}
	receiver, err := d.Receive(t.Context(), order)
	btrfstest.Check(t, err)
	_, _ = receiver.Write(r.streams[stream]) // the reason is told when it is closed
	_, err = receiver.Close(t.Context())
	if err == nil {
		err = receiver.Commit(t.Context(), host.Origin{})
	} else if !strings.Contains(err.Error(), "the "+kind+" space of "+d.status.Path+" is full") {
		t.Errorf("it does not tell what is full: %v", err)
	}
	t.Logf("error: %v", err)
	if err != nil && !errors.Is(err, unix.ENOSPC) || err == nil && left == 0 {
		t.Errorf("error: %v", err)
	}
	if err != nil {
		btrfstest.Check(t, receiver.Abort(t.Context()))
	}
	entries, err2 := os.ReadDir(d.status.Path)
	btrfstest.Check(t, err2)
	for _, e := range entries {
		switch {
		case e.Name() == "new":
			btrfstest.Equal(t, filepath.Join(r.source.status.Path, "new"), filepath.Join(d.status.Path, "new"))
		case err != nil && e.Name() != tree.StateDir:
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestAFullQuotaIsTold(t *testing.T) {
	r := newFullRig(t)
	top := btrfstest.New(t, size).Dir
	btrfstest.Run(t, "btrfs", "quota", "enable", top)
	d := open(t, newHost(), top, "folder")
	receiver, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "new"})
	btrfstest.Check(t, err)
	stream := r.streams["plain"]
	_, err = receiver.Write(stream[:1000])
	btrfstest.Check(t, err)
	btrfstest.Run(t, "btrfs", "qgroup", "limit", "4M", filepath.Join(d.status.Path, btrfs.Incoming("new")))
	_, _ = receiver.Write(stream[1000:])
	_, err = receiver.Close(t.Context())
	if !errors.Is(err, unix.EDQUOT) || !strings.Contains(err.Error(), "quota group") {
		t.Errorf("error: %v", err)
	}
	btrfstest.Check(t, receiver.Abort(t.Context()))
	wantNames(t, d.status.Path)
}
