package job_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A mirrorRig is a rig whose target lies on another kind of filesystem.
type mirrorRig struct {
	*rig
	said bytes.Buffer
}

func newMirrorRig(t testing.TB, kind string) *mirrorRig {
	t.Helper()
	m := &mirrorRig{rig: newRig(t, job.Mirror)}
	m.log = slog.NewTextHandler(&m.said, nil)
	m.spec.Subvolume.Folder = filepath.Join(m.fs.Dir, "snapshots")
	m.target = filepath.Join(btrfstest.NewOther(t, kind, 600<<20).Dir, "home")
	btrfstest.Check(t, os.Mkdir(m.target, 0o700))
	m.spec.Destinations = []job.Place{job.Local{Path: m.target}}
	return m
}

// mirror runs the job, and compares the newest copy with its snapshot. The log must tell what is wanted, and not what is not: "!...".
func (m *mirrorRig) mirror(told ...string) (name string) {
	m.t.Helper()
	m.said.Reset()
	report := m.outcome(engine.Done)
	name = report.Snapshot
	btrfstest.Equal(m.t, filepath.Join(m.spec.Subvolume.Folder, name), filepath.Join(m.target, name), btrfstest.OwnAttributes)
	for _, text := range told {
		text, unwanted := strings.CutPrefix(text, "!")
		if strings.Contains(m.said.String(), text) == unwanted {
			m.t.Errorf("%s: told %q is %t, in\n%s", name, text, unwanted, &m.said)
		}
	}
	return name
}

func (m *mirrorRig) at(path string) string { return filepath.Join(m.source(), path) }

const walked = "looking at all files"

// What rsync does not copy in a moment is left out of what is done by chance, what xfs does not know, and what keeps snapshots from
// being deleted.
var beyondMirrors = []string{"make a huge sparse file", "make a symlink", "make a special file", "set times", "lock"}

func TestAMirrorGrowsIntoACopyOfEachSnapshot(t *testing.T) {
	t.Parallel()
	generations := 8
	if btrfstest.All() {
		generations = 200
	}
	m := newMirrorRig(t, "xfs")
	m.spec.KeepSnapshots, m.spec.KeepBackups = retention.Policy{Last: 3}, retention.Policy{Last: 3}
	m.spec.Copy.FullEvery = 5 * 24 * time.Hour
	m.spec.Copy.MaxDelete = 100
	btrfstest.Mutate(t, m.source(), 1, 300, beyondMirrors...)
	m.mirror("!" + walked)
	var kept []string
	for i := range generations {
		done := btrfstest.Mutate(t, m.source(), int64(i+2), 60, beyondMirrors...)
		kept = append(kept, m.mirror("!cannot grow", "!files are missing", "!differs")) // a rare stream of the kernel makes no sense
		if m.t.Failed() {
			t.Fatalf("generation %d: %s", i, strings.Join(done, "\n"))
		}
	}
	for _, name := range kept[max(0, len(kept)-2):] { // what came later changed nothing in it
		btrfstest.Equal(t, filepath.Join(m.spec.Subvolume.Folder, name), filepath.Join(m.target, name), btrfstest.OwnAttributes)
	}
}

