package sendstream_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func TestReaderReturnsCommandsOfBothProtocols(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 128<<10)
	for protocol, put := range map[uint32]func([]byte) []byte{1: attrData1, 2: attr2} {
		data := data[:min(len(data), 48<<10*int(protocol))]
		s := stream(protocol, subvol, command(15, path("f"), u64(18, 7), put(data)), end)
		// A restart must be as invisible to a Reader as it is to Copy.
		r := sendstream.NewReader(bytes.NewReader(slices.Concat(s[:200], s)))

		first := wantNext(t, r, sendstream.CmdSubvol)
		if uuid, err := first.UUID(sendstream.AttrUUID); err != nil || uuid != [16]byte(testUUID) {
			t.Errorf("protocol %d: UUID %q, error %v", protocol, uuid, err)
		}
		write := wantNext(t, r, sendstream.CmdWrite)
		if name, err := write.Text(sendstream.AttrPath); err != nil || name != "f" {
			t.Errorf("protocol %d: path %q, error %v", protocol, name, err)
		}
		if offset, err := write.Uint64(sendstream.AttrFileOffset); err != nil || offset != 7 {
			t.Errorf("protocol %d: offset %d, error %v", protocol, offset, err)
		}
		if got, ok := write.Attr(sendstream.AttrData); !ok || !bytes.Equal(got, data) {
			t.Errorf("protocol %d: %d bytes of data", protocol, len(got))
		}
		wantNext(t, r, sendstream.CmdEnd)
		for range 2 {
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("protocol %d: got error %v behind END", protocol, err)
			}
		}
	}
}

func wantNext(t *testing.T, r *sendstream.Reader, want sendstream.CommandType) sendstream.Command {
	t.Helper()
	c, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if c.Type != want {
		t.Fatalf("got command %v, want %v", c.Type, want)
	}
	return c
}

func TestReaderRefusesAttributesThatDoNotFillTheCommand(t *testing.T) {
	for name, body := range map[string][]byte{
		"rest of one byte":   {15, 0, 1, 0, 'a', 0},
		"rest of a type":     {15, 0, 1, 0, 'a', 15, 0},
		"length beyond end":  {15, 0, 2, 0, 'a'},
		"data without value": {19, 0},
	} {
		s := stream(1, subvol, command(20, body), end)
		r := sendstream.NewReader(bytes.NewReader(s))
		wantNext(t, r, sendstream.CmdSubvol)
		for range 2 {
			if _, err := r.Next(); !errors.Is(err, sendstream.ErrCorrupt) {
				t.Errorf("%s: got error %v", name, err)
			}
		}
	}
}

func TestReaderStaysAtRestartThatDiffers(t *testing.T) {
	s := small()
	other := stream(1, subvol, end)
	r := sendstream.NewReader(bytes.NewReader(slices.Concat(s[:len(s)-20], other)))
	var err error
	for err == nil {
		_, err = r.Next()
	}
	for range 2 {
		if !errors.Is(err, sendstream.ErrRestartDiffers) {
			t.Fatalf("got error %v", err)
		}
		_, err = r.Next()
	}
}

func TestCommandTellsMissingAndMisshapenAttributes(t *testing.T) {
	s := stream(1, subvol, command(20, path("f"), attr(4, []byte{1})), end)
	r := sendstream.NewReader(bytes.NewReader(s))
	wantNext(t, r, sendstream.CmdSubvol)
	c := wantNext(t, r, sendstream.CmdUtimes)

	_, missing := c.Uint64(sendstream.AttrIno)
	_, misshapen := c.Uint64(sendstream.AttrSize)
	_, uuid := c.UUID(sendstream.AttrPath)
	_, text := c.Text(sendstream.AttrPathTo)
	for _, err := range []error{missing, misshapen, uuid, text} {
		if !errors.Is(err, sendstream.ErrCorrupt) {
			t.Errorf("got error %v", err)
		}
	}
}

func TestCommandTypeHasAName(t *testing.T) {
	for c, want := range map[sendstream.CommandType]string{
		sendstream.CmdSubvol:       "subvol",
		sendstream.CmdEnd:          "end",
		sendstream.CmdEncodedWrite: "encoded_write",
		0:                          "unknown(0)",
		27:                         "unknown(27)",
	} {
		if got := c.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
