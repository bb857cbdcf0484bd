package received

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/verify"
)

var check = btrfstest.Check

// A rig has a source, and a folder that its snapshots are received in.
type rig struct {
	*testing.T
	source, snapshots, folder string
}

func newRig(t *testing.T) *rig {
	top := btrfstest.New(t, 256<<20).Dir
	r := &rig{t, top + "/source", top + "/snapshots", top + "/folder"}
	check(t, btrfs.Create(btrfstest.Open(t, top), "source"))
	check(t, os.Mkdir(r.snapshots, 0o755))
	check(t, os.Mkdir(r.folder, 0o755))
	return r
}

func (r *rig) write(name string, content []byte) {
	r.Helper()
	check(r, os.MkdirAll(filepath.Dir(filepath.Join(r.source, name)), 0o755))
	check(r, os.WriteFile(filepath.Join(r.source, name), content, 0o644))
}

// random gives content that no other file has.
func random(name string, size int) []byte {
	return bytes.Repeat([]byte(name+" is unlike others "), size/len(name+" is unlike others ")+1)[:size]
}

// send makes a snapshot and receives it, as an increment to a parent.
func (r *rig) send(name, parent string) (backup string) {
	r.Helper()
	check(r, btrfs.Snapshot(btrfstest.Open(r, r.source), btrfstest.Open(r, r.snapshots), name))
	options := "-q"
	if parent != "" {
		options = "-qp" + filepath.Join(r.snapshots, parent)
	}
	btrfstest.Run(r, "sh", "-c", `btrfs send "$1" "$2" | btrfs receive -q "$3"; sync -f "$3"`, "sh", options, filepath.Join(r.snapshots, name), r.folder)
	return filepath.Join(r.folder, name)
}

// verify verifies a backup, and gives the differences as lines.
func (r *rig) verify(name string, o verify.Options) (v verify.Verified, lines []string) {
	r.Helper()
	root := btrfstest.Open(r, filepath.Join(r.folder, name))
	info, err := btrfs.Info(root)
	check(r, err)
	v, err = In(btrfstest.Open(r, r.folder)).Verify(r.Context(), root, info, o, func(d verify.Difference) {
		lines = append(lines, textOf(d))
	}, func(int64, int64) {})
	check(r, err)
	slices.Sort(lines)
	if int(v.Differences) != len(lines) {
		r.Errorf("%d differences are counted, %d told", v.Differences, len(lines))
	}
	return v, lines
}

func textOf(d verify.Difference) string {
	text := d.Path + " " + string(d.Kind)
	if d.Damage != nil {
		text += fmt.Sprint(" ", d.Damage.Offset, "+", d.Damage.Length)
	}
	return text
}

func (r *rig) want(got []string, want ...string) {
	r.Helper()
	if !slices.Equal(got, want) {
		r.Errorf("got %q, want %q", got, want)
	}
}

func TestABackupGetsAManifestByItsFirstVerification(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	btrfstest.Populate(t, r.source, 1)
	r.send("1", "")
	v, lines := r.verify("1", verify.Options{})
	r.want(lines)
	if v.Basis != verify.ByMaking || v.NotKept != "" || v.Bytes == 0 {
		t.Errorf("the first time: %+v", v)
	}
	again, lines := r.verify("1", verify.Options{})
	r.want(lines)
	if again.Basis != verify.ByManifest || again.Bytes != v.Bytes || again.Files != v.Files {
		t.Errorf("then: %+v, first %+v", again, v)
	}
	info, err := btrfs.Info(btrfstest.Open(t, r.folder+"/1"))
	check(t, err)
	n, err := In(btrfstest.Open(t, r.folder)).Verification(info.UUID)
	if err != nil || !n.Whole || n.Differences != 0 || n.At.IsZero() {
		t.Errorf("on record is %+v, %v", n, err)
	}
}

func TestWhatDiskDoesNotGiveIsToldAndTheRestIsRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, name := range []string{"a", "b", "c/d"} {
		r.write(name, random(name, 1<<20))
	}
	r.send("1", "")
	backup := r.send("2", "1")
	r.verify("1", verify.Options{}) // has a manifest
	btrfstest.Damage(t, backup+"/a", 8192)
	btrfstest.Damage(t, backup+"/a", 12288)
	btrfstest.Damage(t, backup+"/a", 1<<20-4096)
	btrfstest.Damage(t, backup+"/c/d", 0)
	want := []string{"a damaged 1044480+4096", "a damaged 8192+8192", "c/d damaged 0+4096"}
	for range 2 { // it is not taken for a reference
		v, lines := r.verify("2", verify.Options{})
		r.want(lines, want...)
		if v.Basis != verify.ByReading || v.NotKept == "" || v.Bytes < 3<<20-4*4096 {
			t.Errorf("it was %+v", v)
		}
	}
	_, lines := r.verify("1", verify.Options{})
	r.want(lines, want...)
}

func TestContentThatWasForgedDiffersFromTheManifest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write("f", random("f", 100_000))
	r.write("g", []byte("1"))
	r.write("d/x", []byte("1"))
	backup := r.send("1", "")
	r.verify("1", verify.Options{})
	r.alter(backup)
	_, lines := r.verify("1", verify.Options{})
	r.want(lines, "d time", "d/x missing", "g content", "g time")
}

// alter changes a backup and leaves its received UUID as it is.
func (r *rig) alter(backup string) {
	r.Helper()
	folder := btrfstest.Open(r, r.folder)
	check(r, btrfs.SetReadOnly(folder, filepath.Base(backup), false))
	check(r, os.WriteFile(backup+"/g", []byte("2"), 0o644))
	check(r, os.Remove(backup+"/d/x"))
	check(r, btrfs.SetReadOnly(folder, filepath.Base(backup), true))
	btrfstest.Run(r, "sync", "-f", backup)
}

