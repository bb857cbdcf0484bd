package guard

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/btrfs/sendstream/streamtest"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/local"
)

// copied passes a stream by a guard and gives what came through.
func copied(g *Guard, stream []byte) ([]byte, error) {
	var out bytes.Buffer
	_, err := sendstream.CopyAllowed(&out, bytes.NewReader(stream), g.Allow)
	return out.Bytes(), err
}

func wantRefused(t *testing.T, what string, stream []byte) {
	t.Helper()
	if _, err := copied(new(Guard), stream); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%s: error %v", what, err)
	}
}

func TestEveryPathOfEveryCommandMustStayInTheSubvolume(t *testing.T) {
	bad := []string{"..", ".", "/", "/etc", "../x", "a/../../x", "a/..", "./a", "a/.", "a//b", "a/", "a\x00", "\x00", "a/../b", "//"}
	for c := sendstream.CmdSubvol; c <= sendstream.CmdEncodedWrite; c++ {
		if c == sendstream.CmdEnd {
			continue
		}
		for _, a := range streamtest.PathAttributes {
			for _, p := range bad {
				if c == sendstream.CmdSymlink && a == sendstream.AttrPathLink {
					continue
				}
				command := sendstream.Command{Type: c, Data: streamtest.Encode(c, streamtest.Text(a, p))[10:]}
				if err := checkAttributes(command); err == nil {
					t.Errorf("%v with %q as attribute %d is allowed", c, p, a)
				}
			}
			for _, p := range []string{"a", "a/b", "..a", "a..", "...", "a/...", "\xff\n"} {
				command := sendstream.Command{Type: c, Data: streamtest.Encode(c, streamtest.Text(a, p))[10:]}
				if err := checkAttributes(command); err != nil {
					t.Errorf("%v with %q as attribute %d: %v", c, p, a, err)
				}
			}
			command := sendstream.Command{Type: c, Data: streamtest.Encode(c, streamtest.Text(a, ""))[10:]}
			allowed := a == sendstream.AttrPath && ofRoot(c) || a == sendstream.AttrPathLink && c == sendstream.CmdSymlink
			if err := checkAttributes(command); (err == nil) != allowed {
				t.Errorf("%v with an empty attribute %d: %v", c, a, err)
			}
		}
	}
}

func TestALinkMayPointAnywhere(t *testing.T) {
	for _, to := range []string{"/etc", "../../x", "a//b", "."} {
		if _, err := copied(new(Guard), streamtest.Stream(1, streamtest.Subvol(), streamtest.Symlink("s", to))); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	wantRefused(t, "a target with NUL", streamtest.Stream(1, streamtest.Subvol(), streamtest.Symlink("s", "a\x00")))
}

func TestNoAttributeComesTwice(t *testing.T) {
	twice := func(c sendstream.CommandType, a streamtest.Attribute) []byte { return streamtest.Encode(c, a, a) }
	for a := sendstream.AttrUUID; a <= sendstream.AttrEncryption; a++ {
		wantRefused(t, "twice", streamtest.Stream(1, streamtest.Subvol(), twice(sendstream.CmdWrite, streamtest.Text(a, "a"))))
	}
	wantRefused(t, "a second name", streamtest.Stream(1, streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.Text(sendstream.AttrPath, "20260101-000000"),
		streamtest.UUID(sendstream.AttrUUID, streamtest.OwnUUID), streamtest.Number(sendstream.AttrCtransid, 7))))
}

func TestAStreamHoldsOneSubvolume(t *testing.T) {
	for _, second := range [][]byte{streamtest.Subvol(), streamtest.SnapshotOf(btrfs.UUID{9})} {
		out, err := copied(new(Guard), streamtest.Stream(1, streamtest.Subvol(), second))
		if err == nil || bytes.Contains(out, second) {
			t.Errorf("error: %v", err)
		}
	}
}

func TestDataIsClonedFromTheStreamOrItsParentOnly(t *testing.T) {
	parent, other := btrfs.UUID{9}, btrfs.UUID{8}
	for _, from := range []btrfs.UUID{streamtest.OwnUUID, parent} {
		if _, err := copied(new(Guard), streamtest.Stream(1, streamtest.SnapshotOf(parent), streamtest.CloneFrom(from, "f"))); err != nil {
			t.Errorf("%s: %v", from, err)
		}
	}
	wantRefused(t, "another's", streamtest.Stream(1, streamtest.SnapshotOf(parent), streamtest.CloneFrom(other, "f")))
	wantRefused(t, "no parent's", streamtest.Stream(1, streamtest.Subvol(), streamtest.CloneFrom(btrfs.UUID{}, "f")))
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	for _, c := range []sendstream.CommandType{0, sendstream.CmdEncodedWrite + 1, 1000} {
		wantRefused(t, "a command", streamtest.Stream(2, streamtest.Subvol(), streamtest.Encode(c, streamtest.Text(sendstream.AttrPath, "a"))))
	}
	for _, a := range []sendstream.AttrType{0, sendstream.AttrEncryption + 1, 1000} {
		wantRefused(t, "an attribute", streamtest.Stream(2, streamtest.Subvol(), streamtest.Encode(sendstream.CmdChmod, streamtest.Text(a, "a"))))
	}
}

func TestStreamsOfTheKernelAreAllowed(t *testing.T) {
	folder := btrfstest.New(t, 256<<20).Dir
	d, err := local.New(slog.New(slog.DiscardHandler)).OpenDir(folder)
	btrfstest.Check(t, err)
	defer d.Close()
	btrfstest.Check(t, btrfs.Create(d.File(), "home"))
	home := folder + "/home"
	subvolume, err := btrfs.InfoAt(d.File(), "home")
	btrfstest.Check(t, err)
	btrfstest.Populate(t, home, 1)
	parent := ""
	for _, name := range []string{"first", "second", "third"} {
		_, err := d.Take(t.Context(), home, subvolume.UUID, name)
		btrfstest.Check(t, err)
		for _, format := range []sendstream.Format{{}, {Protocol: 2, Compressed: true}} {
			var stream, out bytes.Buffer
			_, err = d.Send(t.Context(), host.SendOrder{Snapshot: name, Parent: parent, Format: format}, &stream)
			btrfstest.Check(t, err)
			g := NewWriter(&out)
			for rest := stream.Bytes(); len(rest) > 0; {
				n, err := g.Write(rest[:min(len(rest), 1000)])
				btrfstest.Check(t, err)
				rest = rest[n:]
			}
			if err := g.End(nil); err != nil || !bytes.Equal(out.Bytes(), stream.Bytes()) {
				t.Errorf("%s: %d of %d bytes came through: %v", name, out.Len(), stream.Len(), err)
			}
		}
		btrfstest.Change(t, home, int64(len(parent)+2))
		parent = name
	}
}

func TestAGuardedWriterTellsWhoFailed(t *testing.T) {
	good, broken := streamtest.Stream(1, streamtest.Subvol(), streamtest.Makes(sendstream.CmdMkdir, "a")), errors.New("broken")
	feed := func(w io.Writer, stream []byte, end error) error {
		g := NewWriter(w)
		_, err := g.Write(stream)
		return g.End(errors.Join(err, end))
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
	if err := feed(&out, streamtest.Stream(1, streamtest.Subvol(), streamtest.Makes(sendstream.CmdMkdir, "../a")), nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a hostile stream: %v", err)
	}
	r, w := io.Pipe()
	r.CloseWithError(broken)
	var write *sendstream.WriteError
	if err := feed(w, good, nil); !errors.As(err, &write) || !errors.Is(err, broken) {
		t.Errorf("a receiver that failed: %v", err)
	}
}
