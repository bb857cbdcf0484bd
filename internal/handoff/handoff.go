// Package handoff lets one process hand its streams to another one of the same user on this machine.
//
// The other process is found by an address, that of an abstract Unix socket: it needs no directory, leaves nothing behind, and
// ends with its process. Nobody can guess it; a Notice tells it to other processes of the user. Those of other users are refused,
// and count as nobody. What is said is up to the two; whoever may not take part is kept out by a secret.
package handoff

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

const addressStart = "@btrfs-backup/"

// IsAddress tells whether a text is an address of this package, rather than that of any program's socket.
func IsAddress(text string) bool { return strings.HasPrefix(text, addressStart) }

// NewSecret gives one that nobody guesses.
func NewSecret() string { return rand.Text() }

// SameSecret compares secrets in a time that tells nothing.
func SameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// ErrNobody is the error of an address where no process is.
var ErrNobody = errors.New("nobody holds this stream")

// A Listener has an address.
type Listener struct {
	Address string
	socket  *net.UnixListener
}

// Listen takes an address that nobody has.
func Listen() (*Listener, error) {
	address := addressStart + rand.Text()
	socket, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return &Listener{address, socket}, nil
}

// Close gives the address up. Connections stay.
func (l *Listener) Close() error { return l.socket.Close() }

// Serve answers each process that connects, in a goroutine of its own, until Close. The first message of the process is given
// with the connection, which answer must close.
func (l *Listener) Serve(answer func(c *Conn, first wire.Raw)) {
	for {
		socket, err := l.socket.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			c := &Conn{socket: socket}
			first, err := c.first()
			if err != nil {
				c.Close()
				return
			}
			answer(c, first)
		}()
	}
}

// A Conn connects two processes. Each may send messages, with files, and learns of the other's end.
type Conn struct {
	Files  []*os.File // that came
	socket *net.UnixConn
}

// Ask connects to an address, sends a first message with files, and receives the reply. The error is ErrNobody where no
// process is.
func Ask(address string, first, reply any, files ...*os.File) (*Conn, error) {
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	if err = c.Send(first, files...); err == nil {
		err = c.Receive(reply)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func dial(address string) (*Conn, error) {
	if !IsAddress(address) {
		return nil, ErrNobody
	}
	socket, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return nil, ErrNobody
	}
	c := &Conn{socket: socket}
	if err := c.checkPeer(); err != nil {
		c.Close()
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	return c, nil
}

// IsTaken tells whether a process of this user has the address.
func IsTaken(address string) bool {
	c, err := dial(address)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// checkPeer refuses processes of other users.
func (c *Conn) checkPeer() error {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if peerErr != nil {
		return os.NewSyscallError("getsockopt", peerErr)
	}
	if int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("the stream is held by user %d", peer.Uid)
	}
	return nil
}

// first receives the first message, which must come soon.
func (c *Conn) first() (wire.Raw, error) {
	if err := c.checkPeer(); err != nil {
		return nil, err
	}
	const soon = 10 * time.Second
	if err := c.socket.SetReadDeadline(time.Now().Add(soon)); err != nil {
		return nil, err
	}
	message, err := c.receive()
	return message, errors.Join(err, c.socket.SetReadDeadline(time.Time{}))
}

// Send sends a message.
func (c *Conn) Send(message any, files ...*os.File) error {
	encoded, err := wire.Encode(message)
	if err != nil {
		return err
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.socket.WriteMsgUnix(encoded, rights, nil)
	return err
}

// Receive waits for a message.
func (c *Conn) Receive(into any) error {
	message, err := c.receive()
	if err != nil {
		return err
	}
	return message.Decode(into)
}

func (c *Conn) receive() (wire.Raw, error) {
	const maxMessage, maxFiles = 64 << 10, 2
	buffer, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(maxFiles*4))
	n, rightsN, _, _, err := c.socket.ReadMsgUnix(buffer, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	return buffer[:n], c.take(rights[:rightsN])
}

// take takes the files that came with a message.
func (c *Conn) take(rights []byte) error {
	if len(rights) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			c.Files = append(c.Files, pollable(fd, "session"))
		}
	}
	return nil
}

// Wait waits until the other process closes the connection or ends.
func (c *Conn) Wait() { _, _ = c.socket.Read(make([]byte, 1)) } // nothing comes but the end

// Close closes the connection and the files that came.
func (c *Conn) Close() error {
	c.CloseFiles()
	return c.socket.Close()
}

// CloseFiles closes the files that came, and ends what reads and writes them.
func (c *Conn) CloseFiles() {
	for _, f := range c.Files {
		_ = f.Close() // it may be closed
	}
}
