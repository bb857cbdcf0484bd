package sendstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// copyAll returns what Copy makes of input.
func copyAll(input []byte) ([]byte, sendstream.Summary, error) {
	var out bytes.Buffer
	sum, err := sendstream.Copy(&out, bytes.NewReader(input))
	return out.Bytes(), sum, err
}

// wantCopied fails unless Copy turned input into want.
func wantCopied(t *testing.T, input, want []byte) sendstream.Summary {
	t.Helper()
	got, sum, err := copyAll(input)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes that differ from the %d wanted", len(got), len(want))
	}
	if sum.Bytes != int64(len(want)) {
		t.Fatalf("summary tells %d bytes, not %d", sum.Bytes, len(want))
	}
	return sum
}

// wantRefused fails unless Copy refused input with target, having forwarded
// nothing but whole commands from the start of good.
func wantRefused(t *testing.T, input, good []byte, target error) {
	t.Helper()
	got, sum, err := copyAll(input)
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
	if sum.Bytes != int64(len(got)) {
		t.Fatalf("summary tells %d bytes, not %d", sum.Bytes, len(got))
	}
	wantProperPrefix(t, got, good)
}

func wantProperPrefix(t *testing.T, got, good []byte) {
	t.Helper()
	if !bytes.HasPrefix(good, got) {
		t.Fatal("forwarded something other than the start of the stream")
	}
	if len(got) > 0 && !slices.Contains(boundaries(good)[1:], len(got)) {
		t.Fatalf("forwarded %d bytes, which do not end with a command", len(got))
	}
}

// boundaries returns where the header and each command but END ends.
func boundaries(s []byte) []int {
	var ends []int
	for at := 17; at < len(s); at += 10 + int(le.Uint32(s[at:])) {
		ends = append(ends, at)
	}
	return ends
}

func large(protocol uint32) []byte {
	data := attrData1
	if protocol == 2 {
		data = attr2
	}
	return stream(protocol, subvol, writes(3<<20, 48<<10, data), command(20, path("")), end)
}

func TestCopyForwardsUnchangedForAnyReadSize(t *testing.T) {
	for _, s := range [][]byte{small(), large(1), large(2)} {
		for _, size := range []int{1, 2, 9, 17, 1000, 65536, 1 << 22} {
			var out bytes.Buffer
			r := &chunkReader{data: s, size: size}
			if _, err := sendstream.Copy(&out, r); err != nil {
				t.Fatalf("reads of %d: %v", size, err)
			}
			if !bytes.Equal(out.Bytes(), s) {
				t.Fatalf("reads of %d: output differs", size)
			}
		}
	}
}

type chunkReader struct {
	data []byte
	size int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.size)], r.data)
	r.data = r.data[n:]
	return n, nil
}

func TestCopyAcceptsEOFTogetherWithData(t *testing.T) {
	var out bytes.Buffer
	s := small()
	if _, err := sendstream.Copy(&out, iotest.DataErrReader(bytes.NewReader(s))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), s) {
		t.Fatal("output differs")
	}
}

func TestCopyTellsIdentity(t *testing.T) {
	sum := wantCopied(t, small(), small())
	want := sendstream.Summary{
		Protocol: 1, Bytes: int64(len(small())), Commands: 6,
		Name: "home", UUID: [16]byte(testUUID), TransID: 42,
		ParentUUID: [16]byte(parentUUID), ParentTransID: 41,
	}
	if sum != want {
		t.Fatalf("got %+v, want %+v", sum, want)
	}
}

func TestCopyRejectsEveryFlippedBit(t *testing.T) {
	s := small()
	for i := range len(s) * 8 {
		if i == 13*8+1 { // no checksum covers the protocol, which is 3 then
			continue
		}
		bad := slices.Clone(s)
		bad[i/8] ^= 1 << (i % 8)
		got, _, err := copyAll(bad)
		if err == nil {
			t.Fatalf("bit %d of byte %d: no error", i%8, i/8)
		}
		wantProperPrefix(t, got, s)
	}
}

func TestCopyRejectsTruncationAtEveryByte(t *testing.T) {
	s := small()
	for n := 1; n < len(s); n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			wantRefused(t, s[:n], s, sendstream.ErrTruncated)
		})
	}
}

