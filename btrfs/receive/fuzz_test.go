package receive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"golang.org/x/sys/unix"
)

// What a fuzzer chooses besides a stream.
const (
	tolerant     = 1 << iota // goes on after commands that fail
	decompresses             // writes what compressed data hold
	anyClone                 // takes data of everything that is known
	asNamed                  // under the name in the stream
)

// FuzzStream receives streams: whatever they hold, nothing but the new subvolume changes, only a whole stream makes a backup, and the
// memory that is taken has a bound.
func FuzzStream(f *testing.F) {
	btrfstest.RequireRoot(f)
	y := newYard(f)
	for _, s := range y.seeds() {
		f.Add(byte(0), slices.Concat(s...))
		f.Add(byte(tolerant|decompresses|anyClone|asNamed), slices.Concat(s...))
	}
	f.Fuzz(func(t *testing.T, chosen byte, commands []byte) {
		y.t = t
		o := receive.Options{Name: "new", Decompress: chosen&decompresses != 0, AnyClone: chosen&anyClone != 0}
		if chosen&tolerant != 0 {
			o.Tolerate = func(error) bool { return true }
		}
		if chosen&asNamed != 0 {
			o.Name = ""
		}
		before := heap()
		_, err := receive.Stream(context.Background(), open(t, y.in), bytes.NewReader(withSums(commands)), o)
		if grown := heap() - before; grown > 100<<20 {
			t.Errorf("%d MiB more were taken", grown>>20)
		}
		made, readErr := os.ReadDir(y.in)
		check(t, readErr)
		for _, e := range made {
			if e.Name() != "parent" {
				y.endOf(e.Name(), err)
			}
		}
		y.isUntouched()
	})
}

func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapSys)
}

// withSums makes a stream of commands whose checksums need not be right. linux/fs/btrfs/send.h: struct btrfs_cmd_header
func withSums(commands []byte) []byte {
	stream := sendstream.Header(3)
	const header = 10
	for len(commands) >= header {
		size := min(int(binary.LittleEndian.Uint32(commands)), len(commands)-header)
		stream = sendstream.AppendCommand(stream, sendstream.CommandType(binary.LittleEndian.Uint16(commands[4:])), commands[header:header+size])
		commands = commands[header+size:]
	}
	return stream
}

// seeds are streams without their headers: good ones, and such as lead out.
func (y *yard) seeds() (all [][][]byte) {
	end := streamtest.Encode(sendstream.CmdEnd)
	begin := streamtest.SnapshotOf(parentUUID)
	all = append(all, slices.Concat([][]byte{streamtest.Subvol()}, y.parent(), [][]byte{end}), [][]byte{begin, end}, nil)
	for _, name := range []string{"../x", "parent", "a/b", "."} {
		all = append(all, [][]byte{streamtest.Encode(sendstream.CmdSubvol, text(sendstream.AttrPath, name), streamtest.UUID(sendstream.AttrUUID, streamtest.OwnUUID),
			number(sendstream.AttrCtransid, 7)), mkfile("f"), end})
	}
	all = append(all, [][]byte{begin, write("f", "more", 5), truncate("f", 3), chmod("f", unix.S_ISUID|0o755), chown("f", 1, 2), setXattr("f", "user.x", "1"),
		removeXattr("f", "user.x"), fileattr("f", noCowItem), fallocate("mine", 0, 0, block), streamtest.CloneFrom(parentUUID, "f"), link("d/l", "f"), move("d", "e"),
		encoded("mine", 0, 1, 0, block, block, []byte("\x78\x9c\x01\x00")), unlink("f"), end})
	for _, path := range []string{"../x", "up/parent/f", "up/parent/x", "out/dir/x", "file", "null", "pipe", "d/../f"} {
		one := [][]byte{begin}
		for kind := sendstream.CmdMkfile; kind <= sendstream.CmdEnableVerity; kind++ {
			if kind != sendstream.CmdEnd {
				one = append(one, pathed(kind, pathsOf(kind)[0], path))
			}
		}
		all = append(all, append(one, end))
	}
	return all
}
