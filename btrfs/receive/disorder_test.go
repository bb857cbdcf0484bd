package receive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"golang.org/x/sys/unix"
)

// disorder makes commands that no sender writes: they concern the same few names all the time, and many of them fail.
type disorder struct {
	*rand.Rand
	all   [][]byte
	made  int
	last  string // that had data
	moved bool   // names have changed since
}

func (d *disorder) path() string {
	if d.made > 0 && d.IntN(6) == 0 {
		return fmt.Sprint(1 + d.IntN(d.made))
	}
	return strings.Split("a b c d a/a a/b a/c b/a b/b c/a/a c/a d/a/b d/a", " ")[d.IntN(13)]
}

func (d *disorder) blocks(most int) uint64 { return uint64(d.IntN(most)) * block }

// create makes something, under a temporary name at first.
func (d *disorder) create() {
	d.made++
	d.moved = true
	name := fmt.Sprint(d.made)
	make := []func(string) []byte{mkfile, mkfile, mkdir}[d.IntN(3)]
	if d.all = append(d.all, make(name)); d.IntN(8) > 0 {
		d.all = append(d.all, move(name, d.path()))
	}
}

// data gives one for the data of a file, or none if btrfs receive may have that open still, by a path that is another's now.
func (d *disorder) data() []byte {
	path := d.path()
	if path == d.last && d.moved {
		return nil
	}
	d.last, d.moved = path, false
	if d.IntN(3) == 0 {
		return clone(d.path(), d.blocks(4), d.blocks(3)+block, path, d.blocks(8))
	}
	return write(path, strings.Repeat(string(rune('a'+d.IntN(26))), block*(1+d.IntN(4))), d.blocks(8))
}

func (d *disorder) attribute() []byte {
	path := d.path()
	switch d.IntN(5) {
	case 0:
		return setXattr(path, "user.x", fmt.Sprint(d.IntN(99)))
	case 1:
		return setXattr(path, "security.capability", "\x01\x00\x00\x02\x00\x20"+strings.Repeat("\x00", 14))
	case 2:
		return chmod(path, []uint64{0o600, 0o711, 0o755}[d.IntN(3)])
	case 3:
		return chown(path, uint64(d.IntN(9)), uint64(d.IntN(9)))
	}
	return truncate(path, d.blocks(9))
}

func (d *disorder) name() []byte {
	d.moved = true
	switch d.IntN(5) {
	case 0:
		return link(d.path(), d.path())
	case 1:
		return unlink(d.path())
	case 2:
		return do(sendstream.CmdRmdir, d.path())
	}
	return move(d.path(), d.path())
}

func (d *disorder) more() {
	switch n := d.IntN(12); {
	case n < 3:
		d.create()
	case n < 7:
		if c := d.data(); c != nil {
			d.all = append(d.all, c)
		}
	case n < 9:
		d.all = append(d.all, d.attribute())
	default:
		d.all = append(d.all, d.name())
	}
}

// Whatever comes, and whichever of it fails: it is as if each command were done before the next. btrfs receive does it so.
func TestCommandsAreAppliedInOrder(t *testing.T) {
	t.Parallel()
	ours, theirs := btrfstest.New(t, 256<<20).Dir, btrfstest.New(t, 256<<20).Dir
	for seed := range uint64(40) {
		d := disorder{Rand: rand.New(rand.NewPCG(seed, 0))}
		for range 150 {
			d.more()
		}
		stream := streamtest.Stream(2, append([][]byte{streamtest.Subvol()}, d.all...)...)
		_, err := receive.Stream(context.Background(), open(t, ours), bytes.NewReader(stream), receive.Options{Tolerate: func(error) bool { return true }})
		check(t, err)
		stock := exec.Command("btrfs", "receive", "-q", "-E", "0", theirs)
		stock.Stdin = bytes.NewReader(stream)
		_ = stock.Run() // it tells that commands failed
		for _, dir := range []string{ours, theirs} {
			forgetTimes(t, dir)
		}
		if btrfstest.Equal(t, filepath.Join(theirs, "x"), filepath.Join(ours, "x")); t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
		for _, dir := range []string{ours, theirs} {
			check(t, btrfs.Delete(open(t, dir), "x"))
		}
	}
}

// forgetTimes sets all times of what was received, which differ.
func forgetTimes(t *testing.T, dir string) {
	t.Helper()
	check(t, btrfs.SetReadOnly(open(t, dir), "x", false))
	check(t, filepath.WalkDir(filepath.Join(dir, "x"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW))
	}))
}
