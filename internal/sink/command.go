// Package sink holds the destinations that take send streams and cannot list them.
//
// Only the source's ledger tells which snapshots such a destination was sent, so nothing is verified, listed or deleted there.
package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/time/rate"
)

// Scheme begins the name of a Command.
const Scheme = "shell://"

// Command is a shell command that takes a send stream on its standard input. It is run by `sh -c`, once for each snapshot,
// with these variables in its environment:
//
//	BTRFS_BACKUP_SNAPSHOT  the name of the snapshot
//	BTRFS_BACKUP_PARENT    the name of the snapshot that the stream is an increment to; empty for a complete copy
//	BTRFS_BACKUP_UUID      the UUID of the snapshot, as it stands in the stream
//	BTRFS_BACKUP_BYTES     how many bytes will come, or an upper bound where extents are sent compressed
type Command struct {
	line string
	from stream.Sender
	Options
	limiter *rate.Limiter
}

// Options tell how the command is given the stream.
type Options struct {
	Log      *slog.Logger
	Progress *progress.Display
	Limit    rate.Limit // bytes of the stream per second; 0: as many as go
}

var (
	_ engine.Destination = (*Command)(nil)
	_ stream.Target      = (*Command)(nil)
)

// NewCommand gives the destination that runs a shell command for the snapshots of a source.
func NewCommand(line string, from stream.Sender, o Options) *Command {
	c := &Command{line: line, from: from, Options: o}
	if o.Limit > 0 {
		c.limiter = transport.NewLimiter(o.Limit)
	}
	return c
}

// String is what stands in the ledger.
func (c *Command) String() string { return Scheme + c.line }

// Save gives the command the stream of a snapshot.
func (c *Command) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	return stream.Course{From: c.from, To: c, Log: c.Log, Progress: c.Progress}.Save(ctx, t)
}

// Accepts gives the protocol that every version of the btrfs program can receive one day.
func (c *Command) Accepts(context.Context) (sendstream.Format, error) {
	return sendstream.Format{Protocol: 1}, nil
}

// Receive runs the command.
func (c *Command) Receive(ctx context.Context, t stream.Transfer) (stream.Receiver, error) {
	total, err := t.Measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("measuring the stream: %w", err)
	}
	r, w, err := transport.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := transport.Local{Log: c.Log, Level: slog.LevelInfo}.Start(ctx, transport.Command{
		Argv:  []string{"sh", "-c", c.line},
		Stdin: r,
		Env: []string{
			"BTRFS_BACKUP_SNAPSHOT=" + t.Snapshot.Name,
			"BTRFS_BACKUP_PARENT=" + t.ParentName(),
			"BTRFS_BACKUP_UUID=" + t.Snapshot.UUID.String(),
			"BTRFS_BACKUP_BYTES=" + strconv.FormatInt(total.Bytes, 10),
		},
	})
	if err != nil {
		w.Close()
		return nil, err
	}
	out, in := io.Pipe()
	receiver := &receiver{PipeWriter: in, process: p, ended: make(chan struct{})}
	go func() {
		defer close(receiver.ended)
		_, err := sendstream.Copy(transport.Limit(ctx, w, c.limiter), out) // which may come from another machine
		if err != nil && !errors.As(err, new(*sendstream.WriteError)) {
			p.Kill() // before it takes the end of its input for the end of the stream
			_ = p.Wait()
			w.Close()
		} else {
			w.Close()
			err = cmp.Or(p.Wait(), err)
		}
		receiver.err = err
		out.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
	}()
	return receiver, nil
}

// receiver is one run of the command. What is written to it is checked on the way.
type receiver struct {
	*io.PipeWriter
	process *transport.Process
	ended   chan struct{} // closed when err is there
	err     error
}

// Close waits for the command, whose exit status is the verdict.
func (r *receiver) Close(context.Context) (btrfs.Subvolume, error) {
	r.PipeWriter.Close()
	<-r.ended
	err := r.err
	var exit *transport.ExitError
	if errors.As(err, &exit) {
		err = hint.New(fmt.Errorf("the command failed (%s): %w", exit.State, err), "the command stored a part of the snapshot at most; the next run sends all of it again")
	}
	return btrfs.Subvolume{}, err
}

// Commit does nothing: what the command stored, it stored.
func (r *receiver) Commit(context.Context, host.Origin) error { return nil }

// Abort kills the command, so that it does not take the end of its input for the end of the stream.
func (r *receiver) Abort(context.Context) error {
	r.CloseWithError(errors.New("the transfer was given up"))
	r.process.Kill()
	<-r.ended
	return nil
}
