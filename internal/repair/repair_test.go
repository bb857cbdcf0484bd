package repair_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/repair"

	"golang.org/x/sys/unix"
)

const testSize = 256 << 20

var check, run = btrfstest.Check, btrfstest.Run

// A bench has a snapshot on one filesystem and its backup on another.
type bench struct {
	t              testing.TB
	source, backup string
	fs             *btrfstest.FS // of the backup
}

const fileSize = 200 << 10

func newBench(t testing.TB, fs *btrfstest.FS, content []byte) bench {
	t.Helper()
	from := btrfstest.New(t, testSize)
	run(t, "btrfs", "subvolume", "create", from.Dir+"/home")
	check(t, os.WriteFile(from.Dir+"/home/file", content, 0o644))
	for i := range 40 { // which lie in the metadata
		check(t, os.WriteFile(fmt.Sprintf("%s/home/small%02d", from.Dir, i), random(1500), 0o644))
	}
	run(t, "btrfs", "subvolume", "snapshot", "-r", from.Dir+"/home", from.Dir+"/20261129-010000")
	check(t, os.Mkdir(fs.Dir+"/home", 0o755))
	run(t, "sh", "-ec", fmt.Sprintf("btrfs send -q %s/20261129-010000 | btrfs receive -q %s/home", from.Dir, fs.Dir))
	run(t, "sync", "-f", fs.Dir)
	folder, err := os.Open(fs.Dir + "/home")
	check(t, err)
	check(t, errors.Join(btrfs.Settle(folder, "20261129-010000"), folder.Close()))
	run(t, "sync", "-f", fs.Dir)
	return bench{t, from.Dir + "/20261129-010000", fs.Dir + "/home/20261129-010000", fs}
}

func (b bench) order(source string) repair.Order {
	b.t.Helper()
	h := local.New(slog.New(slog.DiscardHandler))
	o := repair.Order{Progress: func(int64) {}}
	var err error
	o.Backup, err = inventory.FindVersion(b.t.Context(), h, b.backup, "")
	check(b.t, err)
	o.Source, err = inventory.Find(b.t.Context(), h, source, "")
	check(b.t, err)
	return o
}

// heal heals the backup, and gives the ways, whether they succeeded, and problems.
func (b bench) heal(o repair.Order) string {
	b.t.Helper()
	r, err := repair.Run(b.t.Context(), o)
	check(b.t, err)
	var text []string
	for _, d := range r.Blocks {
		text = append(text, strings.TrimSpace(fmt.Sprint(d.File, " ", d.Offset>>10, "+", d.Length>>10, " ", d.Way, " ", d.Healed, " ", d.Problem)))
	}
	return strings.Join(text, "\n")
}

func (b bench) wantWhole(content []byte) {
	b.t.Helper()
	btrfstest.DropCaches(b.t, b.backup+"/file")
	if got, err := os.ReadFile(b.backup + "/file"); err != nil || string(got) != string(content) {
		b.t.Errorf("the backup is not whole: %v", err)
	}
}

func random(n int) []byte {
	data := make([]byte, n)
	rand.Read(data)
	return data
}

// words gives text, which can be compressed.
func words(n int) []byte {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x words and words ", random(5))
	}
	return []byte(b.String()[:n])
}

const other = "; by other means it can be healed only from the very snapshot that the backup is of, which the source is not"

func TestABlockIsPutBackFromAnySourceThatHasIt(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	content := random(fileSize)
	b := newBench(t, btrfstest.New(t, testSize), content)
	copied := t.TempDir()
	run(t, "cp", b.source+"/file", copied)
	run(t, "cp", b.source+"/file", b.source[:len(b.source)-len("20261129-010000")]+"home/file")
	for i, source := range []string{b.source, copied, strings.Replace(b.source, "20261129-010000", "home", 1)} {
		btrfstest.Damage(t, b.backup+"/file", int64(i*16384))
		o := b.order(source)
		o.DryRun = true
		if got, want := b.heal(o), fmt.Sprintf("file %d+4 block false", i*16); got != want {
			t.Errorf("with --dry-run: %q", got)
		}
		o.DryRun = false
		if got, want := b.heal(o), fmt.Sprintf("file %d+4 block true", i*16); got != want {
			t.Errorf("%s: %q", source, got)
		}
		b.wantWhole(content)
	}
	if got := b.heal(b.order(b.source)); got != "" {
		t.Errorf("damage is left: %q", got)
	}
}

