package receive_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
)

// Much data is written at once, but not before what precedes it in the stream.
func TestMuchDataIsWrittenInOrder(t *testing.T) {
	t.Parallel()
	at, err := apply(t,
		mkfile("a"), streamtest.Write("a", blocks("aaaaaaaaaa")),
		mkfile("b"), clone("a", 0, 10*block, "b", 0),
		streamtest.Write("a", blocks("bbbbbbbbb")),
		mkfile("c"), streamtest.Write("c", "c"),
		streamtest.Encode(sendstream.CmdTruncate, streamtest.Text(sendstream.AttrPath, "c"), streamtest.Number(sendstream.AttrSize, 0)),
		streamtest.Write("c", blocks("dddddddddd")))
	check(t, err)
	for name, want := range map[string]string{"a": "bbbbbbbbba", "b": "aaaaaaaaaa", "c": "dddddddddd"} {
		got, err := os.ReadFile(filepath.Join(at, name))
		check(t, err)
		if want := blocks(want); string(got) != want {
			t.Errorf("%s has %d bytes, not what was written last: %.20q, want %d of %.20q", name, len(got), strings.Trim(string(got), "\x00"), len(want), want)
		}
	}
}
