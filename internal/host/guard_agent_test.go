package host_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host"
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
	for name, test := range map[string]struct {
		stream  []byte
		refused bool
	}{
		"good": {slices.Concat(header, begin, good, command(21)), false},
		"bad":  {slices.Concat(header, begin, good, bad, command(21)), true},
	} {
		check(t, os.WriteFile(file, test.stream, 0o644))
		var out bytes.Buffer
		_, err := d.Send(t.Context(), host.SendOrder{Snapshot: "s"}, &out)
		if !test.refused && (err != nil || !bytes.Equal(out.Bytes(), test.stream)) {
			t.Errorf("%s: %d of %d bytes: %v", name, out.Len(), len(test.stream), err)
		}
		if test.refused && (err == nil || !strings.Contains(err.Error(), "refused") || bytes.Contains(out.Bytes(), []byte("outside"))) {
			t.Errorf("%s: %q, %v", name, out.Bytes(), err)
		}
	}
}