func TestAnExtentIsRewrittenFromTheOriginOnly(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	content := words(fileSize)
	b := newBench(t, btrfstest.New(t, testSize, "compress-force=zstd"), content)
	copied := t.TempDir()
	run(t, "cp", b.source+"/file", copied)
	btrfstest.Damage(t, b.backup+"/file", 0)
	const differs = "file 0+128 extent false the source has not the same compressed data" + other
	if got := b.heal(b.order(copied)); got != differs {
		t.Errorf("from a copy: %q", got)
	}
	dir := btrfstest.Open(t, strings.TrimSuffix(b.source, "/20261129-010000"))
	check(t, btrfs.SnapshotWritable(btrfstest.Open(t, b.source), dir, "20261129-020000"))
	check(t, btrfs.SetReadOnly(dir, "20261129-020000", true))
	if got := b.heal(b.order(dir.Name() + "/20261129-020000")); got != differs {
		t.Errorf("from another snapshot: %q", got)
	}
	before, err := btrfs.List(btrfstest.Open(t, b.fs.Dir+"/home"))
	check(t, err)
	if got := b.heal(b.order(b.source)); got != "file 0+128 extent true" {
		t.Errorf("from the origin: %q", got)
	}
	b.wantWhole(content)
	after, err := btrfs.List(btrfstest.Open(t, b.fs.Dir+"/home"))
	check(t, err)
	if was, is := before.InDirectory[0], after.InDirectory[0]; len(after.InDirectory) != 1 || was.ReceivedUUID != is.ReceivedUUID || was.SentIn != is.SentIn ||
		!is.ReadOnly || !is.Received() || is.AlteredIn != 0 {
		t.Errorf("the backup was %+v, and is %+v", was, is)
	}
}

// The devices of RAID0 and those that the kernel lets nobody write to are left alone.
func TestWhereNoDeviceIsWrittenExtentsAre(t *testing.T) {
	btrfstest.RequireRoot(t)
	content := random(fileSize)
	t.Run("raid0", func(t *testing.T) {
		t.Parallel()
		// Of a read over several stripes, Linux 6.18 at times loses the error of one, and gives zeros.
		content := content[:16<<10]
		fs := btrfstest.NewOn(t, 2, 128<<20, []string{"--data", "raid0", "--metadata", "raid1"})
		b := newBench(t, fs, content)
		run(t, "sync", "-f", b.backup)
		found := 0
		for i := range 2 {
			image := fmt.Sprintf("%s/image%d", filepath.Dir(fs.Image), i)
			all, err := os.ReadFile(image)
			check(t, err)
			at := bytes.Index(all, content[:4096])
			if at < 0 {
				continue
			}
			found++
			file, err := os.OpenFile(image, os.O_WRONLY, 0)
			check(t, err)
			_, err = file.WriteAt([]byte("damage"), int64(at))
			check(t, errors.Join(err, file.Close()))
		}
		btrfstest.DropCaches(t, b.backup+"/file")
		if got := b.heal(b.order(b.source)); got != "file 0+4 extent true" || found != 1 {
			t.Errorf("of %d blocks: %q", found, got)
		}
		b.wantWhole(content)
	})
	t.Run("read-only device", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, btrfstest.New(t, testSize), content)
		btrfstest.Damage(t, b.backup+"/file", 0)
		run(t, "blockdev", "--setro", b.fs.Device)
		t.Cleanup(func() { run(t, "blockdev", "--setrw", b.fs.Device) })
		if got := b.heal(b.order(b.source)); got != "file 0+4 extent true" {
			t.Errorf("healed: %q", got)
		}
		b.wantWhole(content)
	})
}

