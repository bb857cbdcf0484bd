// Package host works on directories of subvolumes, on this machine or on another one.
//
// It is the contract only. A machine is reached in one of two ways, which do the same: as this process (local), or by this
// program at the far end of an SSH session (agent, answered by serve). Names are single path components in an open directory; only
// Open, MkdirAll, Take and Rmdir take paths, which are absolute.
//
// Errors of a far side keep what errors.Is and errors.As find in them: fs.ErrNotExist and fs.ErrExist, errnos,
// *lock.HeldError, *transport.ExitError, *btrfs.SendError, and the errors of sendstream and tree. A lost connection is
// transport.ErrDisconnected.
package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/received"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/time/rate"
)

// ErrNotLink is in errors of what stands where a symbolic link belongs.
var ErrNotLink = errors.New("is not a symbolic link")

// A Host is a machine.
type Host interface {
	// String is empty for this machine, else as in ssh://[user@]host[:port].
	String() string
	// Open opens a directory, on btrfs or not. A missing one is fs.ErrNotExist.
	Open(ctx context.Context, path string) (*Dir, error)
	// List opens a directory and lists it, in one round trip.
	List(ctx context.Context, path string) (Status, Content, error)
	// MkdirAll makes a directory and those above it that are missing.
	MkdirAll(ctx context.Context, path string) error
	// StockFormat gives the best format that the btrfs program there can receive; Format what this program can, on any machine.
	StockFormat(ctx context.Context) (sendstream.Format, error)
}

// Status describes an open directory.
type Status struct {
	Path       string
	Privileged bool            // whoever works on it is root there
	NoWrite    uint32          // errno that tells why nothing can be made in it; 0 if it can
	Empty      bool            // it holds nothing, as the place where a disk is not mounted
	DirID      btrfs.DirID     // identifies the directory; where there are no subvolumes, on this machine only
	Btrfs      bool            // what follows is known on btrfs only
	Subvolume  btrfs.Subvolume // that holds the directory
	IsRoot     bool            // the directory is the root of its subvolume
	NoReceive  string          // why nothing can be received there, whatever the directory; "" if it can
}

// CheckWritable fails unless something can be made in the directory.
func (s Status) CheckWritable() error {
	if s.NoWrite == 0 {
		return nil
	}
	err := &fs.PathError{Op: "writing in", Path: s.Path, Err: syscall.Errno(s.NoWrite)}
	switch {
	case s.Btrfs && s.Subvolume.ReadOnly:
		return hint.New(err, "it lies in a read-only snapshot: name another folder")
	case err.Err == syscall.EPERM:
		return hint.New(err, "it is immutable or append-only: lsattr -d shows it, chattr -i -a ends it")
	}
	return err
}

// Above describes the nearest directory above a path that is missing.
func Above(ctx context.Context, h Host, missing string) (Status, error) {
	for above := path.Dir(missing); ; above = path.Dir(above) {
		dir, err := h.Open(ctx, above)
		if errors.Is(err, fs.ErrNotExist) && above != "/" {
			continue
		}
		if err != nil {
			return Status{}, err
		}
		return dir.Status(), dir.Close()
	}
}

// Content is what a directory holds.
type Content struct {
	btrfs.Listing
	Sizes   map[uint64]btrfs.Size // by subvolume ID, where quotas are enabled
	Ledger  File                  // lock.LedgerFile
	Origins File                  // see Content.Recorded
	About   File                  // see Content.Recorded
	// Verified tells when received subvolumes were verified last, by name; what cannot be read is missing.
	Verified map[string]received.Verification
	Free     uint64   // bytes that an ordinary user can still write
	Others   []string // names of what is no subvolume; not all, if there are thousands
	// Keeps is the policy by which the machine deletes backups that arrived in the directory, whoever asks; "": none.
	Keeps string
}

// InUse tells why subvolumes of the directory are not to be deleted, by name.
func (c Content) InUse() map[string]string {
	inUse := make(map[string]string)
	for _, s := range c.InDirectory {
		if why := s.InUse(); why != "" {
			inUse[s.Name] = why
		}
	}
	return inUse
}

// A File is what a file of ours holds.
type File struct {
	Content []byte // nil if there is none
	Failure string // why it could not be read
}

// Read gives the content, or the failure as an error.
func (f File) Read() ([]byte, error) {
	if f.Failure != "" {
		return nil, errors.New(f.Failure)
	}
	return f.Content, nil
}

// A Dir is an open directory, in the roles that it can have. It must be closed.
type Dir struct {
	Folder
	Snapshots
	Backups
	Files
	Sets
	Past
	Healing
	Contents
	Records
	Restorer
	Space
	Relinker
	Loose
	Attributed
}

// A Folder holds subvolumes. It must be closed, which gives its lock up.
type Folder interface {
	Status() Status
	// Lock keeps other runs out until release or Close; see lock.Acquire.
	Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error)
	// List reads everything anew. Unfinished backups that wait for their sender are left out.
	List(ctx context.Context) (Content, error)
	// Delete deletes what it can of the named subvolumes; it gives the names of those deleted, and every failure.
	Delete(ctx context.Context, names []string, o DeleteOptions) (deleted []string, err error)
	Close() error
}

