package host

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/sendstream"
)

// copied passes a stream by a guard and gives what came through.
func copied(g *guard, stream []byte) ([]byte, error) {
	var out bytes.Buffer
	_, err := sendstream.CopyAllowed(&out, bytes.NewReader(stream), g.allow)
	return out.Bytes(), err
}

func wantRefused(t *testing.T, what string, stream []byte) {
	t.Helper()
	if _, err := copied(new(guard), stream); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%s: error %v", what, err)
	}
}

var pathAttributes = []sendstream.AttrType{sendstream.AttrPath, sendstream.AttrPathTo, sendstream.AttrPathLink, sendstream.AttrClonePath}

func TestEveryPathOfEveryCommandMustStayInTheSubvolume(t *testing.T) {
	bad := []string{"..", ".", "/", "/etc", "../x", "a/../../x", "a/..", "./a", "a/.", "a//b", "a/", "a\x00", "\x00", "a/../b", "//"}
	for c := sendstream.CmdSubvol; c <= sendstream.CmdEncodedWrite; c++ {
		if c == sendstream.CmdEnd {
			continue
		}
		for _, a := range pathAttributes {
			for _, p := range bad {
				if c == sendstream.CmdSymlink && a == sendstream.AttrPathLink {
					continue
				}
				command := sendstream.Command{Type: c, Data: encode(c, text(a, p))[10:]}
				if err := checkAttributes(command); err == nil {
					t.Errorf("%v with %q as attribute %d is allowed", c, p, a)
				}
			}
			for _, p := range []string{"a", "a/b", "..a", "a..", "...", "a/...", "\xff\n"} {
				command := sendstream.Command{Type: c, Data: encode(c, text(a, p))[10:]}
				if err := checkAttributes(command); err != nil {
					t.Errorf("%v with %q as attribute %d: %v", c, p, a, err)
				}
			}
			command := sendstream.Command{Type: c, Data: encode(c, text(a, ""))[10:]}
			allowed := a == sendstream.AttrPath && ofRoot(c) || a == sendstream.AttrPathLink && c == sendstream.CmdSymlink
			if err := checkAttributes(command); (err == nil) != allowed {
				t.Errorf("%v with an empty attribute %d: %v", c, a, err)
			}
		}
	}
}

