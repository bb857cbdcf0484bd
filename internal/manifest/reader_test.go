package manifest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const (
	testRoot = ". type=dir mode=0755 uid=0 gid=0 time=0.000000000\n"
	testFile = "./a type=file mode=0644 uid=0 gid=0 size=1 time=0.000000000\n"
)

// compress gives a manifest of any text.
func compress(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	must(t, err)
	_, err = io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func TestReaderPassesOverWhatItDoesNotKnow(t *testing.T) {
	entries, err := read(compress(t, "#mtree\n"+strings.TrimSpace(testRoot)+" flags=none optional tags=x:1,inode:7,y\n#end 1\n"))
	if want := []Entry{{Path: ".", Type: Directory, Mode: 0o755, Inode: 7}}; err != nil || !slices.Equal(entries, want) {
		t.Errorf("got %+v, %v", entries, err)
	}
}

func TestReaderRefusesWhatNoWriterWrites(t *testing.T) {
	file := strings.TrimSpace(testFile)
	for _, c := range []struct{ text, because string }{
		{"", "line 1: the manifest was cut off"},
		{"#mtree", "line 1: the manifest was cut off"},
		{"#mtree\n", "line 2: the manifest was cut off"},
		{"#mtree v2\n#end 0\n", "line 1: not a manifest"},
		{"#mtree\n" + testRoot, "line 3: the manifest was cut off"},
		{"#mtree\n" + testRoot + "#end 1", "line 3: the manifest was cut off"},
		{"#mtree\n" + testRoot + "#end 2\n", "line 3: 1 entries instead of 2"},
		{"#mtree\n" + testRoot + "#end 01\n", "line 3: 1 entries instead of 01"},
		{"#mtree\n" + testRoot + "#end 1\n\n", "line 3: something follows the end"},
		{"#mtree\n" + testRoot + testFile + testFile + "#end 3\n", `line 4: "a": not in order behind "a"`},
		{"#mtree\n" + testFile + testRoot + "#end 2\n", `line 3: ".": not in order behind "a"`},
		{"#mtree\n\n#end 0\n", `line 2: "": not an entry`},
		{"#mtree\n#comment\n#end 0\n", `line 2: "#comment": not an entry`},
		{"#mtree\n/set type=file\n#end 0\n", `line 2: "/set": not an entry`},
		{"#mtree\n" + strings.Repeat("a", 2*maxLine) + "\n#end 0\n", "line 2: the line is too long"},
		{entry("./a", "./../a"), "not a path"},
		{entry("./a", "./a/.."), "not a path"},
		{entry("./a", "./a/\\056\\056/b"), "not a path"},
		{entry("./a", ".//a"), "not a path"},
		{entry("./a", "./a/"), "not a path"},
		{entry("./a", "./"), "not a path"},
		{entry("./a", "./\\056"), "not how the root is written"},
		{entry("./a", "./\\057a"), "not a path"},
		{entry("./a", "./a\\000b"), "not a path"},
		{entry("./a", "/a"), "not an entry"},
		{entry("./a", "a"), "not an entry"},
		{entry("./a", "./a\\4"), "escape"},
		{entry("./a", "./a\\400"), "escape"},
		{entry("./a", "./a\\08x"), "escape"},
		{entry("type=file", "type=door"), "unknown type"},
		{entry("type=file", "type=dir"), "do not belong"},
		{entry("type=file ", ""), "missing"},
		{entry("mode=0644 ", ""), "missing"},
		{entry("uid=0 ", ""), "missing"},
		{entry("gid=0 ", ""), "missing"},
		{entry("size=1 ", ""), "missing"},
		{entry(" time=0.000000000", ""), "missing"},
		{entry("type=file", "type=link"), "missing"},
		{entry("type=file mode=0644 uid=0 gid=0 size=1", "type=char mode=0644 uid=0 gid=0"), "missing"},
		{entry("size=1", "size=1 size=1"), "size is given twice"},
		{entry("size=1", "size=1 tags=inode:1,inode:1"), "inode is given twice"},
		{entry("size=1", "size=1 tags=inode:1 tags=links:1"), "tags is given twice"},
		{entry("mode=0644", "mode=0648"), "not a number"},
		{entry("mode=0644", "mode=10000"), "mode 10000 out of range"},
		{entry("uid=0", "uid=4294967296"), "not a number"},
		{entry("uid=0", "uid=-1"), "not a number"},
		{entry("uid=0", "uid="), "not a number"},
		{entry("size=1", "size=9223372036854775808"), "not a number"},
		{entry("size=1", "size=1 link=x"), "do not belong"},
		{entry("time=0.000000000", "time=9223372036854775808.000000000"), "not a number"},
		{entry("time=0.000000000", "time=-9223372036854775809.000000000"), "not a number"},
		{entry("time=0.000000000", "time=0.5"), "not a number"},
		{entry("time=0.000000000", "time=0"), "not a number"},
		{entry("time=0.000000000", "time=--1.000000000"), "not a number"},
		{entry("size=1", "size=1 sha256digest=00"), "not a SHA-256"},
		{entry("size=1", "size=1 sha256digest="+strings.Repeat("x", 64)), "invalid byte"},
		{entry("type=file mode=0644 uid=0 gid=0 size=1", "type=char mode=0644 uid=0 gid=0 device=1,3"), "not of the form"},
		{entry("type=file mode=0644 uid=0 gid=0 size=1", "type=char mode=0644 uid=0 gid=0 device=native,1"), "not a number"},
		{entry("type=file mode=0644 uid=0 gid=0 size=1", "type=char mode=0644 uid=0 gid=0 device=native,1,2,3"), "not a number"},
	} {
		if _, err := read(compress(t, c.text)); err == nil || !strings.Contains(err.Error(), c.because) {
			t.Errorf("%.200q:\n got %v\nwant %s", c.text, err, c.because)
		}
	}
	if _, err := read(compress(t, "#mtree\n"+file+"\n#end 1\n")); err != nil {
		t.Errorf("what all of these are made of is refused as well: %v", err)
	}
}

// entry gives a manifest of one file with something replaced.
func entry(what, by string) string {
	return "#mtree\n" + strings.Replace(testFile, what, by, 1) + "#end 1\n"
}

func TestReaderTellsOfATruncationAtEveryByte(t *testing.T) {
	whole := write(t, few())
	for n := range whole {
		if _, err := read(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for the whole", n, len(whole))
		}
	}
}

func TestReaderTellsOfAFlippedBit(t *testing.T) {
	entries := few()
	whole := write(t, entries)
	for i := range whole {
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << bit
			if got, err := read(flipped); err == nil && !slices.Equal(got, entries) {
				t.Errorf("with bit %d of byte %d flipped, other entries are read", bit, i)
			}
		}
	}
}

