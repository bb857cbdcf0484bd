package serve

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// Each session of a client is a process of its own. The one that sends, or runs `btrfs receive`, holds the stream; the
// others hand it their standard streams, or ask it what came of it.

// A request is what another process wants of the one that holds a stream.
type request struct {
	Op     string
	Secret string
	Key    string
}

const (
	opJoin   = "join"   // with two files, to read from and to write to: carry the stream
	opResume = "resume" // go on with a stream that broke
	opClose  = "close"  // what came of the stream?
	opDone   = "done"   // the backup has got its name
	opAbort  = "abort"
)

// An answer to a request. An answered join lasts until the holder closes it.
type answer struct {
	Failure   *wire.Error
	Other     bool // it failed because the holder has another stream
	Secret    string
	Taken     sendstream.Prefix
	Subvolume btrfs.Subvolume
}

// A holder answers requests. What it returns as then is called with the answer sent and owns the connection; without it, that
// is closed.
type holder func(r request, c *handoff.Conn) (a answer, then func(), err error)

func (h holder) serve(c *handoff.Conn, first wire.Raw) {
	var r request
	if first.Decode(&r) != nil {
		c.Close()
		return
	}
	a, then, err := h(r, c)
	if err != nil {
		a.Failure, _ = protocol.ToWire(err).(*wire.Error)
		a.Other = errors.Is(err, errOtherStream)
	}
	if sendErr := c.Send(a); then == nil || sendErr != nil {
		c.Close()
		return
	}
	then()
}

// ask asks the process at an address. The connection must be closed. An address where nobody is, is handoff.ErrNobody.
func ask(address string, r request, files ...*os.File) (a answer, c *handoff.Conn, err error) {
	if c, err = handoff.Ask(address, r, &a, files...); err != nil {
		return answer{}, nil, err
	}
	switch {
	case a.Other:
		err = errOtherStream
	case a.Failure != nil:
		err = protocol.FromWire(a.Failure)
	default:
		return a, c, nil
	}
	c.Close()
	return answer{}, nil, err
}

// tell asks what needs no answer.
func tell(address string, r request) error {
	_, c, err := ask(address, r)
	if err == nil {
		c.Close()
	}
	return err
}

// joins lets the session that came with a connection carry a stream. The process that brought it waits until it is closed.
func joins(c *handoff.Conn, add func(io.ReadWriteCloser)) (then func(), err error) {
	session, err := c.Session()
	if err != nil {
		return nil, err
	}
	return func() {
		if _, err := session.Write([]byte{protocol.GoAhead}); err != nil {
			session.Close()
			return
		}
		add(session)
	}, nil
}

// join hands a session to the process that holds a stream and waits until that is done with it.
func join(s protocol.StreamName, stdin, stdout *os.File) error {
	_, c, err := ask(s.Address, request{Op: opJoin, Secret: s.Secret}, stdin, stdout)
	if err != nil {
		return fmt.Errorf("joining a stream: %w", err)
	}
	defer c.Close()
	c.Wait()
	return nil
}

// joining lets sessions that know the secret join a stream.
func joining(secret string, add func(io.ReadWriteCloser)) holder {
	return func(r request, c *handoff.Conn) (answer, func(), error) {
		if r.Op != opJoin || !handoff.SameSecret(r.Secret, secret) {
			return answer{}, nil, handoff.ErrNobody
		}
		then, err := joins(c, add)
		return answer{}, then, err
	}
}
