package store

import (
	"encoding/binary"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/store/pack"
)

// A cutter cuts a stream into parts between its commands. Equal streams are cut equally, however they arrive. What of a part single files
// need is gathered besides: its commands about names, and which files it has data of.
type cutter struct {
	size int                                                // bytes of a part at most, unless a single command is larger
	emit func(kind string, n int, plain *pack.Buffer) error // takes it over

	part          *pack.Buffer // nil between two
	names         []byte
	parts, tables int
	summary       partNames
}

// maxNames is after how many bytes about names an object of them ends.
const maxNames = 4 << 20

func (c *cutter) add(raw []byte) error {
	if c.part != nil && c.part.Len()+len(raw) > c.size {
		if err := c.end(); err != nil {
			return err
		}
	}
	if c.part == nil {
		c.part = pack.NewBuffer(c.size)
	}
	_, err := c.part.Write(raw)
	return err
}

func (c *cutter) command(cmd sendstream.Command) error {
	if err := c.add(cmd.Raw); err != nil {
		return err
	}
	c.summary.add(cmd)
	return nil
}

// drop gives up what was not emitted.
func (c *cutter) drop() {
	if c.part != nil {
		c.part.Free()
	}
}

// end ends a part.
func (c *cutter) end() error {
	part := c.part
	c.part = nil
	c.names = c.summary.appendTo(c.names, c.parts)
	c.parts++
	if err := c.emit(dataName, c.parts-1, part); err != nil || len(c.names) < maxNames {
		return err
	}
	return c.endNames()
}

func (c *cutter) endNames() error {
	names := c.names
	c.names = nil
	c.tables++
	return c.emit(namesName, c.tables-1, pack.BufferOf(names))
}

// finish ends the last part.
func (c *cutter) finish() error {
	if err := c.end(); err != nil {
		return err
	}
	return c.endNames()
}

// partNames gathers a part without the content of files: its commands, but in place of each run of commands with data of one file an
// UPDATE_EXTENT.
type partNames struct {
	commands []byte
	path     string // of the file whose data came last; "" if something else came since
	offset   uint64
	size     uint64
}

func (p *partNames) add(c sendstream.Command) {
	switch c.Type {
	case sendstream.CmdWrite, sendstream.CmdEncodedWrite, sendstream.CmdUpdateExtent:
		p.addData(c)
	default:
		p.flush()
		p.commands = append(p.commands, c.Raw...)
	}
}

func (p *partNames) addData(c sendstream.Command) {
	if path, err := c.Text(sendstream.AttrPath); err == nil && path != p.path {
		p.flush()
		p.path, p.offset, p.size = path, 0, 0
	}
	offset, _ := c.Uint64(sendstream.AttrFileOffset)
	var size uint64
	if data, ok := c.Attr(sendstream.AttrData); ok {
		size = uint64(len(data))
	}
	if n, err := c.Uint64(sendstream.AttrUnencodedFileLen); err == nil {
		size = n
	}
	if p.size == 0 {
		p.offset = offset
	}
	p.size += size
}

// flush ends a run of commands about one file.
func (p *partNames) flush() {
	if p.path == "" {
		return
	}
	var attrs []byte
	attrs = sendstream.AppendAttr(attrs, sendstream.AttrPath, []byte(p.path))
	attrs = sendstream.AppendAttr(attrs, sendstream.AttrFileOffset, binary.LittleEndian.AppendUint64(nil, p.offset))
	attrs = sendstream.AppendAttr(attrs, sendstream.AttrSize, binary.LittleEndian.AppendUint64(nil, p.size))
	p.commands = sendstream.AppendCommand(p.commands, sendstream.CmdUpdateExtent, attrs)
	p.path = ""
}

// appendTo appends what was gathered of a part, and begins with the next one: the number of the part and the length, of 32 bits each,
// little-endian, and the commands.
func (p *partNames) appendTo(to []byte, part int) []byte {
	p.flush()
	to = binary.LittleEndian.AppendUint32(to, uint32(part))
	to = binary.LittleEndian.AppendUint32(to, uint32(len(p.commands)))
	to = append(to, p.commands...)
	p.commands = p.commands[:0]
	return to
}
