package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// A receiver applies the commands of one stream.
type receiver struct {
	ctx    context.Context
	o      Options
	dir    *os.File
	number int64 // of the command
	now    command
	result Result

	root    *os.File // of the new subvolume; nil before it is made
	parent  *os.File // that it builds upon; nil: none
	sources map[btrfs.UUID]*os.File
	dirs    directories
	held    *creation                    // not made yet
	current *file                        // whose work is being gathered
	fresh   struct{ inode, sent uint64 } // of the file that was made last: here, and in the sent subvolume
	pool    *pool
	payload *payload
	times   [2]unix.Timespec // of the root, which what comes later spoils
	flags   []flagged
	open    bool // nothing of the parent is immutable or append-only for now
}

// flagged is a file or directory that gets its flags at the end.
type flagged struct {
	number int64
	path   string
	inode  uint64
	flags  btrfs.Flags
}

func newReceiver(ctx context.Context, dir *os.File, o Options) *receiver {
	if o.Find == nil {
		o.Find = Find(dir)
	}
	r := &receiver{ctx: ctx, o: o, dir: dir, sources: make(map[btrfs.UUID]*os.File)}
	r.pool = newPool(ctx, o.Workers, o.Tolerate)
	return r
}

// handlers apply commands, each with its attributes.
var handlers = [...]func(*receiver, *command) error{
	sendstream.CmdMkfile: (*receiver).create, sendstream.CmdMkdir: (*receiver).create, sendstream.CmdMknod: (*receiver).create,
	sendstream.CmdMkfifo: (*receiver).create, sendstream.CmdMksock: (*receiver).create, sendstream.CmdSymlink: (*receiver).create,
	sendstream.CmdRename: (*receiver).rename, sendstream.CmdLink: (*receiver).link, sendstream.CmdUnlink: (*receiver).unlink,
	sendstream.CmdRmdir: (*receiver).rmdir, sendstream.CmdSetXattr: (*receiver).setXattr, sendstream.CmdRemoveXattr: (*receiver).removeXattr,
	sendstream.CmdWrite: (*receiver).write, sendstream.CmdClone: (*receiver).clone, sendstream.CmdTruncate: (*receiver).truncate,
	sendstream.CmdChmod: (*receiver).chmod, sendstream.CmdChown: (*receiver).chown, sendstream.CmdUtimes: (*receiver).utimes,
	sendstream.CmdUpdateExtent: (*receiver).updateExtent, sendstream.CmdFallocate: (*receiver).fallocate,
	sendstream.CmdFileattr: (*receiver).setFlags, sendstream.CmdEncodedWrite: (*receiver).encodedWrite,
	sendstream.CmdEnableVerity: (*receiver).enableVerity,
}

// apply applies one command, or lets it be applied.
func (r *receiver) apply(from sendstream.Command) error {
	if err := cmp.Or(context.Cause(r.ctx), r.pool.failure()); err != nil {
		return err
	}
	c := &r.now
	err := c.decode(from, r.number)
	switch {
	case err != nil:
	case r.root == nil:
		return r.begin(c)
	case c.kind == sendstream.CmdEnd:
		return nil
	case c.kind == sendstream.CmdSubvol || c.kind == sendstream.CmdSnapshot:
		err = errors.New("a stream holds one subvolume")
	default:
		if c.kind != sendstream.CmdRename {
			err = r.settle()
		}
		if err == nil {
			err = handlers[c.kind](r, c)
		}
	}
	if err = c.failed(err); err != nil && !r.tolerates(err) {
		return err
	}
	return nil
}

func (r *receiver) tolerates(err error) bool { return r.o.Tolerate != nil && r.o.Tolerate(err) }

