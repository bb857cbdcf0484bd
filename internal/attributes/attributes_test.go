package attributes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

var check, run = btrfstest.Check, btrfstest.Run

// told gives a list as lines of lsattr(1).
func told(l List) string {
	var lines []string
	for _, f := range l.Files {
		lines = append(lines, f.Path+" "+f.Flags.String())
	}
	return strings.Join(lines, "; ")
}

func want(t testing.TB, what string, l List, err error, want string) {
	t.Helper()
	if got := told(l); got != want || err != nil {
		t.Errorf("%s: %s, want %s; %v", what, got, want, err)
	}
}

// A lab is a source with snapshots, and a folder that they are sent to.
type lab struct {
	t    testing.TB
	top  string
	from Folder
	to   Folder
	base map[btrfs.UUID]int64
}

func newLab(t testing.TB) *lab {
	top := btrfstest.New(t, 256<<20).Dir
	run(t, "sh", "-c", `cd "$1" && btrfs subvolume create home && mkdir snapshots backups`, "sh", top)
	return &lab{t, top, In(btrfstest.Open(t, top+"/snapshots")), In(btrfstest.Open(t, top+"/backups")), make(map[btrfs.UUID]int64)}
}

// sh runs a script in the source.
func (l *lab) sh(script string) {
	l.t.Helper()
	run(l.t, "sh", "-ec", `cd "$1/home"; `+script, "sh", l.top)
}

// backUp takes a snapshot, sends it, and keeps its attributes.
func (l *lab) backUp(name, parent string) (sent List, err error) {
	l.t.Helper()
	run(l.t, "sh", "-ec", `cd "$1" && btrfs subvolume snapshot -r home "snapshots/$2" && btrfs send -q ${3:+-p "snapshots/$3"} "snapshots/$2" | btrfs receive -q backups`,
		"sh", l.top, name, parent)
	sent, err = l.from.Of(name, parent)
	check(l.t, err)
	encoded, err := sent.Encode()
	check(l.t, err)
	n, err := l.to.Keep(name, encoded, func(uuid btrfs.UUID) (int64, bool) { n, ok := l.base[uuid]; return n, ok })
	if err == nil {
		info, infoErr := btrfs.InfoAt(btrfstest.Open(l.t, l.top+"/backups"), name)
		check(l.t, infoErr)
		l.base[info.ReceivedUUID] = n
	}
	return sent, err
}

func TestAttributesThatNoStreamHoldsAreKeptOverIncrements(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.sh(`mkdir -p a/b; printf 'x' >"$(printf 'a/\377')"; touch plain a/b/C a/b/gone a/b/i a/was d x; chattr +C a/b/C; chattr +d a/b/gone; chattr +A a/was; chattr +C a; echo vm >a/b/C
		chattr +dS d; chattr +m x; ln x y; chattr +d "$(printf 'a/\377')"; chattr +D .; chattr +c plain; chattr +i a/b/i`)
	full := ". D; a C; a/b/C C; a/b/gone d; a/b/i i; a/was A; a/\xff d; d Sd; x m"
	sent, err := l.backUp("1", "")
	want(t, "sent", sent, err, full)
	kept, err := l.to.Of("1", "")
	want(t, "kept", kept, err, full)

	l.sh(`chattr -i a/b/i; chattr +a a/b/i; chattr -A a/was; rm a/b/gone; mv a/b moved; echo more >>plain; touch fresh; chattr +A fresh; echo x >>moved/C; touch again`)
	sent, err = l.backUp("2", "1")
	want(t, "sent of an increment", sent, err, "a/was ; fresh A; moved/i a")
	second := ". D; a C; a/\xff d; d Sd; fresh A; moved/C C; moved/i a; x m"
	kept, err = l.to.Of("2", "")
	want(t, "kept of an increment", kept, err, second)
	kept, err = l.to.Of("2", "1") // as for the next disk
	want(t, "of an increment that is sent on", kept, err, "a/was ; fresh A; moved/i a")

	run(t, "sh", "-ec", `cd "$1" && btrfs subvolume snapshot backups/2 restored`, "sh", l.top)
	r := Set(btrfstest.Open(t, l.top+"/restored"), List{Files: must(l.to.Of("2", "")).Files})
	if r.Files != 7 || r.Missed != 1 || r.Failed[0].Path != "moved/C" || r.Failed[0].Flags != btrfs.NoCowFlag || r.Failed[0].Why == "" {
		t.Errorf("set: %+v", r)
	}
	check(t, btrfs.SyncFilesystem(btrfstest.Open(t, l.top)))
	list := must(In(btrfstest.Open(t, l.top)).Of("restored", ""))
	want(t, "restored", list, nil, strings.Replace(second, "moved/C C; ", "", 1))
	run(t, "chattr", "-i", "-a", l.top+"/restored/moved/i")
}