// A LockLister is a Folder that lists itself at once when it is locked.
type LockLister interface {
	// LockList is Lock, and then List.
	LockList(ctx context.Context, waiting func(*lock.HeldError)) (found Content, release func() error, err error)
}

// Snapshots are taken and sent from where they are.
type Snapshots interface {
	// Nested gives the subvolumes of the same subvolume below the directory, without those within them.
	Nested(ctx context.Context) ([]Nested, error)
	// Changed tells whether the subvolume differs from a snapshot of it; see btrfs.IsChanged.
	Changed(ctx context.Context, since btrfs.Subvolume, except uint64) (bool, error)
	// Take makes a read-only snapshot of the subvolume at the path source, which must still be the one of that UUID, and
	// waits until it is on disk. A name that is taken is fs.ErrExist. The source is no received copy any more.
	Take(ctx context.Context, source string, uuid btrfs.UUID, name string) (btrfs.Subvolume, error)
	// Rmdir removes an empty directory, but no subvolume.
	Rmdir(ctx context.Context, path string) error
	// Send writes the checked send stream to w. An error of w is returned as a *sendstream.WriteError.
	Send(ctx context.Context, o SendOrder, w io.Writer) (sendstream.Summary, error)
	// Measure tells how many bytes Send will write.
	Measure(ctx context.Context, o SendOrder) (int64, error)
}

// Backups are received where they stay.
type Backups interface {
	// Receive begins to receive a subvolume, whose final name must be free.
	Receive(ctx context.Context, o ReceiveOrder) (Receiver, error)
	// Copies tells that a ReceiveOrder can have the directory of those snapshots as DataSource.
	Copies(from Snapshots) bool
}

// Files are what stands beside the subvolumes.
type Files interface {
	// WriteLedger replaces the file lock.LedgerFile, on disk too.
	WriteLedger(ctx context.Context, content []byte) error
	// Link makes or replaces a symbolic link, on disk too, but replaces nothing else.
	Link(ctx context.Context, name, target string) error
}

// Nested is a subvolume within another one.
type Nested struct {
	Path        string // from the directory that was asked about
	ID          uint64
	ParentUUID  btrfs.UUID
	ReadOnly    bool
	Container   uint64 // ID of the subvolume that it lies in
	ContainerAt uint64 // inode number of the directory in that; 0 if unknown
}

// IsSnapshotOf tells that it is a snapshot of s, as which it needs no backup of its own.
func (n Nested) IsSnapshotOf(s btrfs.Subvolume) bool {
	return n.ParentUUID == s.UUID && !s.UUID.IsZero()
}

// DeleteOptions tell how subvolumes are deleted.
type DeleteOptions struct {
	ConvertRW bool // make them writable first
	Wait      bool // until they are gone from the disk
	Verbose   bool
}

// A SendOrder tells what is to be sent. The names are those of subvolumes in the directory.
type SendOrder struct {
	Snapshot string
	Parent   string // "": a complete copy
	Format   sendstream.Format
	// After is what the receiver has already. It is compared and left out; if the stream does not begin so, the error is
	// sendstream.ErrPrefixDiffers.
	After   sendstream.Prefix
	Verbose bool
	Wire    func(n int64) `cbor:"-"` // is told of bytes that cross a network; may be nil
}

// A ReceiveOrder tells what is going to be received.
type ReceiveOrder struct {
	Name    string // the final one
	Key     string // equal for equal streams: an interrupted transfer goes on only with the same
	Verbose bool
	Stock   bool          // by the program btrfs receive
	Limit   *rate.Limiter `cbor:"-"` // of bytes on the network, or of the stream where there is none; may be nil
	Wire    func(n int64) `cbor:"-"`
	Taken   func(n int64) `cbor:"-"` // is told by a Resumer of bytes of the stream that arrived; may be nil
	From    *DataSource   `cbor:"-"` // has the data of a stream without; may be nil
	Copied  func(n int64) `cbor:"-"` // is told of bytes that were taken from it; may be nil
}

// A DataSource is a snapshot on the machine where its backup is received. The names are those of subvolumes in the directory.
type DataSource struct {
	Dir      Snapshots
	Snapshot string
	Parent   string // "": a complete copy
}

// A Receiver takes one send stream. The subvolume stands under its hidden name (btrfs.Incoming) until Commit. After Close
// either Commit or Abort must be called.
type Receiver interface {
	io.Writer
	// Close ends the stream and describes the received subvolume.
	Close(ctx context.Context) (btrfs.Subvolume, error)
	// Commit puts the backup on disk and then under its final name, and records of what it is.
	Commit(ctx context.Context, of Origin) error
	// Abort ends receiving and removes the received part.
	Abort(ctx context.Context) error
}

// A Resumer is a Receiver that outlives a broken connection, and the sender.
type Resumer interface {
	// Taken tells what the receiver has taken so far: before the first Write, what an earlier run left; after a Write that
	// failed with transport.ErrDisconnected, once the machine is reached again, where to go on.
	Taken(ctx context.Context) (sendstream.Prefix, error)
}
