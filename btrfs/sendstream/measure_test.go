package sendstream_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func updateExtent(size uint64) []byte {
	return command(22, path("dir/file"), u64(18, 0), u64(4, size))
}

func TestMeasureCountsWritesForExtents(t *testing.T) {
	for protocol, kind := range map[uint32]struct {
		chunk int
		data  func([]byte) []byte
	}{1: {48 << 10, attrData1}, 2: {128 << 10, attr2}} {
		for _, size := range []int{0, 1, kind.chunk - 1, kind.chunk, kind.chunk + 1, 7*kind.chunk + 5} {
			var commands []byte
			for left := size; left > 0; left -= kind.chunk {
				data := make([]byte, min(left, kind.chunk))
				commands = append(commands, command(15, path("dir/file"), u64(18, 0), kind.data(data))...)
			}
			want := len(stream(protocol, subvol, commands, end))
			s := stream(protocol, subvol, updateExtent(uint64(size)), end)
			got, err := sendstream.Measure(bytes.NewReader(s))
			if err != nil || got != int64(want) {
				t.Errorf("protocol %d, %d bytes: got %d, want %d, error %v", protocol, size, got, want, err)
			}
		}
	}
}

func TestMeasureRefusesBadStreams(t *testing.T) {
	s := small()
	flipped := small()
	flipped[60] ^= 1
	for name, tt := range map[string]struct {
		input []byte
		want  error
	}{
		"nothing":   {nil, sendstream.ErrEmpty},
		"truncated": {s[:len(s)-1], sendstream.ErrTruncated},
		"flipped":   {flipped, sendstream.ErrCorrupt},
		"no path":   {stream(1, subvol, command(22, u64(18, 0), u64(4, 1)), end), sendstream.ErrCorrupt},
		"no size":   {stream(1, subvol, command(22, path("f"), u64(18, 0)), end), sendstream.ErrCorrupt},
		"huge":      {stream(1, subvol, updateExtent(math.MaxUint64), end), sendstream.ErrCorrupt},
		"huge sum": {stream(1, subvol, updateExtent(1<<61), updateExtent(1<<61), updateExtent(1<<61),
			updateExtent(1<<61), end), sendstream.ErrCorrupt},
	} {
		if n, err := sendstream.Measure(bytes.NewReader(tt.input)); n != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %d, error %v", name, n, err)
		}
	}
}
