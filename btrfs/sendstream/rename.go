package sendstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// linux/include/uapi/linux/btrfs_tree.h: BTRFS_NAME_LEN
const maxNameSize = 255

// NewRenamer returns a writer that passes a send stream on to w, with name as
// the name of the subvolume to be received. That name is in the first command,
// which is held back until it is complete; everything behind it passes
// unchanged, unchecked and without being copied.
//
// The writer fails if name is not a file name or if the stream does not begin
// as a send stream does. A stream that stops within its first command leaves
// nothing at all in w.
func NewRenamer(w io.Writer, name string) io.Writer {
	return &renamer{w: w, name: name, err: checkName(name)}
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxNameSize || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be the name of a subvolume", name)
	}
	return nil
}

type renamer struct {
	w       io.Writer
	name    string
	head    []byte // stream header and first command, as far as seen
	renamed bool
	err     error
}

func (r *renamer) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.renamed {
		return r.w.Write(p)
	}
	n, err := r.writeHead(p)
	if err != nil || n == len(p) {
		r.err = err
		return n, err
	}
	m, err := r.w.Write(p[n:])
	return n + m, err
}

// writeHead takes from p what the head lacks and, once it is complete, writes
// it with the new name.
func (r *renamer) writeHead(p []byte) (int, error) {
	n := 0
	for {
		size, err := headSize(r.head)
		if err != nil {
			return 0, err
		}
		missing := size - len(r.head)
		if missing == 0 {
			break
		}
		m := min(missing, len(p)-n)
		if m == 0 {
			return n, nil
		}
		r.head = append(r.head, p[n:n+m]...)
		n += m
	}
	head, err := r.rename(r.head)
	if err != nil {
		return 0, err
	}
	if _, err := r.w.Write(head); err != nil {
		return 0, err
	}
	r.head, r.renamed = nil, true
	return n, nil
}

// headSize returns the size of the stream header and the first command, as far
// as the bytes of head tell.
func headSize(head []byte) (int, error) {
	if len(head) < streamHeaderSize {
		return streamHeaderSize, nil
	}
	if _, err := checkStreamHeader(head); err != nil {
		return 0, err
	}
	command := head[streamHeaderSize:]
	if len(command) < commandHeaderSize {
		return streamHeaderSize + commandHeaderSize, nil
	}
	if _, err := checkCommand(command); err != nil && !errors.Is(err, errIncomplete) {
		return 0, err
	}
	return streamHeaderSize + commandSize(command), nil
}

// rename returns a copy of head with the name as the path in its command.
func (r *renamer) rename(head []byte) ([]byte, error) {
	c, err := newCommand(head[streamHeaderSize:], protocolOf(head))
	if err != nil {
		return nil, err
	}
	if err := c.mustBegin(); err != nil {
		return nil, err
	}
	if err := c.replaceAttr(AttrPath, []byte(r.name)); err != nil {
		return nil, err
	}
	out := slices.Concat(head[:streamHeaderSize+commandHeaderSize], c.Data)
	seal(out[streamHeaderSize:])
	return out, nil
}

// replaceAttr gives c other data, in which the first attribute of type t has
// another value.
func (c *Command) replaceAttr(t AttrType, value []byte) error {
	before, after, err := c.aroundAttr(t)
	if err != nil {
		return err
	}
	data := slices.Clone(before)
	data = binary.LittleEndian.AppendUint16(data, uint16(t))
	data = binary.LittleEndian.AppendUint16(data, uint16(len(value)))
	c.Data = slices.Concat(data, value, after)
	return nil
}

// aroundAttr returns what precedes and what follows the first attribute of
// type t in the data of c.
func (c Command) aroundAttr(t AttrType) (before, after []byte, err error) {
	size := 0
	for u, value := range c.Attrs() {
		start := size
		size += c.attrHeaderSize(u) + len(value)
		if u == t {
			return c.Data[:start], c.Data[size:], nil
		}
	}
	return nil, nil, c.badAttr(t)
}
