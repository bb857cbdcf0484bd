package manifest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	header  = "#mtree"
	trailer = "#end "

	// maxLine is the longest line in bytes: a path of PATH_MAX and a target, all of it escaped, take 32 KiB.
	maxLine = 1 << 20
	// window is how far zstd looks back. A reader needs as much memory, whatever the file says.
	window = 1 << 20
	// flushAt is how many bytes of lines are handed over at a time.
	flushAt = 64 << 10
)

// A Writer writes a manifest.
type Writer struct {
	zw      io.WriteCloser
	lines   []byte
	last    string
	entries uint64
	err     error
}

// NewWriter gives a Writer to w.
func NewWriter(w io.Writer) (*Writer, error) {
	// In one goroutine it leaves nothing behind when it is abandoned.
	zw, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(window), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	return newWriter(zw), nil
}

// newWriter gives a Writer of text.
func newWriter(text io.WriteCloser) *Writer {
	return &Writer{zw: text, lines: append(make([]byte, 0, 2*flushAt), header+"\n"...)}
}

// Write adds an entry. It must come after the ones before, by Compare: else the error is ErrOrder. After an error the manifest
// cannot be ended well any more.
func (w *Writer) Write(e Entry) error {
	if w.err != nil {
		return w.err
	}
	if err := w.write(&e); err != nil {
		w.err = fmt.Errorf("manifest entry of %q: %w", e.Path, err)
	}
	return w.err
}

func (w *Writer) write(e *Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	if w.entries > 0 && Compare(w.last, e.Path) >= 0 {
		return fmt.Errorf("%w behind %q", ErrOrder, w.last)
	}
	start := len(w.lines)
	w.lines = appendEntry(w.lines, e)
	if len(w.lines)-start > maxLine {
		return errors.New("longer than a line may be")
	}
	w.last = e.Path
	w.entries++
	if len(w.lines) < flushAt {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	_, err := w.zw.Write(w.lines)
	w.lines = w.lines[:0]
	return err
}

// Close ends the manifest, unless a Write failed: then it gives the error of that. What is written to stays open.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("the manifest is closed")
	w.lines = append(strconv.AppendUint(append(w.lines, trailer...), w.entries, 10), '\n')
	if err := w.flush(); err != nil {
		return err
	}
	return w.zw.Close()
}

// appendEntry appends the line of an entry. Numbers of the inode that are zero are left out, as are digests.
func appendEntry(b []byte, e *Entry) []byte {
	if e.Path == "." {
		b = append(b, '.')
	} else {
		b = appendEscaped(append(b, "./"...), e.Path)
	}
	b = append(append(b, " type="...), e.Type...)
	b = strconv.AppendUint(append(b, " mode=0"...), uint64(e.Mode), 8)
	b = strconv.AppendUint(append(b, " uid="...), uint64(e.UID), 10)
	b = strconv.AppendUint(append(b, " gid="...), uint64(e.GID), 10)
	if e.Type == Regular {
		b = strconv.AppendInt(append(b, " size="...), e.Size, 10)
	}
	b = appendTime(append(b, " time="...), e.ModTime)
	switch e.Type {
	case Symlink:
		b = appendEscaped(append(b, " link="...), e.Target)
	case BlockDevice, CharDevice:
		b = strconv.AppendUint(append(b, " device=native,"...), uint64(unix.Major(e.Device)), 10)
		b = strconv.AppendUint(append(b, ','), uint64(unix.Minor(e.Device)), 10)
	}
	if e.SHA256 != (Digest{}) && !e.Sparse {
		b = hex.AppendEncode(append(b, " sha256digest="...), e.SHA256[:])
	}
	b = strconv.AppendUint(append(b, " tags=inode:"...), e.Inode, 10)
	b = strconv.AppendUint(append(b, ",links:"...), e.Links, 10)
	b = appendTime(append(b, ",ctime:"...), e.ChangeTime)
	if e.SHA256 != (Digest{}) && e.Sparse {
		b = hex.AppendEncode(append(b, ",data:"...), e.SHA256[:])
	}
	if e.Xattrs != (Digest{}) {
		b = hex.AppendEncode(append(b, ",xattrs:"...), e.Xattrs[:])
	}
	return append(b, '\n')
}

// appendTime writes nine digits of nanoseconds: libarchive and mtree(8) take them for a number, not for a fraction.
func appendTime(b []byte, t Time) []byte {
	b = append(strconv.AppendInt(b, t.Sec, 10), '.')
	n := t.Nsec
	for unit := int32(1e8); unit > 0; unit /= 10 {
		b = append(b, '0'+byte(n/unit%10))
	}
	return b
}

// plain are the bytes that stand for themselves: graphic ASCII without what mtree(8) takes for an escape, a comment, a pattern,
// or the end of a keyword.
var plain = func() (p [256]bool) {
	for c := '!'; c <= '~'; c++ {
		p[c] = true
	}
	for _, c := range `\#=*?[` {
		p[c] = false
	}
	return p
}()

// appendEscaped writes all other bytes as a backslash with three octal digits, as vis(3) does with VIS_OCTAL.
func appendEscaped(b []byte, s string) []byte {
	start := 0
	for i := range len(s) {
		c := s[i]
		if plain[c] {
			continue
		}
		b = append(append(b, s[start:i]...), '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		start = i + 1
	}
	return append(b, s[start:]...)
}