func TestALinkMayPointAnywhere(t *testing.T) {
	for _, to := range []string{"/etc", "../../x", "a//b", "."} {
		if _, err := copied(new(guard), encodeStream(1, subvol(), symlink("s", to))); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	wantRefused(t, "a target with NUL", encodeStream(1, subvol(), symlink("s", "a\x00")))
}

func TestNoAttributeComesTwice(t *testing.T) {
	twice := func(c sendstream.CommandType, a attribute) []byte { return encode(c, a, a) }
	for a := sendstream.AttrUUID; a <= sendstream.AttrEncryption; a++ {
		wantRefused(t, "twice", encodeStream(1, subvol(), twice(sendstream.CmdWrite, text(a, "a"))))
	}
	wantRefused(t, "a second name", encodeStream(1, encode(sendstream.CmdSubvol, text(sendstream.AttrPath, "x"), text(sendstream.AttrPath, "20260101-000000"),
		uuid(sendstream.AttrUUID, hostileUUID), number(sendstream.AttrCtransid, 7))))
}

func TestAStreamHoldsOneSubvolume(t *testing.T) {
	for _, second := range [][]byte{subvol(), snapshotOf(btrfs.UUID{9})} {
		out, err := copied(new(guard), encodeStream(1, subvol(), second))
		if err == nil || bytes.Contains(out, second) {
			t.Errorf("error: %v", err)
		}
	}
}

func TestDataIsClonedFromTheStreamOrItsParentOnly(t *testing.T) {
	parent, other := btrfs.UUID{9}, btrfs.UUID{8}
	for _, from := range []btrfs.UUID{hostileUUID, parent} {
		if _, err := copied(new(guard), encodeStream(1, snapshotOf(parent), cloneFrom(from, "f"))); err != nil {
			t.Errorf("%s: %v", from, err)
		}
	}
	wantRefused(t, "another's", encodeStream(1, snapshotOf(parent), cloneFrom(other, "f")))
	wantRefused(t, "no parent's", encodeStream(1, subvol(), cloneFrom(btrfs.UUID{}, "f")))
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	for _, c := range []sendstream.CommandType{0, sendstream.CmdEncodedWrite + 1, 1000} {
		wantRefused(t, "a command", encodeStream(2, subvol(), encode(c, text(sendstream.AttrPath, "a"))))
	}
	for _, a := range []sendstream.AttrType{0, sendstream.AttrEncryption + 1, 1000} {
		wantRefused(t, "an attribute", encodeStream(2, subvol(), encode(sendstream.CmdChmod, text(a, "a"))))
	}
}

func TestStreamsOfTheKernelAreAllowed(t *testing.T) {
	d := localFolder(t)
	home := localSubvolume(t, d.status.Path, "home")
	btrfstest.Populate(t, home, 1)
	parent := ""
	for _, name := range []string{"first", "second", "third"} {
		_, err := d.Take(t.Context(), home, localInfo(t, home).UUID, name)
		btrfstest.Check(t, err)
		for _, format := range []sendstream.Format{{}, {Protocol: 2, Compressed: true}} {
			var stream, out bytes.Buffer
			_, err = d.Send(t.Context(), SendOrder{Snapshot: name, Parent: parent, Format: format}, &stream)
			btrfstest.Check(t, err)
			g := newGuarded(&out)
			for rest := stream.Bytes(); len(rest) > 0; {
				n, err := g.Write(rest[:min(len(rest), 1000)])
				btrfstest.Check(t, err)
				rest = rest[n:]
			}
			if err := g.end(nil); err != nil || !bytes.Equal(out.Bytes(), stream.Bytes()) {
				t.Errorf("%s: %d of %d bytes came through: %v", name, out.Len(), stream.Len(), err)
			}
		}
		btrfstest.Change(t, home, int64(len(parent)+2))
		parent = name
	}
}

func TestAGuardedWriterTellsWhoFailed(t *testing.T) {
	good, broken := encodeStream(1, subvol(), makes(sendstream.CmdMkdir, "a")), errors.New("broken")
	feed := func(w io.Writer, stream []byte, end error) error {
		g := newGuarded(w)
		_, err := g.Write(stream)
		return g.end(errors.Join(err, end))
	}
	if err := feed(io.Discard, good, nil); err != nil {
		t.Errorf("a good stream: %v", err)
	}
	if err := feed(io.Discard, good[:len(good)-3], nil); !errors.Is(err, sendstream.ErrTruncated) {
		t.Errorf("half a stream: %v", err)
	}
	if err := feed(io.Discard, good[:50], broken); !errors.Is(err, broken) {
		t.Errorf("a sender that failed: %v", err)
	}
	if err := feed(io.Discard, good, broken); !errors.Is(err, broken) {
		t.Errorf("a sender that failed at the end: %v", err)
	}
	var out bytes.Buffer
	if err := feed(&out, encodeStream(1, subvol(), makes(sendstream.CmdMkdir, "../a")), nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a hostile stream: %v", err)
	}
	r, w := io.Pipe()
	r.CloseWithError(broken)
	var write *sendstream.WriteError
	if err := feed(w, good, nil); !errors.As(err, &write) || !errors.Is(err, broken) {
		t.Errorf("a receiver that failed: %v", err)
	}
}

// TestStockReceiveFallsIntoEveryTrap proves that the streams used against the agent do harm.
func TestStockReceiveFallsIntoEveryTrap(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, name := range slices.Sorted(maps.Keys(newScene(t).traps())) {
		s := newScene(t)
		stream := s.traps()[name]
		before, disk := s.look(), s.disk()
		var renamed bytes.Buffer
		_, err := sendstream.NewRenamer(&renamed, ".x.incoming").Write(stream)
		btrfstest.Check(t, err)
		receive := exec.Command("btrfs", "receive", s.folder)
		receive.Stdin = &renamed
		out, _ := receive.CombinedOutput() // it may fail later
		btrfstest.Check(t, btrfs.Delete(btrfstest.Open(t, s.folder), ".x.incoming"))
		if s.disk() == disk && maps.Equal(s.look(), before) {
			t.Errorf("%s does nothing: %s", name, out)
		}
	}
}
