package sendstream_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func TestStreamsBehindEachOtherAreReadOneByOne(t *testing.T) {
	all := [][]byte{small(), large(1), large(2), small()}
	readers := map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader}
	for name, reader := range readers {
		for _, skip := range []bool{false, true} {
			s := sendstream.NewSplitter(reader(bytes.NewReader(slices.Concat(all...))))
			for i, want := range all {
				if more, err := s.Next(); !more || err != nil {
					t.Fatalf("%s: no stream %d: %v", name, i, err)
				}
				if head, err := s.Head(); err != nil || head.UUID != [16]byte(testUUID) || head.Protocol == 0 {
					t.Errorf("%s: stream %d is %+v, %v", name, i, head, err)
				}
				if skip {
					continue
				}
				if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: stream %d has %d bytes of %d, %v", name, i, len(got), len(want), err)
				}
			}
			if more, err := s.Next(); more || err != nil {
				t.Errorf("%s: another stream, %v", name, err)
			}
		}
	}
}

func TestWhatASenderLeavesOutBetweenStreamsIsPutIn(t *testing.T) {
	one := small()
	header, end := one[:17], len(one)-10 // linux/fs/btrfs/send.h: struct btrfs_stream_header, struct btrfs_cmd_header
	for name, reader := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
		joined := slices.Concat(one[:end], one[len(header):end], one[len(header):])
		s := sendstream.NewSplitter(reader(bytes.NewReader(joined)))
		for i := range 3 {
			if more, err := s.Next(); !more || err != nil || s.Joint() != (i > 0) {
				t.Fatalf("%s: no stream %d: %v", name, i, err)
			}
			if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, one) {
				t.Errorf("%s: stream %d has %d bytes of %d, %v", name, i, len(got), len(one), err)
			}
		}
		if more, err := s.Next(); more || err != nil {
			t.Errorf("%s: another stream, %v", name, err)
		}
	}
}

func TestWhatMakesNoSenseIsPassedOnAsItIs(t *testing.T) {
	good := large(1)
	for name, bad := range map[string][]byte{
		"cut":       good[:len(good)-4],
		"a length":  slices.Concat(good[:100], []byte{0xff, 0xff, 0xff, 0xff}, good[104:]),
		"an end":    slices.Concat(good[:len(good)-1], []byte{0xff}, good),
		"restarted": slices.Concat(good[:len(good)/2], good),
		"rubbish":   bytes.Repeat([]byte("rubbish"), 1000),
	} {
		s := sendstream.NewSplitter(bytes.NewReader(bad))
		if more, err := s.Next(); !more || err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.HasPrefix(bad, got) || name != "restarted" && len(got) != len(bad) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(bad), err)
		}
	}
	s := sendstream.NewSplitter(bytes.NewReader([]byte("btrfs-str")))
	_, _ = s.Next()
	if _, err := s.Head(); !errors.Is(err, sendstream.ErrTruncated) {
		t.Error(err)
	}
}

// failing fails once between two pieces, as a reader may that goes on behind an error.
type failing struct{ pieces [][]byte }

func (f *failing) Read(p []byte) (int, error) {
	if len(f.pieces) == 0 {
		return 0, io.EOF
	}
	piece := f.pieces[0]
	f.pieces = f.pieces[1:]
	if piece == nil {
		return 0, io.ErrNoProgress
	}
	return copy(p, piece), nil
}

func TestSplitterTellsOfAFailureBetweenTwoCommands(t *testing.T) {
	whole := small()
	for _, at := range []int{0, 17, len(whole) - 10} {
		s := sendstream.NewSplitter(&failing{[][]byte{whole[:at:at], nil, whole[at:]}})
		_, err := s.Next()
		if err == nil {
			_, err = io.ReadAll(s)
		}
		if !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("behind %d bytes: %v", at, err)
		}
	}
}
