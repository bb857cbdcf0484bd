// Package byhand receives streams as people and scripts type it: with the options, messages and files of `btrfs receive`, but without
// btrfs-progs, and with a final name only for what is complete.
package byhand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// Order tells what is to be received.
type Order struct {
	Dir     string    // in which the subvolumes are made
	Streams io.Reader // one behind the other
	OnlyOne bool      // ends at the END command of the first; else at the end of the input
	Most    int       // errors of single commands after which it gives up; 0: never
	Quiet   bool
	Details bool      // tells UUIDs, too
	Said    io.Writer // messages
	Out     io.Writer // the message that an increment begins, as btrfs receive has it
	Inflate bool      // compressed data is not written as it is
}

// Receive makes a subvolume of each stream. One that failed leaves nothing. Errors of single commands that are tolerated are told, and
// make it fail in the end: what was received then is complete but for these.
func Receive(ctx context.Context, o Order) error {
	dir, err := os.OpenFile(o.Dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := btrfs.CheckFilesystem(dir); err != nil {
		return fmt.Errorf("%s is %w", o.Dir, err)
	}
	streams := sendstream.NewSplitter(o.Streams)
	r := receiver{Order: o, dir: dir}
	for found := 0; ; found++ {
		more, err := streams.Next()
		if err != nil {
			return err
		}
		if !more && found == 0 {
			return hint.New(sendstream.ErrEmpty, "the command that makes the stream failed, or the file is empty")
		}
		if !more || o.OnlyOne && found > 0 && !streams.Joint() {
			return r.failed
		}
		if err := r.receive(ctx, streams); err != nil {
			return err
		}
	}
}

type receiver struct {
	Order
	dir    *os.File
	mu     sync.Mutex
	errors int
	failed error // the first that was tolerated
}

func (r *receiver) receive(ctx context.Context, stream *sendstream.Splitter) error {
	of, err := stream.Head()
	if err != nil {
		return err
	}
	if err := r.mustBeFree(of.Name); err != nil {
		return err
	}
	hidden := btrfs.Incoming(of.Name)
	result, err := receive.Stream(ctx, r.dir, stream, receive.Options{Name: hidden, AnyClone: true, Decompress: r.Inflate, Begin: r.begin, Tolerate: r.tolerate})
	if err != nil {
		if result.Name != "" {
			err = errors.Join(err, btrfs.Delete(r.dir, hidden))
		}
		return r.explained(err)
	}
	if err := btrfs.Rename(r.dir, hidden, of.Name); err != nil {
		return err
	}
	return btrfs.SyncFilesystem(r.dir)
}

// mustBeFree finds a name that is taken before all is received in vain.
func (r *receiver) mustBeFree(name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(r.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		return hint.New(&fs.PathError{Op: "receiving", Path: r.Dir + "/" + name, Err: fs.ErrExist}, "name another folder, or rename what is there")
	}
	return nil
}

func (r *receiver) begin(s sendstream.Summary) error {
	if r.Quiet {
		return nil
	}
	kind, to := "subvol", r.Said
	if s.ParentUUID != [16]byte{} {
		kind, to = "snapshot", r.Out
	}
	fmt.Fprintf(to, "At %s %s\n", kind, s.Name)
	if r.Details {
		fmt.Fprintf(r.Said, "receiving %s %s uuid=%s, stransid=%d\n", kind, s.Name, btrfs.UUID(s.UUID), s.TransID)
	}
	return nil
}

// tolerate is called by several workers.
func (r *receiver) tolerate(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.errors++; r.Most > 0 && r.errors >= r.Most {
		return false
	}
	fmt.Fprintf(r.Said, "ERROR: %v\n", err)
	if r.failed == nil {
		r.failed = err
	}
	return true
}

func (r *receiver) explained(err error) error {
	if errors.Is(err, receive.ErrNoParent) {
		return hint.New(err, "receive first what it builds upon, into the same filesystem; `btrfs subvolume list -uqR "+r.Dir+"` shows what is there")
	}
	return err
}
