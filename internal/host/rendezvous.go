package host

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// A rendezvous is where the processes of further sessions find the one that holds a stream. It is an abstract Unix socket: it
// needs no directory, leaves nothing behind, and ends with its process. Only processes of the same user may talk, and only
// who knows the secret may join or end a stream.
type rendezvous struct {
	address  string
	listener *net.UnixListener
}

const addressStart = "@btrfs-backup/"

// keptAddress is where an unfinished backup is found if it is kept.
func keptAddress(at btrfs.Place, name string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d %d %s", os.Geteuid(), at.Filesystem, at.Subvolume, at.Inode, name))
	return addressStart + hex.EncodeToString(sum[:16])
}

func newSecret() string { return rand.Text() }

func newAddress() string { return addressStart + rand.Text() }

func meet(address string) (*rendezvous, error) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return &rendezvous{address, l}, nil
}

func (r *rendezvous) Close() error { return r.listener.Close() }

// A demand is what one process wants of the one that holds a stream.
type demand struct {
	Op     string
	Secret string
	Key    string
	Words  []string
}

const (
	opJoin  = "join"  // with two files, to read from and to write to: carry the stream
	opTake  = "take"  // go on with a stream that broke
	opClose = "close" // what came of the stream?
	opDone  = "done"  // the backup has got its name
	opAbort = "abort"
	opRun   = "run" // with two files: the streams of an rsync, see RsyncLink
)

// A response to a demand. An answered join lasts until the holder closes it.
type response struct {
	Failure   *wire.Error
	Secret    string
	Taken     sendstream.Prefix
	Subvolume btrfs.Subvolume
}

const maxDemand = 64 << 10

// A visitor is a process that makes a demand. Its connection tells when it ends.
type visitor struct {
	demand
	files []*os.File
	conn  *net.UnixConn
}

// A reception answers a demand. What it returns as then is called with the answer sent and owns the connection; without it,
// that is closed.
type reception func(v visitor) (a response, then func(), err error)

// serve answers demands until the rendezvous is closed.
func (r *rendezvous) serve(receive reception) {
	for {
		c, err := r.listener.AcceptUnix()
		if err != nil {
			return
		}
		go welcome(c, receive)
	}
}

func welcome(c *net.UnixConn, receive reception) {
	d, files, err := receiveDemand(c)
	if err != nil {
		closeAll(files)
		c.Close()
		return
	}
	a, then, err := receive(visitor{d, files, c})
	if err != nil {
		a.Failure, _ = toWire(err).(*wire.Error)
	}
	if sendErr := sendMessage(c, a, nil); then == nil || sendErr != nil {
		closeAll(files)
		c.Close()
		return
	}
	then()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// ask makes a demand of the process at an address. An address where nobody is, is errNobody.
func ask(address string, d demand, files ...*os.File) (response, *net.UnixConn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return response{}, nil, errNobody
	}
	if err := checkPeer(c); err != nil {
		c.Close()
		return response{}, nil, err
	}
	var a response
	err = sendMessage(c, d, files)
	if err == nil {
		_, err = receiveMessage(c, &a)
	}
	if err == nil && a.Failure != nil {
		err = fromWire(a.Failure)
	}
	if err != nil {
		c.Close()
		return response{}, nil, err
	}
	return a, c, nil
}

var errNobody = errors.New("nobody holds this stream")

// checkPeer refuses processes of other users.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
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

func receiveDemand(c *net.UnixConn) (d demand, files []*os.File, err error) {
	if err := checkPeer(c); err != nil {
		return d, nil, err
	}
	const soon = 10 * time.Second
	if err := c.SetReadDeadline(time.Now().Add(soon)); err != nil {
		return d, nil, err
	}
	files, err = receiveMessage(c, &d)
	return d, files, errors.Join(err, c.SetReadDeadline(time.Time{}))
}

func sendMessage(c *net.UnixConn, message any, files []*os.File) error {
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
	_, _, err = c.WriteMsgUnix(encoded, rights, nil)
	return err
}

func receiveMessage(c *net.UnixConn, into any) (files []*os.File, err error) {
	const maxFiles = 2
	buffer, rights := make([]byte, maxDemand), make([]byte, unix.CmsgSpace(maxFiles*4))
	n, rightsN, _, _, err := c.ReadMsgUnix(buffer, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if files, err = parseFiles(rights[:rightsN]); err != nil {
		return nil, err
	}
	return files, wire.Raw(buffer[:n]).Decode(into)
}

func parseFiles(rights []byte) (files []*os.File, err error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, pollable(fd, "session"))
		}
	}
	return files, nil
}

// pollable makes a file of a descriptor whose Close ends a Read or Write that waits.
func pollable(fd int, name string) *os.File {
	_ = unix.SetNonblock(fd, true) // a file that cannot be polled does not wait either
	return os.NewFile(uintptr(fd), name)
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

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

// goAhead is sent by the holder of a stream when a session has joined: nothing of the stream may come before, where another
// process would read it.
const goAhead = 1

// joins lets the session of a visitor carry a stream. The process that brought it waits until the session is closed.
func (v visitor) joins(add func(io.ReadWriteCloser)) (then func(), err error) {
	if len(v.files) != 2 {
		return nil, errors.New("a session comes with two files")
	}
	session := duplex{v.files[0], v.files[1], v.conn}
	return func() {
		if _, err := session.Write([]byte{goAhead}); err != nil {
			session.Close()
			return
		}
		add(session)
	}, nil
}

// join hands a session to the process that holds a stream and waits until that is done with it.
func join(s streamName, stdin, stdout *os.File) error {
	_, c, err := ask(s.Address, demand{Op: opJoin, Secret: s.Secret}, stdin, stdout)
	if err != nil {
		return fmt.Errorf("joining a stream: %w", err)
	}
	defer c.Close()
	_, _ = c.Read(make([]byte, 1)) // ends when the holder closes it
	return nil
}