// begin makes the subvolume.
func (r *receiver) begin(c *command) error {
	s := sendstream.Summary{Name: c.text(sendstream.AttrPath), UUID: c.uuid(sendstream.AttrUUID), TransID: c.uint64(sendstream.AttrCtransid)}
	if c.kind == sendstream.CmdSnapshot {
		s.ParentUUID, s.ParentTransID = c.uuid(sendstream.AttrCloneUUID), c.uint64(sendstream.AttrCloneCtransid)
	}
	if c.bad != nil {
		return c.failed(nil)
	}
	if r.o.Begin != nil {
		if err := r.o.Begin(s); err != nil {
			return err
		}
	}
	name := cmp.Or(r.o.Name, s.Name)
	make := func() error { return btrfs.Create(r.dir, name) }
	if c.kind == sendstream.CmdSnapshot {
		var err error
		if r.parent, err = r.find(s.ParentUUID, s.ParentTransID); err != nil {
			return err
		}
		r.sources[s.ParentUUID] = r.parent
		make = func() error { return btrfs.SnapshotWritable(r.parent, r.dir, name) }
	}
	if err := make(); err != nil {
		return err
	}
	r.result.Summary = s
	r.result.Name = name
	var err error
	if r.root, err = btrfs.OpenDirAt(r.dir, name); err != nil {
		return err
	}
	r.dirs.root = int(r.root.Fd())
	if _, err := clearFlags(r.dirs.root, locks); err != nil {
		return err
	}
	if err := r.noteTimes(); err != nil {
		return err
	}
	r.sources[s.UUID] = r.root // even if it is that of the parent, of which it is another copy then
	if r.o.Source != nil {
		r.payload, err = newPayload(r.ctx, r.pool, *r.o.Source, s.UUID, r.parent, r.o.Copied)
	}
	return err
}

// noteTimes notes the times that the root has of the parent: a stream that does not change the root may work in it nevertheless.
func (r *receiver) noteTimes() error {
	var st unix.Stat_t
	err := unix.Fstat(r.dirs.root, &st)
	r.times = [2]unix.Timespec{st.Atim, st.Mtim}
	return err
}

// find opens what had a UUID.
func (r *receiver) find(uuid btrfs.UUID, transaction uint64) (*os.File, error) {
	if uuid.IsZero() {
		return nil, fmt.Errorf("%w: the stream does not tell which it is", ErrNoParent)
	}
	return r.o.Find(uuid, transaction)
}

// finish makes a backup of what was received.
func (r *receiver) finish(s sendstream.Summary) (Result, error) {
	s.Name = r.result.Name
	r.result.Summary = s
	if err := r.settle(); err != nil && !r.tolerates(err) {
		return r.result, r.stop(err)
	}
	r.flush()
	if err := r.pool.wait(); err != nil {
		return r.result, err
	}
	r.result.Unshared, r.result.Uncompressed = r.pool.unshared.Load(), r.pool.uncompressed.Load()
	if err := cmp.Or(context.Cause(r.ctx), r.setLast()); err != nil {
		return r.result, err
	}
	r.dirs.close()
	if err := btrfs.SyncFilesystem(r.root); err != nil {
		return r.result, err
	}
	if err := btrfs.SetReceivedFrom(r.root, s.UUID, s.TransID); err != nil {
		return r.result, err
	}
	if err := btrfs.SetReadOnly(r.dir, s.Name, true); err != nil {
		return r.result, err
	}
	var err error
	r.result.Subvolume, err = btrfs.Info(r.root)
	return r.result, err
}

// setLast sets what other commands would spoil or be kept out by: flags of files, and the times of the root, in which a sender makes new
// nodes under temporary names after it may have sent them (linux/fs/btrfs/send.c: SEND_MAX_DIR_UTIMES_CACHE_SIZE).
func (r *receiver) setLast() error {
	if err := r.unlocked(func() error { return utimes(r.dirs.root, ".", r.times) }); err != nil {
		return err
	}
	for _, f := range r.flags {
		if err := r.applyFlags(f); err != nil {
			err = &Error{f.number, sendstream.CmdFileattr, f.path, "", err}
			if !r.tolerates(err) {
				return err
			}
		}
	}
	return nil
}

// stop ends the workers. Of all errors the one of the earliest command is told.
func (r *receiver) stop(err error) error {
	r.flush()
	earlier := r.pool.wait()
	var here, there *Error
	if errors.As(earlier, &there) && (!errors.As(err, &here) || there.Number < here.Number) {
		return earlier
	}
	return err
}

func (r *receiver) close() {
	r.flush()
	_ = r.pool.wait() // it was told before
	r.dirs.close()
	for _, f := range append(slices.Collect(maps.Values(r.sources)), r.parent, r.root) {
		if f != nil {
			f.Close() // for the second time, at times, which does nothing
		}
	}
}