// few are the samples that fit in a small manifest.
func few() []Entry { return samples()[2:12] }

func TestReaderTellsOfWhatFollowsTheEnd(t *testing.T) {
	whole := write(t, few())
	for _, more := range [][]byte{{0}, []byte("junk, and more of it"), whole[:2], whole[:len(whole)-1], whole} {
		if _, err := read(slices.Concat(whole, more)); err == nil {
			t.Errorf("%d bytes behind the end went unnoticed", len(more))
		}
	}
}

func TestReaderRefusesAFileThatTakesMuchMemory(t *testing.T) {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20))
	must(t, err)
	for range 100 {
		_, err := w.Write(make([]byte, 1<<20))
		must(t, err)
	}
	must(t, w.Close())
	if _, err := read(b.Bytes()); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("#mtree\n" + testRoot + testFile + "#end 2\n"))
	f.Add(asText(f, few()))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := readText(text)
		if err != nil {
			return
		}
		again, err := readText(asText(t, entries))
		if err != nil || !slices.Equal(again, entries) {
			t.Errorf("written and read again, it is %+v, %v, instead of %+v", again, err, entries)
		}
	})
}

func FuzzReaderCompressed(f *testing.F) {
	f.Add(write(f, few()))
	f.Fuzz(func(t *testing.T, compressed []byte) {
		if entries, err := read(compressed); err == nil {
			check(t, entries)
		}
	})
}

type textCloser struct{ bytes.Buffer }

func (*textCloser) Close() error { return nil }

func asText(t testing.TB, entries []Entry) []byte {
	t.Helper()
	var b textCloser
	w := newWriter(&b)
	for _, e := range entries {
		must(t, w.Write(e))
	}
	must(t, w.Close())
	return b.Bytes()
}

func readText(text []byte) ([]Entry, error) {
	return readAllOf(newReader(bytes.NewReader(text), func() {}))
}
