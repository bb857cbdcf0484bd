package changes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// command makes a command with the right checksum.
func command(kind sendstream.CommandType, attributes ...any) []byte {
	c := binary.LittleEndian.AppendUint16(make([]byte, 4), uint16(kind))
	c = append(c, 0, 0, 0, 0)
	for i := 0; i < len(attributes); i += 2 {
		value := attributes[i+1].(string)
		c = binary.LittleEndian.AppendUint16(c, uint16(attributes[i].(sendstream.AttrType)))
		c = binary.LittleEndian.AppendUint16(c, uint16(len(value)))
		c = append(c, value...)
	}
	binary.LittleEndian.PutUint32(c, uint32(len(c)-10))
	binary.LittleEndian.PutUint32(c[6:], ^crc32.Update(^uint32(0), castagnoli, c)) // linux/fs/btrfs/send.c: send_cmd
	return c
}

// stream makes one that builds upon a subvolume.
func stream(commands ...[]byte) []byte {
	s := []byte("btrfs-stream\x00\x01\x00\x00\x00")
	s = append(s, command(sendstream.CmdSnapshot, sendstream.AttrPath, "s", sendstream.AttrUUID, strings.Repeat("u", 16),
		sendstream.AttrCtransid, "12345678", sendstream.AttrCloneUUID, strings.Repeat("c", 16), sendstream.AttrCloneCtransid, "12345678")...)
	return append(append(s, bytes.Join(commands, nil)...), command(sendstream.CmdEnd)...)
}

// anything is a tree that holds whatever it is asked about, but for one path.
type anything struct{}

func (anything) Stat(path string) (manifest.Entry, error) {
	if path == "none" {
		return manifest.Entry{}, fs.ErrNotExist
	}
	return manifest.Entry{Path: path, Type: manifest.Regular, Inode: uint64(len(path)), Links: uint64(len(path) % 3)}, nil
}

func (anything) Names(inode uint64) ([]string, error) {
	return []string{strings.Repeat("x", int(inode%300)), "a/b"}, nil
}

func path(p string) []any   { return []any{sendstream.AttrPath, p} }
func to(p, to string) []any { return append(path(p), sendstream.AttrPathTo, to) }

func TestStreamsThatCannotBeAreRefused(t *testing.T) {
	long := strings.Repeat("x/", 2047) + "y"
	for name, s := range map[string][]byte{
		"no path":           stream(command(sendstream.CmdMkfile)),
		"a path out of it":  stream(command(sendstream.CmdMkfile, path("../x")...)),
		"an empty name":     stream(command(sendstream.CmdMkfile, path("a//b")...)),
		"an absolute path":  stream(command(sendstream.CmdUnlink, path("/etc/passwd")...)),
		"a name with NUL":   stream(command(sendstream.CmdMkdir, path("a\x00b")...)),
		"a long name":       stream(command(sendstream.CmdMkdir, path(strings.Repeat("n", 256))...)),
		"a long path":       stream(command(sendstream.CmdUnlink, path(long+"/z")...)),
		"the root renamed":  stream(command(sendstream.CmdRename, to("", "x")...)),
		"the root deleted":  stream(command(sendstream.CmdRmdir, path("")...)),
		"into itself":       stream(command(sendstream.CmdMkdir, path("a")...), command(sendstream.CmdRename, to("a", "a/b")...)),
		"in a new one":      stream(command(sendstream.CmdMkdir, path("a")...), command(sendstream.CmdUnlink, path("a/b")...)),
		"deleted twice":     stream(command(sendstream.CmdUnlink, path("a")...), command(sendstream.CmdUnlink, path("a")...)),
		"below what's gone": stream(command(sendstream.CmdRmdir, path("a")...), command(sendstream.CmdMkfile, path("a/b")...)),
		"a second start":    stream(command(sendstream.CmdSubvol, path("s")...)),
		"an unknown one":    stream(command(200, path("s")...)),
		"cut off":           stream(command(sendstream.CmdUnlink, path("a")...))[:80],
	} {
		if all, err := Of(bytes.NewReader(s), anything{}, anything{}); err == nil {
			t.Errorf("%s: %+v", name, all)
		}
	}
}

func TestMemoryIsLimited(t *testing.T) {
	var commands [][]byte
	for _, c := range "abcdef" {
		commands = append(commands, command(sendstream.CmdUnlink, path(string(c)+strings.Repeat("/x", 1000))...))
	}
	if _, err := fold(bytes.NewReader(stream(commands...)), 5000); !errors.Is(err, errTooMany) {
		t.Errorf("the error is %v", err)
	}
	if _, err := fold(bytes.NewReader(stream(commands...)), 7000); err != nil {
		t.Error(err)
	}
	commands = nil
	for range 5000 { // names for a while are forgotten
		commands = append(commands, command(sendstream.CmdRename, to("a", "o1-2-3")...), command(sendstream.CmdRename, to("o1-2-3", "a")...))
	}
	if _, err := fold(bytes.NewReader(stream(commands...)), 10); err != nil {
		t.Error(err)
	}
}

func FuzzOf(f *testing.F) {
	f.Add([]byte("\x07a\x00\x00\x03b\x00\x01\x09a\x00b\x0aa\x00b"))
	f.Add([]byte("\x09a/b\x00c\x0ac/d\x00a/b\x0ca/b\x00\x12c\x00\x16c\x00"))
	f.Add([]byte("\x04a\x00\x09a\x00b\x04a\x00\x09b/x\x00a/x\x0db\x00\x14a\x00"))
	kinds := []sendstream.CommandType{sendstream.CmdRename, sendstream.CmdLink}
	f.Fuzz(func(t *testing.T, program []byte) {
		var commands [][]byte
		for len(program) > 0 { // each is a type, a path, and for some another path; each path ends in NUL
			kind := sendstream.CommandType(program[0] % 27)
			first, rest, _ := bytes.Cut(program[1:], []byte{0})
			attributes := path(string(first))
			if kind == kinds[0] || kind == kinds[1] {
				var second []byte
				second, rest, _ = bytes.Cut(rest, []byte{0})
				attributes = append(attributes, sendstream.AttrPathTo, string(second), sendstream.AttrPathLink, string(second))
			}
			if len(first) < 5000 {
				commands = append(commands, command(kind, attributes...))
			}
			program = rest
		}
		all, err := Of(bytes.NewReader(stream(commands...)), anything{}, anything{})
		if err != nil {
			return
		}
		for _, c := range all {
			if c.Path == "" || strings.HasPrefix(c.Path, "/") || c.Kind == "" {
				t.Fatalf("%+v", c)
			}
		}
	})
}