func TestWhatCannotBeHealedIsNamed(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	content := random(fileSize)
	b := newBench(t, btrfstest.New(t, testSize), content)
	wrong := t.TempDir()
	check(t, os.WriteFile(wrong+"/file", random(fileSize), 0o644))
	btrfstest.Damage(t, b.backup+"/file", 8192)
	if got := b.heal(b.order(wrong)); got != "file 8+4 block false "+heal.ErrWrongSource.Error() {
		t.Errorf("from a wrong source: %q", got)
	}
	if got := b.heal(b.order(t.TempDir())); !strings.HasPrefix(got, "file 8+4 block false open ") {
		t.Errorf("from an empty directory: %q", got)
	}
}

// Small files lie in the metadata, of which there is one copy here.
func TestDamagedMetadataAreNamedAndNotHealed(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	content := random(fileSize)
	fs := btrfstest.NewOn(t, 1, testSize, []string{"--metadata", "single"})
	b := newBench(t, fs, content)
	said := run(t, "btrfs", "inspect-internal", "dump-tree", "-t", run(t, "btrfs", "inspect-internal", "rootid", b.backup), fs.Device)
	var leaves []uint64
	for line := range strings.Lines(said) {
		var logical uint64
		if n, _ := fmt.Sscanf(line, "leaf %d items", &logical); n == 1 {
			leaves = append(leaves, logical)
		}
	}
	top, err := os.Open(fs.Dir)
	check(t, err)
	btrfstest.DamageAt(t, top, leaves[len(leaves)/2]) // the first and the last one are needed to reach it at all
	check(t, top.Close())
	device := btrfstest.Open(t, fs.Device) // keeps it attached
	defer device.Close()
	btrfstest.Unmount(t, fs.Dir) // with all that is in memory
	fs.Mount(t, fs.Dir)
	r, err := repair.Run(t.Context(), b.order(b.source))
	check(t, err)
	for _, d := range r.Blocks {
		if !d.Metadata || d.Healed || d.Way != heal.NoWay || d.Problem != d.Why {
			t.Errorf("found %+v", d)
		}
	}
	if len(r.Blocks) == 0 {
		t.Error("no damage was found")
	}
	b.wantWhole(content)
}

func TestHolesAndWhatIsOnlyReservedHoldNoDamage(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	b := newBench(t, btrfstest.New(t, testSize), random(fileSize))
	dir := btrfstest.Open(t, b.fs.Dir+"/home")
	check(t, btrfs.SnapshotWritable(btrfstest.Open(t, b.backup), dir, "20261129-020000"))
	b.backup = b.fs.Dir + "/home/20261129-020000"
	file, err := os.OpenFile(b.backup+"/file", os.O_RDWR, 0)
	check(t, err)
	defer file.Close()
	check(t, unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 64<<10))
	check(t, unix.Fallocate(int(file.Fd()), 0, fileSize, 64<<10))
	sparse := random(4096)
	check(t, file.Truncate(1<<40))
	_, err = file.WriteAt(sparse, 1<<39)
	check(t, err)
	run(t, "touch", b.backup+"/nocow")
	run(t, "chattr", "+C", b.backup+"/nocow")
	check(t, os.WriteFile(b.backup+"/nocow", random(8192), 0o644))
	run(t, "sync", "-f", b.backup)
	btrfstest.Damage(t, b.backup+"/file", 1<<39)
	btrfstest.Damage(t, b.backup+"/nocow", 0) // of which nobody knows
	check(t, btrfs.SetReadOnly(dir, "20261129-020000", true))
	source := t.TempDir()
	run(t, "truncate", "--size", "1T", source+"/file")
	donor, err := os.OpenFile(source+"/file", os.O_RDWR, 0)
	check(t, err)
	defer donor.Close()
	_, err = donor.WriteAt(sparse, 1<<39)
	check(t, err)
	if got := b.heal(b.order(source)); got != fmt.Sprintf("file %d+4 block true", 1<<29) {
		t.Errorf("healed: %q", got)
	}
}