func TestAMirrorTellsLinksRenamesAndReplacementsApart(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]string{
		"a further name":                          "ln a/one a/three; ln a/one three",
		"a further name in the place of a file":   "rm b/x; ln a/one b/x",
		"a further name of what is written to":    "ln a/one b/y; echo more >>a/one",
		"a name less":                             "rm a/two",
		"a group that is split":                   "cp -p a/two t; mv t a/two",
		"a group whose mode changes":              "chmod 600 a/one",
		"a directory renamed over another":        "rm -r b; mv a b",
		"directories that exchange their names":   "mv a t; mv b a; mv t b",
		"a directory moved into a new one":        "mkdir -p n/n; mv a n/n/a; echo >n/n/a/new",
		"a directory moved into one that moves":   "mv a b/; mv b c/",
		"a directory turned inside out":           "mv c/d d; mv c d/; touch d/new",
		"a file in the place of a directory":      "rm -r a; echo >a",
		"a directory in the place of a file":      "rm b/x; mkdir b/x; echo >b/x/y",
		"a symlink in the place of a directory":   "mv a z; ln -s z a",
		"what leaves a directory that is removed": "mv c/d/deep .; rm -r c",
		"names of any bytes":                      `mkdir "$(printf 'n\n\\#012\377')"; echo >"$(printf 'n\n\\#012\377/ -x *[?]')"; mv b "$(printf '#b \\')"`,
		"a reflink":                               "cp --reflink=always big c/big; echo x >>c/big",
		"content of the same size and time":       "touch -r big t; printf y | dd of=big bs=1 seek=9 conv=notrunc status=none; touch -r t big; rm t",
		"an ACL that is inherited":                "setfacl -m d:u:7:rwx,u:8:r a; mkdir a/sub; echo >a/sub/f",
		"modes of directories":                    "chmod 2770 a; chmod 1777 c/d; chmod 0 b; chown 5:6 c",
		"nothing":                                 ":",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirrorRig(t, "ext4")
			m.shell("mkdir -p a b c/d; echo 1 >a/one; ln a/one a/two; echo x >b/x; echo deep >c/d/deep; dd if=/dev/urandom of=big bs=64k count=3 status=none; mkfifo c/pipe")
			first := m.mirror()
			m.shell(do)
			m.mirror("!" + walked)
			m.shell("echo later >later; mv big c/later 2>/dev/null || :")
			m.spec.Copy.FullEvery = time.Hour
			m.mirror("!"+walked, "no difference")
			btrfstest.Equal(t, filepath.Join(m.spec.Subvolume.Folder, first), filepath.Join(m.target, first))
		})
	}
}

func (m *mirrorRig) shell(script string) {
	m.t.Helper()
	btrfstest.Run(m.t, "sh", "-ec", "cd '"+m.source()+"'; "+script)
}

func TestAMirrorThatSomebodyChangedIsNotBuiltUpon(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]string{
		"a file written to":      "echo more >>a/one",
		"a file replaced":        "cp -p a/one t; mv t a/one",
		"a file removed":         "rm a/one",
		"a mode changed":         "chmod 4755 a/one",
		"something added":        "echo >a/added",
		"a directory renamed":    "mv a z",
		"a directory replaced":   "mv a z; mkdir a",
		"a link made of it":      "mv a ../z; ln -s ../z a",
		"a time changed":         "touch a",
		"its manifest is gone":   "rm ../.btrfs-backup/manifests/$(basename $PWD).zst",
		"its manifest is broken": "echo x >../.btrfs-backup/manifests/$(basename $PWD).zst",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirrorRig(t, "ext4")
			m.shell("mkdir a; echo 1 >a/one; echo 2 >two")
			first := m.mirror()
			btrfstest.Run(t, "sh", "-ec", "cd '"+filepath.Join(m.target, first)+"'; "+do)
			m.shell("echo 3 >three")
			m.mirror(walked)
			m.shell("echo 4 >four")
			m.mirror("!" + walked)
		})
	}
}

// What is amiss in a way that no time tells is found when all is compared, and does not last.
func TestAMirrorIsComparedAsAWhole(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.shell("echo 1 >one; setfattr -n user.a -v b one")
	first := m.mirror()
	btrfstest.Run(t, "setfattr", "-n", "user.a", "-v", "c", filepath.Join(m.target, first, "one"))
	m.shell("echo 2 >two")
	m.spec.Copy.FullEvery = time.Hour
	m.mirror("differs from its snapshot", "one")
	m.spec.Copy.FullEvery = 3 * 24 * time.Hour
	for i := range 3 {
		m.shell(fmt.Sprintf("echo %d >two", i+3))
		want := "!comparing"
		if i == 2 {
			want = "comparing"
		}
		m.mirror("!"+walked, want)
	}
}

