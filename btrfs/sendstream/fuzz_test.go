package sendstream_test

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// seeds returns streams, and what accidents make of them.
func seeds() [][]byte {
	s := small()
	flipped := small()
	flipped[len(s)/2] ^= 4
	v2 := stream(2, subvol, command(15, path("f"), u64(18, 0), attr2([]byte("data"))), end)
	return [][]byte{
		nil, s, v2, flipped, s[:20], append(small(), 'x'),
		slices.Concat(s[:100], s), slices.Concat(s[:150], s[:10], s), slices.Concat(s, v2),
	}
}

func FuzzCopy(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		got, sum, err := copyAll(input)
		if sum.Bytes != int64(len(got)) {
			t.Fatalf("forwarded %d bytes, summary tells %d", len(got), sum.Bytes)
		}
		if commands := wantWhole(t, got); sum.Commands != commands {
			t.Fatalf("forwarded %d commands, summary tells %d", commands, sum.Commands)
		}
		if err != nil {
			return
		}
		again, _, err := copyAll(got)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("does not accept its own output: %v", err)
		}
	})
}

// wantWhole fails unless s is empty or a header with valid commands, which it
// counts.
func wantWhole(t *testing.T, s []byte) int64 {
	t.Helper()
	if len(s) == 0 {
		return 0
	}
	if !bytes.HasPrefix(s, []byte("btrfs-stream\x00")) {
		t.Fatal("forwarded something without stream header")
	}
	var count int64
	for rest := s[17:]; len(rest) > 0; count++ {
		size := 10 + int(le.Uint32(rest))
		want := command(le.Uint16(rest[4:]), rest[10:size])
		if !bytes.Equal(rest[:size], want) {
			t.Fatal("forwarded an invalid command")
		}
		rest = rest[size:]
	}
	return count
}

func FuzzRenamer(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, hidden, 7)
	}
	f.Fuzz(func(t *testing.T, input []byte, name string, size int) {
		if size < 1 || size > 1<<20 {
			return
		}
		var whole, pieces bytes.Buffer
		wholeErr := writeIn(sendstream.NewRenamer(&whole, name), input, max(len(input), 1))
		piecesErr := writeIn(sendstream.NewRenamer(&pieces, name), input, size)
		if (wholeErr == nil) != (piecesErr == nil) || !bytes.Equal(whole.Bytes(), pieces.Bytes()) {
			t.Fatalf("writes of %d bytes make a difference: %v, %v", size, wholeErr, piecesErr)
		}
		if _, _, err := copyAll(input); err != nil || bytes.Count(input, []byte("btrfs-stream")) > 1 {
			return
		}
		if wholeErr == nil {
			wantName(t, whole.Bytes(), name)
		}
	})
}

func wantName(t *testing.T, s []byte, name string) {
	t.Helper()
	sum, err := sendstream.Copy(io.Discard, bytes.NewReader(s))
	if err != nil {
		t.Fatalf("renamed stream is not accepted: %v", err)
	}
	if sum.Name != name {
		t.Fatalf("name is %q, not %q", sum.Name, name)
	}
}