func TestCopyRejects(t *testing.T) {
	s := small()
	huge := command(15, attr2(make([]byte, 300<<10)))
	tests := map[string]struct {
		input, good []byte
		want        error
	}{
		"nothing":              {nil, nil, sendstream.ErrEmpty},
		"byte behind END":      {append(small(), 0), s, sendstream.ErrCorrupt},
		"command behind END":   {slices.Concat(s, subvol), s, sendstream.ErrCorrupt},
		"second END":           {slices.Concat(s, end), s, sendstream.ErrCorrupt},
		"protocol 0":           {stream(0, subvol, end), nil, sendstream.ErrUnsupported},
		"protocol 4":           {stream(4, subvol, end), nil, sendstream.ErrUnsupported},
		"other file":           {bytes.Repeat([]byte("text\n"), 100), nil, sendstream.ErrCorrupt},
		"first command":        {stream(1, command(4, subvol[10:]), end), nil, sendstream.ErrCorrupt},
		"END alone":            {stream(1, end), nil, sendstream.ErrCorrupt},
		"subvol without name":  {stream(1, command(1, attr(1, testUUID), u64(2, 1)), end), nil, sendstream.ErrCorrupt},
		"subvol with bad UUID": {stream(1, command(1, path("a"), attr(1, nil), u64(2, 1)), end), nil, sendstream.ErrCorrupt},
		"too long command":     {stream(2, subvol, huge, end), stream(2, subvol, end), sendstream.ErrCorrupt},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { wantRefused(t, tt.input, tt.good, tt.want) })
	}
}

func TestCopyTellsWhereCorruptionIs(t *testing.T) {
	s := small()
	s[17+len(snapshot)+12] ^= 1
	_, _, err := copyAll(s)
	want := fmt.Sprintf("at byte %d", 17+len(snapshot))
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
		t.Fatalf("error %q does not say %q", err, want)
	}
}

func TestCopyWithholdsENDUntilEOF(t *testing.T) {
	s := small()
	var out bytes.Buffer
	failure := errors.New("sender died")
	r := io.MultiReader(bytes.NewReader(s), iotest.ErrReader(failure))
	_, err := sendstream.Copy(&out, r)

	var readErr *sendstream.ReadError
	if !errors.As(err, &readErr) || !errors.Is(err, failure) {
		t.Fatalf("got error %v, want a ReadError of %v", err, failure)
	}
	if want := s[:len(s)-len(end)]; !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("forwarded %d bytes, want the %d before END", out.Len(), len(want))
	}
}

func TestCopyDoesNotSitOnData(t *testing.T) {
	s := small()
	pr, pw := io.Pipe()
	defer pr.Close()
	var out batches
	done := make(chan error)
	go func() {
		_, err := sendstream.Copy(&out, pr)
		done <- err
	}()
	cuts := boundaries(s)
	at := 0
	for _, cut := range cuts[1:] {
		// A pipe takes the next Write only after Copy is done with the last.
		pw.Write(s[at:cut])
		pw.Write(nil)
		at = cut
	}
	pw.Write(s[at:])
	pw.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(out) != len(cuts) {
		t.Fatalf("%d writes for %d commands that came one by one", len(out), len(cuts))
	}
}

// batches records each Write.
type batches [][]byte

func (b *batches) Write(p []byte) (int, error) {
	*b = append(*b, slices.Clone(p))
	return len(p), nil
}

func TestCopyWritesWholeCommands(t *testing.T) {
	s := large(2)
	for _, size := range []int{1, 1000, 100_000, 1 << 22} {
		var out batches
		if _, err := sendstream.Copy(&out, &chunkReader{data: s, size: size}); err != nil {
			t.Fatal(err)
		}
		if len(out[0]) < 17+len(subvol) {
			t.Fatalf("reads of %d: first write has no complete command", size)
		}
		ends, at := boundaries(s), 0
		for _, batch := range out[:len(out)-1] {
			at += len(batch)
			if !slices.Contains(ends, at) {
				t.Fatalf("reads of %d: a write ends within a command, at %d", size, at)
			}
		}
	}
}

func TestCopyTellsDestinationFailure(t *testing.T) {
	full := errors.New("disk full")
	for name, w := range map[string]struct {
		w    io.Writer
		want error
	}{
		"error":       {failingWriter{full}, full},
		"short write": {failingWriter{nil}, io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			sum, err := sendstream.Copy(w.w, bytes.NewReader(small()))
			var writeErr *sendstream.WriteError
			if !errors.As(err, &writeErr) || !errors.Is(err, w.want) {
				t.Fatalf("got error %v, want a WriteError of %v", err, w.want)
			}
			if sum.Bytes != 0 {
				t.Fatalf("summary tells %d bytes written", sum.Bytes)
			}
		})
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCopyGivesUpOnReaderWithoutProgress(t *testing.T) {
	_, err := sendstream.Copy(io.Discard, idleReader{})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("got error %v", err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }
