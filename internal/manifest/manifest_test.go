package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCompareIsTheOrderOfASortedWalk(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a/b/c", "a/b-c", "a-b/x", "a!", "a\x01b/y", "ab", "!", "\xff/z", "a.b", ".a/q", "-"} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	walked := sortedWalk(t, dir, ".")
	for i, a := range walked {
		for j, b := range walked {
			if got, want := Compare(a, b), sign(i-j); got != want {
				t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

// sortedWalk gives a directory and all below it, relative to root.
func sortedWalk(t *testing.T, root, dir string) []string {
	t.Helper()
	found := []string{dir}
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.IsDir() {
			found = append(found, sortedWalk(t, root, path)...)
		} else {
			found = append(found, path)
		}
	}
	return found
}

func sign(n int) int { return min(max(n, -1), 1) }

func TestDescribeTellsWhatLstatTells(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(path("file"), []byte("hello"), 0o600))
	must(t, os.Chmod(path("file"), 0o4751&0o777|os.ModeSetuid))
	must(t, os.Link(path("file"), path("other")))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path("file"), []unix.Timespec{{}, {Sec: -2, Nsec: 5e8}}, 0))
	must(t, os.Mkdir(path("dir"), 0o755))
	must(t, os.Symlink("file", path("link")))
	must(t, unix.Mkfifo(path("fifo"), 0o600))

	var st unix.Stat_t
	must(t, unix.Lstat(path("file"), &st))
	got := Describe("x/file", &st)
	want := Entry{
		Path: "x/file", Type: Regular, Mode: 0o4751, UID: uint32(os.Getuid()), GID: st.Gid, Size: 5, ModTime: Time{-2, 5e8},
		Inode: st.Ino, Links: 2, ChangeTime: Time{int64(st.Ctim.Sec), int32(st.Ctim.Nsec)},
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for name, want := range map[string]Type{"dir": Directory, "link": Symlink, "fifo": FIFO} {
		must(t, unix.Lstat(path(name), &st))
		if e := Describe(name, &st); e.Type != want || e.Size != 0 || e.Device != 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
	must(t, unix.Lstat("/dev/null", &st))
	if e := Describe("null", &st); e.Type != CharDevice || e.Device != unix.Mkdev(1, 3) {
		t.Errorf("/dev/null: %+v", e)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// samples are entries with everything in them, in order.
func samples() []Entry {
	d := func(s string) Digest { return sha256.Sum256([]byte(s)) }
	all := make([]byte, 0, 255)
	for c := 1; c < 256; c++ {
		if c != '/' {
			all = append(all, byte(c))
		}
	}
	return []Entry{
		{Path: ".", Type: Directory, Mode: 0o755, ModTime: Time{1700000000, 1}, Inode: 256, Links: 1},
		{Path: string(all), Type: Regular, Mode: 0o644, Size: math.MaxInt64, SHA256: d("x")},
		{Path: "-", Type: FIFO, ModTime: Time{-2, 5e8}, ChangeTime: Time{-1, 999999999}},
		{Path: "a b", Type: Directory, Mode: 0o7777, UID: math.MaxUint32, GID: math.MaxUint32, Xattrs: d("acl")},
		{Path: "a b/char", Type: CharDevice, Device: unix.Mkdev(1, 3)},
		{Path: "a b/large", Type: BlockDevice, Device: math.MaxUint64},
		{Path: "a b/none", Type: CharDevice},
		{Path: "a b/small", Type: BlockDevice, Device: unix.Mkdev(0, 1)},
		{Path: "a-b", Type: Socket, Inode: math.MaxUint64, Links: math.MaxUint64},
		{Path: "empty", Type: Regular, SHA256: d("")},
		{Path: "link", Type: Symlink, Mode: 0o777, Target: "../" + string(all), ModTime: Time{math.MinInt64, 0}},
		{Path: "unread", Type: Regular, Size: 1, ModTime: Time{math.MaxInt64, 999999999}},
		{Path: strings.Repeat("\xff/", 5000) + "deep", Type: Regular, ModTime: Time{0, 10}},
	}
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	entries := samples()
	slices.SortFunc(entries, func(a, b Entry) int { return Compare(a.Path, b.Path) })
	check(t, entries)
	check(t, nil)
}

func TestRandomEntriesAreReadAsTheyWereWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var entries []Entry
		for range rng.IntN(50) {
			entries = append(entries, randomEntry(rng))
		}
		slices.SortFunc(entries, func(a, b Entry) int { return Compare(a.Path, b.Path) })
		entries = slices.CompactFunc(entries, func(a, b Entry) bool { return a.Path == b.Path })
		check(t, entries)
	}
}

func randomEntry(rng *rand.Rand) Entry {
	e := Entry{
		Path: randomName(rng), Type: types[rng.IntN(len(types))].name, Mode: uint32(rng.IntN(0o10000)), UID: rng.Uint32(), GID: rng.Uint32(),
		ModTime: randomTime(rng), Inode: rng.Uint64() >> rng.IntN(64), Links: rng.Uint64() >> rng.IntN(64), ChangeTime: randomTime(rng),
	}
	for range rng.IntN(4) {
		e.Path += "/" + randomName(rng)
	}
	switch e.Type {
	case Regular:
		e.Size = rng.Int64() >> rng.IntN(63)
		e.SHA256 = sha256.Sum256([]byte(e.Path))
	case Symlink:
		e.Target = randomName(rng) + "/" + randomName(rng)
	case BlockDevice, CharDevice:
		e.Device = rng.Uint64() >> rng.IntN(64)
	}
	if rng.IntN(2) == 0 {
		e.Xattrs = sha256.Sum256([]byte(e.Target))
	}
	return e
}

func randomName(rng *rand.Rand) string {
	name := make([]byte, 1+rng.IntN(8))
	for i := range name {
		for name[i] == 0 || name[i] == '/' || name[i] == '.' {
			name[i] = byte(rng.UintN(256))
		}
	}
	return string(name)
}

func randomTime(rng *rand.Rand) Time {
	return Time{int64(rng.Uint64()) >> rng.IntN(64), rng.Int32N(1e9)}
}

func check(t testing.TB, entries []Entry) {
	t.Helper()
	got, err := read(write(t, entries))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, entries) {
		t.Fatalf("got  %+v\nwant %+v", got, entries)
	}
}

func write(t testing.TB, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b)
	must(t, err)
	for _, e := range entries {
		must(t, w.Write(e))
	}
	must(t, w.Close())
	return b.Bytes()
}

