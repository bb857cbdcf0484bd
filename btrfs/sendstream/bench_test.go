package sendstream_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func BenchmarkCopy(b *testing.B) {
	for name, s := range map[string][]byte{
		"protocol1": stream(1, subvol, writes(64<<20, 48<<10, attrData1), end),
		"protocol2": stream(2, subvol, writes(64<<20, 128<<10, attr2), end),
		"small":     stream(2, subvol, writes(16<<20, 512, attr2), end),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				if _, err := sendstream.Copy(io.Discard, bytes.NewReader(s)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func attrData1(data []byte) []byte { return attr(19, data) }

// writes returns write commands for size bytes in pieces of chunk.
func writes(size, chunk int, data func([]byte) []byte) []byte {
	var out []byte
	piece := bytes.Repeat([]byte("data"), chunk/4)
	for offset := 0; offset < size; offset += chunk {
		out = append(out, command(15, path("dir/file"), u64(18, uint64(offset)), data(piece))...)
	}
	return out
}