func must(l List, err error) List {
	if err != nil {
		panic(err)
	}
	return l
}

func TestWhatAnIncrementBuildsOnMustBeKnown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.sh(`touch a; chattr +d a`)
	_, err := l.backUp("1", "")
	check(t, err)
	known := l.base
	l.base = make(map[btrfs.UUID]int64)
	if _, err := l.backUp("2", "1"); !errors.Is(err, ErrUnknownBase) {
		t.Errorf("on an unknown base: %v", err)
	}
	l.base = known
	check(t, os.Remove(onlyFile(t, l.top+"/backups/.btrfs-backup/manifests")))
	if _, err := l.backUp("3", "1"); !errors.Is(err, ErrUnknownBase) {
		t.Errorf("on a base whose record is lost: %v", err)
	}
}

func onlyFile(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 {
		t.Fatalf("%s holds %v", dir, entries)
	}
	return filepath.Join(dir, entries[0].Name())
}

func TestNothingIsWrittenOfFilesWithoutAttributes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.sh(`touch a; mkdir b; chattr +c a`)
	for n, name := range []string{"1", "2"} {
		sent, err := l.backUp(name, []string{"", "1"}[n])
		want(t, "sent", sent, err, "")
	}
	if _, err := os.Stat(l.top + "/backups/.btrfs-backup/manifests"); err == nil {
		t.Error("something is on record")
	}
}

func TestAListThatLeadsOutIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "..", "../a", "a/../b", "/etc/passwd", "a//b", "./a", "a/", "a\x00b"} {
		encoded, err := List{Files: []File{{path, btrfs.ImmutableFlag}}}.Encode()
		check(t, err)
		if l, err := Decode(encoded); err == nil {
			t.Errorf("%q is read as %q", path, told(l))
		}
	}
	encoded, err := List{Since: true, Files: []File{{"a/b", btrfs.ImmutableFlag | 1<<30}, {".", 0}}}.Encode()
	check(t, err)
	l, err := Decode(encoded)
	if want(t, "read back", l, err, "a/b i; . "); !l.Since {
		t.Error("it is complete")
	}
	for n := range len(encoded) {
		if l, err := Decode(encoded[:n]); err == nil {
			t.Errorf("a part is read as %+v", l)
		}
	}
}

func TestWhatALinkLeadsToIsNotTouched(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.sh(`ln -s /etc link; ln -s .. up; mkfifo pipe; touch ../outside`)
	_, err := l.backUp("1", "")
	check(t, err)
	hostile := List{Files: []File{{"link/passwd", btrfs.NoDumpFlag}, {"up/outside", btrfs.NoDumpFlag}, {"pipe", btrfs.NoDumpFlag}, {"missing", btrfs.NoDumpFlag}}}
	encoded, err := hostile.Encode()
	check(t, err)
	n, err := l.to.Keep("1", encoded, nil)
	if err != nil || n != 1 { // the pipe
		t.Errorf("%d are kept, %v", n, err)
	}
	if r := Set(btrfstest.Open(t, l.top+"/home"), hostile); r.Missed != 4 || r.Files != 0 {
		t.Errorf("set: %+v", r)
	}
}

func TestFlagsThatTheKernelGaveToManyAreLeftOut(t *testing.T) {
	t.Parallel()
	l := List{Files: []File{{"vm", btrfs.NoCowFlag}}}
	for n := range mostNoCompress + 1 {
		l.Files = append(l.Files, File{fmt.Sprint(n), btrfs.NoCompressFlag})
	}
	encoded, err := l.Encode()
	check(t, err)
	got, err := Decode(encoded)
	if want(t, "left", got, err, "vm C"); got.LeftOut != mostNoCompress+1 {
		t.Errorf("%d left out", got.LeftOut)
	}
}

func FuzzDecode(f *testing.F) {
	encoded, _ := List{Files: []File{{"a", 0x10}}}.Encode()
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		for _, file := range l.Files {
			if err != nil || !filepath.IsLocal(file.Path) {
				t.Errorf("%q, %v", file.Path, err)
			}
		}
	})
}
