package sendstream_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"btrfs-backup/btrfs/sendstream"
)

var errNotAllowed = errors.New("not allowed")

func TestEveryCommandMustBeAllowed(t *testing.T) {
	for _, s := range [][]byte{small(), large(1), large(2)} {
		var want, got []sendstream.CommandType
		for _, at := range append(boundaries(s), len(s))[:len(boundaries(s))] {
			want = append(want, sendstream.CommandType(le.Uint16(s[at+4:])))
		}
		var out bytes.Buffer
		_, err := sendstream.CopyAllowed(&out, bytes.NewReader(s), func(c sendstream.Command) error {
			got = append(got, c.Type)
			return nil
		})
		if err != nil || !bytes.Equal(out.Bytes(), s) || !slices.Equal(got, want) {
			t.Errorf("asked about %v, want %v; error: %v", got, want, err)
		}
	}
}

func TestWhatIsNotAllowedIsNotWritten(t *testing.T) {
	s := small()
	starts := boundaries(s)
	for refused := range starts {
		for _, size := range []int{1, 10, 100, len(s)} {
			var out bytes.Buffer
			asked := 0
			sum, err := sendstream.CopyAllowed(&out, &chunkReader{data: s, size: size}, func(sendstream.Command) error {
				if asked++; asked > refused {
					return errNotAllowed
				}
				return nil
			})
			if !errors.Is(err, errNotAllowed) || asked != refused+1 || sum.Bytes != int64(out.Len()) {
				t.Errorf("command %d: error %v, asked %d times, %d bytes written, %d told", refused, err, asked, out.Len(), sum.Bytes)
			}
			if out.Len() > starts[refused] || !bytes.HasPrefix(s, out.Bytes()) {
				t.Errorf("command %d, at byte %d, was refused, but %d bytes are written", refused, starts[refused], out.Len())
			}
		}
	}
}

func TestWhatIsAllowedSeesTheAttributes(t *testing.T) {
	var names []string
	_, err := sendstream.CopyAllowed(&bytes.Buffer{}, bytes.NewReader(small()), func(c sendstream.Command) error {
		if c.Type == sendstream.CmdEnd {
			return nil
		}
		name, err := c.Text(sendstream.AttrPath)
		names = append(names, name)
		return err
	})
	if want := []string{"home", "o257-8-0", "o257-8-0", "f", "f"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, want %q; error: %v", names, want, err)
	}
}
