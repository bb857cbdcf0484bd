package sendstream_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// prefixOf identifies data as the beginning of a stream.
func prefixOf(t testing.TB, data []byte) sendstream.Prefix {
	t.Helper()
	c := sendstream.NewPrefixCounter(io.Discard)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	return c.Prefix()
}

// remainder writes data in pieces of a size to a Remainder and returns what came through it.
func remainder(data []byte, prefix sendstream.Prefix, size int) ([]byte, error) {
	var out bytes.Buffer
	r := sendstream.NewRemainder(&out, prefix)
	for at := 0; at < len(data); at += size {
		piece := data[at:min(at+size, len(data))]
		if n, err := r.Write(piece); err != nil {
			return out.Bytes(), err
		} else if n != len(piece) {
			return out.Bytes(), io.ErrShortWrite
		}
	}
	return out.Bytes(), r.Close()
}

func TestRemainderIsWhatFollowsThePrefixWhereverWritesAreSplit(t *testing.T) {
	s := small()
	for known := 0; known <= len(s); known++ {
		prefix := prefixOf(t, s[:known])
		for _, size := range []int{1, 7, max(known, 1), known + 1, len(s)} {
			got, err := remainder(s, prefix, size)
			if err != nil || !bytes.Equal(got, s[known:]) {
				t.Fatalf("writes of %d after %d bytes: %d bytes came through, want %d; error: %v", size, known, len(got), len(s)-known, err)
			}
		}
	}
}

func TestRemainderOfAnotherStreamIsNothing(t *testing.T) {
	s := small()
	for _, at := range []int{0, 50, 99} {
		other := bytes.Clone(s[:100])
		other[at] ^= 1
		prefix := prefixOf(t, other)
		for _, size := range []int{1, 99, 100, 101, len(s)} {
			if got, err := remainder(s, prefix, size); !errors.Is(err, sendstream.ErrPrefixDiffers) || len(got) > 0 {
				t.Errorf("byte %d differs, writes of %d: %d bytes came through, error: %v", at, size, len(got), err)
			}
		}
	}
	var out bytes.Buffer
	r := sendstream.NewRemainder(&out, sendstream.Prefix{Bytes: 10})
	for range 2 { // for good
		if n, err := r.Write(s[:20]); n != 0 || !errors.Is(err, sendstream.ErrPrefixDiffers) {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := r.Close(); !errors.Is(err, sendstream.ErrPrefixDiffers) || out.Len() > 0 {
		t.Errorf("%d bytes came through, error at the end: %v", out.Len(), err)
	}
}

func TestRemainderOfAStreamThatIsShorterThanThePrefixFailsAtTheEnd(t *testing.T) {
	s := small()
	for _, length := range []int{0, 1, len(s) - 1} {
		if got, err := remainder(s[:length], prefixOf(t, s), 10); !errors.Is(err, sendstream.ErrPrefixDiffers) || len(got) > 0 {
			t.Errorf("%d of %d bytes: %d came through, error: %v", length, len(s), len(got), err)
		}
	}
}

func TestRemainderAfterNothingIsTheWholeStream(t *testing.T) {
	got, err := remainder(small(), sendstream.Prefix{}, 10) // the hash of nothing is not asked for
	if err != nil || !bytes.Equal(got, small()) {
		t.Errorf("%d bytes came through, error: %v", len(got), err)
	}
}

func TestRemainderTellsWhatTheWriterTook(t *testing.T) {
	s := small()
	r := sendstream.NewRemainder(&fullWriter{left: 25}, prefixOf(t, s[:10]))
	if n, err := r.Write(s[:40]); n != 10+25 || !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := r.Write(s[40:]); n != 0 || !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("after a failure: %d, %v", n, err)
	}
	if err := r.Close(); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("at the end: %v", err)
	}
}

func TestPrefixCounterCountsOnlyWhatTheWriterTook(t *testing.T) {
	s := small()
	w := &fullWriter{left: 55}
	c := sendstream.NewPrefixCounter(w)
	for at := 0; at < 100; at += 10 {
		if _, err := c.Write(s[at : at+10]); (err == nil) != (at < 50) {
			t.Errorf("at byte %d: %v", at, err)
		}
	}
	if got, want := c.Prefix(), prefixOf(t, s[:55]); got != want || got.Bytes != 55 {
		t.Errorf("%d bytes, %x, want %d, %x", got.Bytes, got.XXH3, want.Bytes, want.XXH3)
	}
}

func TestPrefixesAreEqualForEqualBytesOnly(t *testing.T) {
	s := small()
	whole, again := prefixOf(t, s), sendstream.NewPrefixCounter(io.Discard)
	for at := range s {
		if _, err := again.Write(s[at : at+1]); err != nil {
			t.Fatal(err)
		}
		if same := again.Prefix() == whole; same != (at == len(s)-1) {
			t.Fatalf("the first %d of %d bytes: same prefix %t", at+1, len(s), same)
		}
	}
}

// fullWriter takes a few bytes and then fails.
type fullWriter struct{ left int }

func (w *fullWriter) Write(p []byte) (int, error) {
	n := min(w.left, len(p))
	w.left -= n
	if n < len(p) {
		return n, iotest.ErrTimeout
	}
	return n, nil
}