func read(b []byte) ([]Entry, error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAllOf(r)
}

func readAllOf(r *Reader) ([]Entry, error) {
	var entries []Entry
	for {
		e, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
}

func TestWriterRefusesWhatIsOutOfOrderOrTwice(t *testing.T) {
	for _, second := range []string{"b", "a", "a/z", ".", "a-b"} {
		w, err := NewWriter(io.Discard)
		must(t, err)
		must(t, w.Write(Entry{Path: "b", Type: Directory}))
		if err := w.Write(Entry{Path: second, Type: Directory}); !errors.Is(err, ErrOrder) {
			t.Errorf("%q behind \"b\": %v", second, err)
		}
		if err := w.Close(); !errors.Is(err, ErrOrder) {
			t.Errorf("the manifest was ended after an entry was refused: %v", err)
		}
	}
}

func TestWriterRefusesWhatNoTreeHolds(t *testing.T) {
	for _, e := range []Entry{
		{Path: "", Type: Directory}, {Path: "/a", Type: Directory}, {Path: "a/", Type: Directory}, {Path: "a//b", Type: Directory},
		{Path: "..", Type: Directory}, {Path: "a/../b", Type: Directory}, {Path: "./a", Type: Directory}, {Path: "a\x00b", Type: FIFO},
		{Path: ".", Type: Regular}, {Path: "a"}, {Path: "a", Type: "door"}, {Path: "a", Type: FIFO, Mode: 0o10000},
		{Path: "a", Type: Regular, Size: -1}, {Path: "a", Type: Directory, Size: 1}, {Path: "a", Type: FIFO, SHA256: Digest{1}},
		{Path: "a", Type: Symlink}, {Path: "a", Type: FIFO, Target: "b"}, {Path: "a", Type: Symlink, Target: "b\x00"},
		{Path: "a", Type: Regular, Device: 1}, {Path: "a", Type: FIFO, ModTime: Time{0, 1e9}}, {Path: "a", Type: FIFO, ChangeTime: Time{0, -1}},
		{Path: strings.Repeat("\n/", 300_000) + "a", Type: FIFO},
	} {
		w, err := NewWriter(io.Discard)
		must(t, err)
		if err := w.Write(e); err == nil {
			t.Errorf("it wrote %.300q", fmt.Sprint(e))
		}
		if err := w.Close(); err == nil {
			t.Errorf("it ended the manifest without %.300q", fmt.Sprint(e))
		}
	}
}

func TestWriterTellsThatTheDiskIsFull(t *testing.T) {
	w, err := NewWriter(failing{})
	must(t, err)
	must(t, w.Write(Entry{Path: "a", Type: FIFO}))
	if err := w.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, unix.ENOSPC }
