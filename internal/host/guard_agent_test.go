package host_test

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
)

// command is one of a send stream, with attributes of type and text.
func command(kind uint16, attributes ...any) []byte {
	var body []byte
	for i := 0; i < len(attributes); i += 2 {
		value := attributes[i+1].(string)
		body = binary.LittleEndian.AppendUint16(body, uint16(attributes[i].(int)))
		body = append(binary.LittleEndian.AppendUint16(body, uint16(len(value))), value...)
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	out = append(append(binary.LittleEndian.AppendUint16(out, kind), 0, 0, 0, 0), body...)
	binary.LittleEndian.PutUint32(out[6:], ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), out))
	return out
}

func TestAMachineThatSendsAHostileStreamReachesNobody(t *testing.T) {
	btrfstest.RequireRoot(t)
	folder := newDir(t, btrfstest.New(t, testSize).Dir, "folder")
	snapshot(t, newSubvolume(t, folder, "home"), folder+"/s")
	file := filepath.Join(t.TempDir(), "stream")
	t.Setenv(testOnlyStream, file)
	d := open(t, newAgent(t), folder)
	header := append([]byte("btrfs-stream\x00"), 1, 0, 0, 0)
	begin := command(1, 15, "s", 1, "0123456789abcdef", 2, "transid.")
	good, bad := command(3, 15, "inside", 3, "inode..."), command(3, 15, "../outside", 3, "inode...")
	target := open(t, local.New(silent), newDir(t, btrfstest.New(t, testSize).Dir, "backups"))
	for name, test := range map[string]struct {
		stream  []byte
		refused bool
	}{
		"good": {slices.Concat(header, begin, good, command(21)), false},
		"bad":  {slices.Concat(header, begin, good, bad, command(21)), true},
	} {
		check(t, os.WriteFile(file, test.stream, 0o644))
		r, err := target.Receive(t.Context(), host.ReceiveOrder{Name: name})
		check(t, err)
		_, sendErr := d.Send(t.Context(), host.SendOrder{Snapshot: "s"}, r)
		_, err = r.Close(t.Context())
		if !test.refused && cmp.Or(sendErr, err) != nil {
			t.Errorf("%s: %v, %v", name, sendErr, err)
		}
		if test.refused && (err == nil || !strings.Contains(err.Error(), "is no path in a subvolume")) {
			t.Errorf("%s: %v, %v", name, sendErr, err)
		}
		check(t, r.Abort(t.Context()))
		if entries, err := os.ReadDir(target.Status().Path); len(entries) > 0 || err != nil {
			t.Errorf("%s: left are %v, %v", name, entries, err)
		}
	}
}
