package handoff

import (
	"errors"
	"io"
	"os"

	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// duplex is a session: what comes in and what goes out.
type duplex struct {
	io.ReadCloser
	out  io.WriteCloser
	hold io.Closer // closed last; may be nil
}

func (d duplex) Write(p []byte) (int, error) { return d.out.Write(p) }

func (d duplex) Close() error {
	err := errors.Join(d.ReadCloser.Close(), d.out.Close())
	if d.hold != nil {
		err = errors.Join(err, d.hold.Close())
	}
	return err
}

// Session gives the two streams that came, to read from and to write to. Closing it closes the connection, by which the other
// process knows.
func (c *Conn) Session() (io.ReadWriteCloser, error) {
	if len(c.Files) != 2 {
		return nil, errors.New("a session comes with two files")
	}
	return duplex{c.Files[0], c.Files[1], c.socket}, nil
}

// Streams gives the standard streams in a form whose Close ends a Read that waits.
func Streams(stdin, stdout *os.File) (io.ReadWriteCloser, error) {
	in, err := unix.FcntlInt(stdin.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	out, err := unix.FcntlInt(stdout.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(in)
		return nil, os.NewSyscallError("dup", err)
	}
	return duplex{pollable(in, "standard input"), pollable(out, "standard output"), nil}, nil
}

// pollable makes a file of a descriptor whose Close ends a Read or Write that waits.
func pollable(fd int, name string) *os.File {
	_ = unix.SetNonblock(fd, true) // a file that cannot be polled does not wait either
	transport.Widen(fd)
	return os.NewFile(uintptr(fd), name)
}