func TestABackupThatWasAlteredIsNoReference(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write("g", []byte("1"))
	r.write("d/x", []byte("1"))
	backup := r.send("1", "")
	r.alter(backup)
	for range 2 {
		v, lines := r.verify("1", verify.Options{})
		r.want(lines, ". altered")
		if v.Basis != verify.ByReading {
			t.Errorf("it was %+v", v)
		}
	}
}

func TestAManifestIsThatOfItsSubvolumeOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write("f", random("f", 100_000))
	r.send("1", "")
	r.verify("1", verify.Options{})
	folder := btrfstest.Open(t, r.folder)
	check(t, btrfs.Delete(folder, "1"))
	check(t, btrfs.Delete(btrfstest.Open(t, r.snapshots), "1"))
	r.write("f", random("g", 100_000))
	r.send("1", "")
	r.send("2", "1")
	v, lines := r.verify("1", verify.Options{})
	r.want(lines)
	if v.Basis != verify.ByMaking {
		t.Errorf("another one's manifest is taken: %+v", v)
	}
	r.files(2) // that of what was deleted by hand is gone
	r.verify("2", verify.Options{})
	r.files(4)
	check(t, btrfs.Delete(folder, "1"))
	check(t, In(folder).Drop())
	r.files(2)
}

// files tells how many files about received subvolumes there are.
func (r *rig) files(want int) {
	r.Helper()
	names, err := state.In(btrfstest.Open(r, r.folder)).Names()
	check(r, err)
	if len(names) != want {
		r.Errorf("there are %q", names)
	}
}

func TestTheManifestOfAnIncrementTakesWhatItsParentHas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	btrfstest.Populate(t, r.source, 1)
	r.write("unchanged", random("unchanged", 100_000))
	folder := btrfstest.Open(t, r.folder)
	for i, name := range []string{"1", "2"} {
		r.send(name, []string{"", "1"}[i])
		check(t, In(folder).Make(t.Context(), btrfstest.Open(t, r.folder+"/"+name)))
		if i == 0 { // what is taken from its manifest is not read
			btrfstest.Damage(t, r.folder+"/1/unchanged", 0)
		}
		btrfstest.Change(t, r.source, 1)
	}
	v, lines := r.verify("2", verify.Options{})
	r.want(lines, "unchanged damaged 0+4096")
	if v.Basis != verify.ByManifest {
		t.Errorf("it was %+v", v)
	}
	check(t, btrfs.SetReadOnly(folder, "2", false))
	if err := In(folder).Make(t.Context(), btrfstest.Open(t, r.folder+"/2")); err == nil {
		t.Error("what can be written to gets a manifest")
	}
}

func TestWhatIsNoBackupIsReadAndNothingIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write("f", random("f", 100_000))
	check(t, btrfs.Snapshot(btrfstest.Open(t, r.source), btrfstest.Open(t, r.folder), "snapshot"))
	v, lines := r.verify("snapshot", verify.Options{})
	r.want(lines)
	if v.Basis != verify.ByReading || v.Bytes != 100_000 {
		t.Errorf("it was %+v", v)
	}
	if _, err := os.Stat(r.folder + "/" + state.Dir); !os.IsNotExist(err) {
		t.Errorf("something is kept: %v", err)
	}
}

func TestPartsOfAllDaysAreAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 40 {
		r.write(fmt.Sprint("f", i), random(fmt.Sprint(i), 10_000))
	}
	r.send("1", "")
	for range 2 { // without a manifest, and with one
		var sum int64
		for i := range 5 {
			v, lines := r.verify("1", verify.Options{Part: verify.Part{Of: 5, First: i, Count: 1}})
			r.want(lines)
			sum += v.Bytes
		}
		if sum != 400_000 {
			t.Errorf("%d bytes were read", sum)
		}
		r.verify("1", verify.Options{})
	}
}

func TestATreeThatIsDescribedEqualsItsCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	btrfstest.Populate(t, r.source, 1)
	check(t, btrfs.Create(btrfstest.Open(t, r.source), "nested"))
	r.write("image", nil)
	check(t, os.Truncate(r.source+"/image", 40<<20))
	btrfstest.Run(t, "fallocate", "-l", "20M", r.source+"/image")
	btrfstest.Run(t, "chattr", "+m", r.source+"/image")
	backup := r.send("1", "")
	btrfstest.Change(t, r.source, 1)
	compare := func(a, b string) (lines []string) {
		t.Helper()
		_, _, err := verify.Manifests(t.Context(), r.describe(a), r.describe(b), verify.ManifestOptions{NoRootTime: true,
			Unread: func(string) bool { return false }}, func(d verify.Difference) { lines = append(lines, textOf(d)) })
		check(t, err)
		return lines
	}
	r.want(compare(r.snapshots+"/1", backup))
	r.send("2", "1")
	r.want(compare(r.snapshots+"/2", r.folder+"/2"))
	if lines := compare(r.snapshots+"/1", r.folder+"/2"); len(lines) < 10 {
		t.Errorf("different ones differ in %q", lines)
	}
}

func (r *rig) describe(path string) io.ReadSeeker {
	r.Helper()
	var to bytes.Buffer
	_, err := In(btrfstest.Open(r, path)).Describe(context.Background(), &to, func(d verify.Difference) { r.Error(d) }, func(int64, int64) {})
	check(r, err)
	return strings.NewReader(to.String())
}
