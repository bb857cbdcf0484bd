package partial

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func data(path string) []byte {
	return streamtest.Encode(sendstream.CmdUpdateExtent, streamtest.Text(sendstream.AttrPath, path),
		streamtest.Number(sendstream.AttrFileOffset, 0), streamtest.Number(sendstream.AttrSize, 1))
}

func rename(path, to string) []byte {
	return streamtest.Encode(sendstream.CmdRename, streamtest.Text(sendstream.AttrPath, path), streamtest.Text(sendstream.AttrPathTo, to))
}

func clone(path, from string, in btrfs.UUID) []byte {
	return streamtest.Encode(sendstream.CmdClone, streamtest.Text(sendstream.AttrPath, path), streamtest.Number(sendstream.AttrFileOffset, 0),
		streamtest.UUID(sendstream.AttrCloneUUID, in), streamtest.Number(sendstream.AttrCloneCtransid, 7),
		streamtest.Text(sendstream.AttrClonePath, from), streamtest.Number(sendstream.AttrCloneOffset, 0), streamtest.Number(sendstream.AttrCloneLen, 1))
}

// of gives a stream with a part for each list of commands.
func of(uuid, parent byte, parts ...[]byte) Stream {
	s := Stream{UUID: btrfs.UUID{uuid}, Protocol: 1, Names: func(visit func(int, []byte) error) error {
		for n, commands := range parts {
			if err := visit(n, commands); err != nil {
				return err
			}
		}
		return nil
	}}
	if parent > 0 {
		s.Parent = btrfs.UUID{parent}
	}
	return s
}

func TestPartsAreThoseOfAFileUnderAllItsNames(t *testing.T) {
	file := func(path string) []byte { return streamtest.Makes(sendstream.CmdMkfile, path) }
	first := of(1, 0, slices.Concat(file("a"), data("a")), slices.Concat(file("z"), data("z")), slices.Concat(rename("a", "b"), data("b")),
		slices.Concat(streamtest.Makes(sendstream.CmdMkdir, "dir"), rename("b", "dir/c")))
	second := of(2, 1, slices.Concat(rename("dir", "other"), file("new"), data("new")), slices.Concat(clone("z", "dir/c", btrfs.UUID{1})),
		slices.Concat(rename("other/c", "d"), file("other/c"), data("other/c")), slices.Concat(file("e"), clone("e", "other/c", btrfs.UUID{2})))
	for path, want := range map[string][2][]int{
		"d":       {{0, 2}, nil},
		"z":       {{0, 1, 2}, nil}, // and what it was cloned from, by the name in the parent
		"other":   {nil, {2}},
		"e":       {nil, {2}},
		"new":     {nil, {0}},
		"other/c": {nil, {2}},
	} {
		s, err := Follow([]Stream{first, second})
		check(t, err)
		check(t, s.Choose([]string{path}))
		if !slices.Equal(s.Parts(0), want[0]) || !slices.Equal(s.Parts(1), want[1]) {
			t.Errorf("%s: %v and %v", path, s.Parts(0), s.Parts(1))
		}
	}
	s, err := Follow([]Stream{first, second})
	check(t, err)
	if err := s.Choose([]string{"dir/c"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestACloneFromANameThatAnotherFileHasNow has a file whose name is another's in the snapshot that the stream makes.
func TestACloneFromANameThatAnotherFileHasNow(t *testing.T) {
	first := of(1, 0, slices.Concat(streamtest.Makes(sendstream.CmdMkfile, "a"), data("a")))
	second := of(2, 1, slices.Concat(rename("a", "b"), streamtest.Makes(sendstream.CmdMkfile, "a"), data("a")),
		slices.Concat(streamtest.Makes(sendstream.CmdMkfile, "c"), clone("c", "a", btrfs.UUID{1})))
	s, err := Follow([]Stream{first, second})
	check(t, err)
	check(t, s.Choose([]string{"c"}))
	if !slices.Equal(s.Parts(0), []int{0}) || len(s.Parts(1)) > 0 {
		t.Errorf("%v and %v", s.Parts(0), s.Parts(1))
	}
}

func TestWhatIsMadeNeverPassesForTheSnapshot(t *testing.T) {
	head := streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, btrfs.UUID{1}),
		streamtest.Number(sendstream.AttrCtransid, 7))
	whole := of(1, 0, slices.Concat(head, streamtest.Makes(sendstream.CmdMkfile, "a"), streamtest.Makes(sendstream.CmdMkfile, "b"),
		streamtest.Encode(sendstream.CmdEnd)))
	s, err := Follow([]Stream{whole})
	check(t, err)
	check(t, s.Choose([]string{"a"}))
	for range 2 { // the second one from the beginning
		var made bytes.Buffer
		check(t, s.Write(&made, 0, nil))
		r := sendstream.NewReader(&made)
		var types []sendstream.CommandType
		for c, err := r.Next(); err == nil; c, err = r.Next() {
			types = append(types, c.Type)
		}
		if !slices.Equal(types, []sendstream.CommandType{sendstream.CmdSubvol, sendstream.CmdMkfile, sendstream.CmdEnd}) {
			t.Errorf("%v", types)
		}
		if uuid := btrfs.UUID(r.Summary().UUID); uuid == whole.UUID || uuid != s.UUID(whole.UUID) {
			t.Errorf("%v", uuid)
		}
	}
}
