package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// Receive makes a subvolume of a stream in the directory.
func (d *Dir) Receive(ctx context.Context, o host.ReceiveOrder) (host.Receiver, error) {
	r, err := d.StartReceive(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	r.Writer = transport.Limit(ctx, r.Writer, o.Limit)
	return r, nil
}

// StartReceive is Receive without a limit. begin, unless it is nil, may refuse a stream for what it is.
func (d *Dir) StartReceive(ctx context.Context, o host.ReceiveOrder, begin func(sendstream.Summary) error) (*Receiver, error) {
	hidden := btrfs.Incoming(o.Name)
	for _, n := range []string{o.Name, hidden} {
		if err := d.checkFree(n); err != nil {
			return nil, err
		}
	}
	options := receive.Options{Name: hidden, Begin: begin, Find: d.findParent, Copied: o.Copied}
	receiveStream := func(ctx context.Context, stream io.Reader) error {
		result, err := receive.Stream(ctx, d.dir, stream, options)
		if err == nil {
			d.host.tell(o.Verbose, describeReceived(filepath.Join(d.status.Path, hidden), result))
		}
		return err
	}
	if o.Stock {
		receiveStream = func(ctx context.Context, stream io.Reader) error { return d.receiveByProgram(ctx, o, stream) }
	}
	source, err := d.sourceOf(o)
	if err != nil {
		return nil, err
	}
	options.Source = source
	r, w := io.Pipe()
	ctx, cancel := context.WithCancelCause(ctx)
	receiver := &Receiver{Writer: w, d: d, name: o.Name, stream: w, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(receiver.done)
		defer closeSource(source)
		receiver.err = d.explainFull(receiveStream(ctx, r))
		r.CloseWithError(cmp.Or(receiver.err, io.ErrClosedPipe))
	}()
	failpoint.Reach("receive begun")
	return receiver, nil
}

func describeReceived(path string, r receive.Result) string {
	text := fmt.Sprintf("received %s: %d commands, %d bytes", path, r.Commands, r.Bytes)
	if r.Unshared > 0 {
		text += fmt.Sprintf("; %d ranges were copied that could not be cloned", r.Unshared)
	}
	if r.Uncompressed > 0 {
		text += fmt.Sprintf("; %d times, how to compress was left out, since the file there is without checksums (chattr +C)", r.Uncompressed)
	}
	return text
}

// checkFree looks for what would be in the way of a name.
func (d *Dir) checkFree(name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	path := filepath.Join(d.status.Path, name)
	if err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := "a file"
	switch {
	case isSubvolume(st):
		kind = "another subvolume"
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		kind = "a directory"
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		kind = "a symbolic link"
	}
	return inTheWay(path, kind)
}

// Receiver is a stream on its way into a subvolume.
type Receiver struct {
	io.Writer
	d      *Dir
	name   string
	stream *io.PipeWriter
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when err is there
	err    error
}

func (r *Receiver) Close(context.Context) (btrfs.Subvolume, error) {
	r.stream.Close()
	<-r.done
	if r.err != nil {
		return btrfs.Subvolume{}, r.err
	}
	failpoint.Reach("received")
	return btrfs.InfoAt(r.d.dir, btrfs.Incoming(r.name))
}

// Commit syncs before it renames: the name must not reach the disk before the data.
func (r *Receiver) Commit(_ context.Context, of host.Origin) error {
	return r.d.explainFull(r.d.Commit(r.name, of))
}

// Commit gives what was received its final name, as Receiver.Commit does.
func (d *Dir) Commit(name string, of host.Origin) error {
	attributes := d.records().KeepAttributes(btrfs.Incoming(name), of.Attributes)
	if err := btrfs.SyncFilesystem(d.dir); err != nil {
		return err
	}
	failpoint.Reach("synced")
	if err := btrfs.Settle(d.dir, btrfs.Incoming(name)); err != nil {
		return err
	}
	if err := btrfs.Rename(d.dir, btrfs.Incoming(name), name); err != nil {
		return err
	}
	failpoint.Reach("renamed")
	d.host.log.Debug("renamed " + filepath.Join(d.status.Path, name))
	if err := d.records().Add(name, of, attributes); err != nil {
		return err
	}
	err := btrfs.SyncFilesystem(d.dir)
	failpoint.Reach("committed")
	return err
}

// FinishCommit does what of Commit comes after the renaming, if that has not been done.
func (d *Dir) FinishCommit(backup btrfs.Subvolume, name string, of host.Origin) error {
	origins, err := host.ParseOrigins(d.file(host.OriginsFile))
	if _, known := origins[backup.ReceivedUUID]; known && err == nil {
		return nil
	}
	if err := d.records().Add(name, of, d.records().KeepAttributes(name, of.Attributes)); err != nil {
		return err
	}
	return btrfs.SyncFilesystem(d.dir)
}

func (r *Receiver) Abort(context.Context) error {
	stopped := errors.New("receiving was stopped")
	r.cancel(stopped)
	r.stream.CloseWithError(stopped)
	<-r.done
	return r.d.Discard(r.name)
}

// Discard deletes what was received under the hidden name.
func (d *Dir) Discard(name string) error {
	err := d.deleteOne(btrfs.Incoming(name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// inTheWay refuses to receive what could not get its name in the end.
func inTheWay(path, kind string) error {
	return hint.New(fmt.Errorf("%w: %s is %s, not a copy of the snapshot", fs.ErrExist, path, kind),
		"run again if it is a backup of another source in the same second (--snapshot-prefix keeps their names apart); else rename it, or use "+
			"--clean-partial if an interrupted btrfs receive left it")
}

// process is a started program.
type process interface {
	Kill()
	Wait() error
}

func verbosity(verbose bool) string {
	if verbose {
		return "-vv"
	}
	return "-q"
}
