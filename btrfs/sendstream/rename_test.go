package sendstream_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

const hidden = ".home.incoming"

// renamed is small() with the name that is asked for in these tests.
func renamed() []byte {
	s := small()
	first := command(2, path(hidden), attr(1, testUUID), u64(2, 42), attr(20, parentUUID), u64(21, 41))
	return slices.Concat(s[:17], first, s[17+len(snapshot):])
}

// writeIn writes data to w in pieces of size bytes.
func writeIn(w io.Writer, data []byte, size int) error {
	for piece := range slices.Chunk(data, size) {
		n, err := w.Write(piece)
		if err != nil {
			return err
		}
		if n != len(piece) {
			return io.ErrShortWrite
		}
	}
	return nil
}

func TestRenamerReplacesOnlyTheName(t *testing.T) {
	s := small()
	for size := 1; size <= len(s); size++ {
		var out bytes.Buffer
		if err := writeIn(sendstream.NewRenamer(&out, hidden), s, size); err != nil {
			t.Fatalf("writes of %d: %v", size, err)
		}
		if !bytes.Equal(out.Bytes(), renamed()) {
			t.Fatalf("writes of %d: got %q", size, out.Bytes())
		}
	}
}

func TestRenamerPassesTheRestWithoutCopying(t *testing.T) {
	s := small()
	var last []byte
	w := sendstream.NewRenamer(writerFunc(func(p []byte) (int, error) {
		last = p
		return len(p), nil
	}), hidden)
	if _, err := w.Write(s); err != nil {
		t.Fatal(err)
	}
	if &last[len(last)-1] != &s[len(s)-1] {
		t.Fatal("what follows the first command was copied")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRenamerHoldsBackIncompleteFirstCommand(t *testing.T) {
	var out bytes.Buffer
	head := small()[:17+len(snapshot)-1]
	if n, err := sendstream.NewRenamer(&out, hidden).Write(head); n != len(head) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(head), err)
	}
	if out.Len() > 0 {
		t.Fatalf("passed on %d bytes", out.Len())
	}
}

func TestRenamerRefusesNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00b", strings.Repeat("n", 256)} {
		var out bytes.Buffer
		n, err := sendstream.NewRenamer(&out, name).Write(small())
		if n != 0 || err == nil || out.Len() > 0 {
			t.Errorf("%q: wrote %d bytes, error %v", name, out.Len(), err)
		}
	}
	longest := strings.Repeat("n", 255)
	if err := writeIn(sendstream.NewRenamer(io.Discard, longest), small(), 100); err != nil {
		t.Errorf("name of 255 bytes: %v", err)
	}
}

func TestRenamerRefusesStreams(t *testing.T) {
	flipped := small()
	flipped[40] ^= 1
	tests := map[string]struct {
		input []byte
		want  error
	}{
		"other file":       {bytes.Repeat([]byte("text\n"), 100), sendstream.ErrCorrupt},
		"protocol 4":       {stream(4, subvol), sendstream.ErrUnsupported},
		"mkdir first":      {stream(1, command(4, path("d"))), sendstream.ErrCorrupt},
		"without name":     {stream(1, command(1, u64(2, 1))), sendstream.ErrCorrupt},
		"flipped bit":      {flipped, sendstream.ErrCorrupt},
		"too long command": {stream(2, command(1, path("a"), attr2(make([]byte, 300<<10)))), sendstream.ErrCorrupt},
		"bad attribute":    {stream(1, command(1, path("a"), []byte{1, 0, 9})), sendstream.ErrCorrupt},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := sendstream.NewRenamer(&out, hidden)
			if err := writeIn(w, tt.input, 7); !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if _, err := w.Write(small()); err == nil {
				t.Fatal("goes on after a failure")
			}
			if out.Len() > 0 {
				t.Fatalf("passed on %q", out.Bytes())
			}
		})
	}
}

func TestRenamerCountsInputBytes(t *testing.T) {
	s := small()
	full := errors.New("disk full")
	for name, tt := range map[string]struct {
		room int // writes that succeed
		want int
	}{
		"head fails": {0, 0},
		"rest fails": {1, 17 + len(snapshot)},
		"succeeds":   {2, len(s)},
	} {
		t.Run(name, func(t *testing.T) {
			room := tt.room
			w := sendstream.NewRenamer(writerFunc(func(p []byte) (int, error) {
				if room == 0 {
					return 0, full
				}
				room--
				return len(p), nil
			}), hidden)
			n, err := w.Write(s)
			if n != tt.want || (err != nil) != (tt.want < len(s)) {
				t.Fatalf("wrote %d bytes, error %v; want %d", n, err, tt.want)
			}
		})
	}
}

func TestRenamerDoesNotGoOnWithoutItsHead(t *testing.T) {
	var out bytes.Buffer
	broken := true
	w := sendstream.NewRenamer(writerFunc(func(p []byte) (int, error) {
		if broken {
			return 0, errors.New("disk full")
		}
		return out.Write(p)
	}), hidden)
	w.Write(small())
	broken = false
	if n, err := w.Write(small()); n != 0 || err == nil || out.Len() > 0 {
		t.Fatalf("wrote %d bytes, error %v, passed on %d", n, err, out.Len())
	}
}