func TestAMirrorLeavesSubvolumesOutAlways(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.spec.Subvolume.Folder = "snapshot"
	m.shell("mkdir a; btrfs -q subvolume create a/inner; echo >a/f")
	for i := range 3 {
		m.said.Reset()
		name := m.outcome(engine.Done).Snapshot
		if _, err := os.Lstat(filepath.Join(m.target, name, "a/inner")); !os.IsNotExist(err) {
			t.Error("a subvolume has a place in the mirror:", err)
		}
		if i == 0 {
			m.spec.Copy.FullEvery = time.Hour
		} else if log := m.said.String(); !strings.Contains(log, "no difference") {
			t.Error(log)
		}
		m.shell(fmt.Sprintf("echo >a/g%d", i))
	}
}

// Of a subvolume that was deleted before its snapshot is copied, the snapshot holds an empty directory that no difference tells of.
func TestAMirrorPutsTheDirectoryOfADeletedSubvolumeRight(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.shell("mkdir a; echo 1 >a/f; btrfs -q subvolume create a/inner")
	m.outcome(engine.Done)
	m.spec.Subvolume.NoTransfer = true
	m.shell("echo 2 >a/g")
	m.outcome(engine.Done)
	m.shell("btrfs -q subvolume delete a/inner; echo 3 >a/h")
	m.spec.Subvolume.NoTransfer, m.spec.Subvolume.NoSnapshot, m.spec.Copy.FullEvery = false, true, time.Hour
	m.outcome(engine.Done)
	all := m.backups()
	if _, err := os.Lstat(filepath.Join(m.target, all[len(all)-1], "a/inner")); err != nil { // its times are the kernel's, and differ each time
		t.Error(err, &m.said)
	}
	if log := m.said.String(); !strings.Contains(log, "differs from its snapshot") || strings.Contains(log, "report this") {
		t.Error(log)
	}
	m.spec.Subvolume.NoSnapshot = false
	m.mirror("differs from its snapshot", "a/inner")
	m.shell("echo 4 >a/h")
	m.mirror("no difference")
}

func TestAMirrorLeavesOutSubvolumesByPatternsAndNoFiles(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.shell("mkdir a; echo 1 >a/cache; btrfs -q subvolume create cache; echo 2 >cache/f; btrfs -q subvolume create kept; echo 3 >kept/f")
	m.spec.Recursive, m.spec.Copy.Filters, m.spec.Copy.FullEvery = true, []job.Filter{{Rule: "exclude", Value: "cache"}}, time.Hour
	for i := range 2 {
		m.outcome(engine.Done)
		all := m.backups()
		name := all[len(all)-1]
		for path, want := range map[string]bool{name + "/a/cache": true, "kept/" + name + "/f": true, "cache": false} {
			if _, err := os.Lstat(filepath.Join(m.target, path)); (err == nil) != want {
				t.Errorf("%s is in the mirror: %t, want %t", path, !want, want)
			}
		}
		m.shell(fmt.Sprintf("echo %d >a/cache", i))
	}
	if log := m.said.String(); !strings.Contains(log, "no difference") || strings.Contains(log, "differs") {
		t.Error(log)
	}
}

func TestAMirrorCatchesUpWithSnapshotsOneUponTheOther(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.shell("echo same >same")
	m.spec.Copy.Dedup = new(bool) // else what was copied again would share its space, too
	m.spec.Subvolume.NoTransfer = true
	for i := range 3 {
		m.shell(fmt.Sprintf("echo %d >changed; mv same same.tmp; mv same.tmp same", i))
		m.outcome(engine.Done)
	}
	m.spec.Subvolume.NoTransfer = false
	m.mirror("!" + walked)
	names, err := filepath.Glob(filepath.Join(m.target, "2*"))
	btrfstest.Check(t, err)
	var inodes []uint64
	for _, name := range names {
		var st unix.Stat_t
		btrfstest.Check(t, unix.Stat(filepath.Join(name, "same"), &st))
		inodes = append(inodes, st.Ino)
	}
	if len(inodes) != 4 || slices.ContainsFunc(inodes, func(n uint64) bool { return n != inodes[0] }) {
		t.Errorf("the same file in %d backups is %v", len(names), inodes)
	}
}
