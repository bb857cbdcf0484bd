package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"btrfs-backup/transport"
	"btrfs-backup/transport/wire"
)

// rshNews is what Rsh is told while a session runs. The far side's standard error goes this way, and not to Rsh's own as a
// file: that is rsync's too, which does not expect it to be in non-blocking mode.
type rshNews struct {
	Said    string      `cbor:"said,omitempty"`
	Ended   bool        `cbor:"ended,omitempty"`
	Status  int         `cbor:"status,omitempty"` // when it ended
	Failure *wire.Error `cbor:"failure,omitempty"`
}

// lostStatus is the exit status of a remote shell that failed itself, as of ssh(1).
const lostStatus = 255

// receive takes the streams of an Rsh.
func (l *RsyncLink) receive(v visitor) (response, func(), error) {
	if v.Op != opRun || !sameSecret(v.Secret, l.secret) {
		return response{}, nil, errNobody
	}
	if len(v.files) != 2 {
		return response{}, nil, errors.New("a session comes with two files")
	}
	return response{}, func() { l.carry(v) }, nil
}

// carry connects the streams of an Rsh with a session, until that or the Rsh ends.
func (l *RsyncLink) carry(v visitor) {
	defer v.conn.Close()
	defer closeAll(v.files)
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { closeAll(v.files) })() // an rsync that does not read holds nothing up
	go func() {
		_, _ = v.conn.Read(make([]byte, 1)) // ends with the Rsh, or with this
		cancel()
	}()
	said := func(line string) { _ = sendMessage(v.conn, rshNews{Said: line}, nil) } // an Rsh that ended needs none
	session, err := l.open(ctx, v.Words, said)
	if err == nil {
		err = exchange(session, v.files[0], v.files[1])
	}
	end := rshNews{Ended: true}
	var exit *transport.ExitError
	switch {
	case errors.As(err, &exit):
		end.Status = statusOf(exit)
	case err != nil:
		end.Status = lostStatus
		end.Failure, _ = toWire(err).(*wire.Error)
		if ctx.Err() == nil && !errors.Is(err, errRsyncGone) {
			l.fail(err)
		}
	}
	_ = sendMessage(v.conn, end, nil)
}

// errRsyncGone is the end of an rsync before that of its session.
var errRsyncGone = errors.New("rsync ended before the other machine did")

// exchange copies between a session and the streams of an rsync until the session ends.
func exchange(session *transport.Session, in, out *os.File) error {
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(session.Stdin, in) // whatever ends it, the far side sees the end
		_ = session.Stdin.Close()
	})
	_, lost := io.Copy(out, session.Stdout)
	if lost != nil {
		session.Kill()
		_, _ = io.Copy(io.Discard, session.Stdout)
	}
	err := session.Wait()
	_ = in.Close()
	sending.Wait()
	if lost != nil {
		return errRsyncGone
	}
	return err
}

// statusOf gives the exit status of a program, of one that a signal ended as ssh(1) does.
func statusOf(exit *transport.ExitError) int {
	number, ok := strings.CutPrefix(exit.State, "exit status ")
	status, err := strconv.Atoi(number)
	if !ok || err != nil {
		return lostStatus
	}
	return status
}

// Rsh is the remote shell of an rsync that was given an RsyncLink: words are the link's address and what rsync wants to run. It
// takes the streams of this process, and gives the exit status of the far command.
func Rsh(ctx context.Context, words []string, stderr io.Writer) int {
	status, err := rsh(ctx, words, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "btrfs-backup: %v\n", err)
	}
	return status
}

func rsh(ctx context.Context, words []string, stderr io.Writer) (int, error) {
	if len(words) == 0 || !strings.HasPrefix(words[0], addressStart) {
		return lostStatus, errors.New("rsh is started by an rsync that btrfs-backup runs")
	}
	d := demand{Op: opRun, Secret: os.Getenv(secretVariable), Words: words[1:]}
	_, c, err := ask(words[0], d, os.Stdin, os.Stdout)
	if err != nil {
		return lostStatus, fmt.Errorf("reaching the btrfs-backup that runs rsync: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	for { // standard output stays open: when rsync sees its end, it looks for an exit status, but does not wait for one
		var news rshNews
		if _, err := receiveMessage(c, &news); err != nil {
			return lostStatus, fmt.Errorf("the btrfs-backup that runs rsync is gone: %w", cmp.Or(context.Cause(ctx), err))
		}
		switch {
		case !news.Ended:
			fmt.Fprintln(stderr, news.Said)
		case news.Failure != nil:
			return news.Status, news.Failure
		default:
			return news.Status, nil
		}
	}
}
