package rsh

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

	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// A request is what Run asks for, with two files: the streams of rsync.
type request struct {
	Secret string
	Words  []string
}

// news is what Run is told while a session runs. The far side's standard error goes this way, and not to Run's own as a file:
// that is rsync's too, which does not expect it to be in non-blocking mode.
type news struct {
	Said    string `cbor:"said,omitempty"`
	Ended   bool   `cbor:"ended,omitempty"`
	Status  int    `cbor:"status,omitempty"` // when it ended
	Failure string `cbor:"failure,omitempty"`
}

// lostStatus is the exit status of a remote shell that failed itself, as of ssh(1).
const lostStatus = 255

// answer takes the streams of a Run and connects them with a session.
func (l *Link) answer(c *handoff.Conn, first wire.Raw) {
	defer c.Close()
	var r request
	refusal := first.Decode(&r)
	switch {
	case refusal != nil:
	case !handoff.SameSecret(r.Secret, l.secret):
		refusal = handoff.ErrNobody
	case len(c.Files) != 2:
		refusal = errors.New("a session comes with two files")
	}
	if refusal != nil {
		_ = c.Send(news{Ended: true, Status: lostStatus, Failure: refusal.Error()}) // nobody else is to know
		return
	}
	if c.Send(news{}) == nil {
		l.carry(c, r.Words)
	}
}

// carry connects the streams of a Run with a session, until that or the Run ends.
func (l *Link) carry(c *handoff.Conn, words []string) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, c.CloseFiles)() // an rsync that does not read holds nothing up
	go func() {
		c.Wait()
		cancel()
	}()
	said := func(line string) { _ = c.Send(news{Said: line}) } // a Run that ended needs none
	session, err := l.open(ctx, words, said)
	if err == nil {
		err = exchange(session, c.Files[0], c.Files[1])
	}
	end := news{Ended: true}
	var exit *transport.ExitError
	switch {
	case errors.As(err, &exit):
		end.Status = statusOf(exit)
	case err != nil:
		end.Status, end.Failure = lostStatus, err.Error()
		if ctx.Err() == nil && !errors.Is(err, errRsyncGone) {
			l.fail(err)
		}
	}
	_ = c.Send(end)
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

// Run is the remote shell of an rsync that was given a Link: words are the link's address and what rsync wants to run. It takes
// the streams of this process, and gives the exit status of the far command.
func Run(ctx context.Context, words []string, stderr io.Writer) int {
	status, err := run(ctx, words, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "btrfs-backup: %v\n", err)
	}
	return status
}

func run(ctx context.Context, words []string, stderr io.Writer) (int, error) {
	if len(words) == 0 || !handoff.IsAddress(words[0]) {
		return lostStatus, errors.New("rsh is started by an rsync that btrfs-backup runs")
	}
	var n news
	c, err := handoff.Ask(words[0], request{os.Getenv(secretVariable), words[1:]}, &n, os.Stdin, os.Stdout)
	if err == nil && n.Failure != "" {
		err = errors.Join(errors.New(n.Failure), c.Close())
	}
	if err != nil {
		return lostStatus, fmt.Errorf("reaching the btrfs-backup that runs rsync: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	for { // standard output stays open: when rsync sees its end, it looks for an exit status, but does not wait for one
		var n news
		if err := c.Receive(&n); err != nil {
			return lostStatus, fmt.Errorf("the btrfs-backup that runs rsync is gone: %w", cmp.Or(context.Cause(ctx), err))
		}
		switch {
		case !n.Ended:
			fmt.Fprintln(stderr, n.Said)
		case n.Failure != "":
			return n.Status, errors.New(n.Failure)
		default:
			return n.Status, nil
		}
	}
}
