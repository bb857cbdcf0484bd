// Package receive makes subvolumes of send streams, as the program `btrfs receive` does: all commands of the protocols 1 to 3, without
// that program, a mount namespace or the mount table.
//
// A stream is not trusted. Each path of it is opened beneath the new subvolume, through no symbolic link and into no mount; device nodes are
// made and never opened; data is cloned from the subvolume itself and from what it builds upon. What no sender writes is refused.
//
// The commands that concern names are applied in the order of the stream. What is done to the data of a file, and to the file behind it,
// is done by workers, for each file in order. A stream without data (`btrfs send --no-data`) gets it from the snapshot itself, if that is
// on this machine: compressed extents as they are, the rest plainly.
//
// Nothing counts before the END command: until then the subvolume is writable and without a received UUID. At the end its data is on disk
// first, then it gets the UUID, then it is read-only.
package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// Format is the best variety of stream that there is, and is received.
var Format = sendstream.Format{Protocol: 3, Compressed: true}

// Options tell how a stream is received.
type Options struct {
	// Name is that of the subvolume to be made in the directory, which must be free; "": the one in the stream.
	Name string
	// Begin is called with what the stream is before anything is made; an error refuses it. May be nil.
	Begin func(sendstream.Summary) error
	// Find opens the root of the read-only subvolume that is a copy of what had a UUID, in the state of a transaction of the sender's
	// filesystem. It is asked for what an increment builds upon. The files are closed by Stream. nil: Find, of all in the filesystem.
	Find func(uuid btrfs.UUID, transaction uint64) (*os.File, error)
	// AnyClone lets data be taken of what Find finds, too, not only of the subvolume itself and of what it builds upon.
	AnyClone bool
	// Decompress lets data that is compressed in the stream be written as what it holds.
	Decompress bool
	// Source has the data of a stream without data.
	Source *Source
	// Copied is told of data that was taken from Source, in bytes. May be nil; workers call it.
	Copied func(bytes int64)
	// Workers is how many write data; 0: as many as suit the machine.
	Workers int
	// Tolerate is asked about the error of one command: true goes on with the next. nil: none is tolerated.
	Tolerate func(error) bool
}

// A Source is a snapshot on this machine, and what it builds upon there, each open at its root. The caller closes them.
type Source struct {
	Snapshot *os.File
	Parent   *os.File // nil for a complete stream
}

// A Result tells what was received.
type Result struct {
	sendstream.Summary
	Subvolume btrfs.Subvolume
	Unshared  int64 // ranges that could not be cloned, so that they were copied
	// Uncompressed is how often it was left out how a file is to be compressed, since it has content without checksums there (chattr +C).
	Uncompressed int64
}

// An Error is that of one command.
type Error struct {
	Number  int64 // of the command in the stream, from 1
	Command sendstream.CommandType
	Path    string // in the subvolume, as it is in the stream; "" is its root
	Xattr   string // the name of the extended attribute that it is about; "": none
	Err     error
}

func (e *Error) Error() string {
	what := e.Command.String()
	if e.Xattr != "" {
		what += " " + strconv.Quote(e.Xattr)
	}
	return fmt.Sprintf("command %d of the stream, %s of %q: %v", e.Number, what, cmp.Or(e.Path, "."), e.Err)
}

// Unwrap gives the cause, unless it is that a name of the stream is there already, or missing: that says nothing of where it is received.
func (e *Error) Unwrap() error {
	if errors.Is(e.Err, fs.ErrExist) || errors.Is(e.Err, fs.ErrNotExist) {
		return nil
	}
	return e.Err
}

// A SourceError tells that the data of a file could not be read from Source.
type SourceError struct {
	Offset int64 // bytes
	Err    error
}

func (e *SourceError) Error() string {
	return fmt.Sprintf("reading the snapshot at byte %d: %v", e.Offset, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// Stream makes a subvolume in dir of one stream, which it reads to its end and checks; see sendstream.NewReader. The errors are those of
// the reader, *Error, and those of beginning and finishing. After an error, what was made is left under its name, for the caller to
// delete: Result.Name tells whether there may be something. A cancelled context ends it, but not a Read that waits.
func Stream(ctx context.Context, dir *os.File, stream io.Reader, o Options) (Result, error) {
	commands := sendstream.NewReader(stream)
	r := newReceiver(ctx, dir, o)
	defer r.close()
	for {
		c, err := commands.Next()
		if errors.Is(err, io.EOF) {
			break // behind END
		}
		if err == nil {
			r.number++
			err = r.apply(c)
		}
		if err != nil {
			return r.result, r.stop(err)
		}
	}
	return r.finish(commands.Summary())
}

// IsCopy tells that the numbers of a subvolume are those of a copy of what had a UUID, in the state of a transaction of the sender's
// filesystem.
func IsCopy(s btrfs.Subvolume, uuid btrfs.UUID, transaction uint64) bool {
	return s.ReceivedUUID == uuid && s.SentIn == transaction || s.UUID == uuid && s.ChangedIn == transaction
}

// Find gives Options.Find for all subvolumes of dir's filesystem: by received UUID and then by UUID, each with the transaction. Of what the
// sender has received itself, the transaction is another one than that of where it is from: there, only what nobody altered is taken, see
// btrfs.Subvolume. It needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH.
func Find(dir *os.File) func(uuid btrfs.UUID, transaction uint64) (*os.File, error) {
	return func(uuid btrfs.UUID, transaction uint64) (*os.File, error) {
		listing, err := btrfs.List(dir, uuid)
		if err != nil {
			return nil, err
		}
		for _, fits := range []func(btrfs.Subvolume) bool{
			func(s btrfs.Subvolume) bool { return IsCopy(s, uuid, transaction) && s.ReceivedUUID == uuid },
			func(s btrfs.Subvolume) bool { return IsCopy(s, uuid, transaction) },
			func(s btrfs.Subvolume) bool { return s.ReceivedUUID == uuid && s.AlteredIn == 0 },
			func(s btrfs.Subvolume) bool { return s.UUID == uuid && s.AlteredIn == 0 },
		} {
			for _, s := range listing.All {
				if s.ReadOnly && fits(s) {
					return btrfs.OpenSubvolume(dir, s.ID)
				}
			}
		}
		return nil, fmt.Errorf("%w: no read-only subvolume there is a copy of %s as of transaction %d, or unaltered", ErrNoParent, uuid, transaction)
	}
}

// ErrNoParent tells that what a stream builds upon, or takes data of, is not there.
var ErrNoParent = errors.New("parent not found")
