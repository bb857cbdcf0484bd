package local

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// receivingStart begins the name of the notice of a transfer that a process holds, in the state directory of the folder.
const receivingStart = "receiving-"

// ParkedAddress is where the process is found that holds the unfinished transfer of a backup, and waits for its sender if the
// connection was lost; "" if there is none.
func (d *Dir) ParkedAddress(name string) string {
	state, err := openState(d.dir, false)
	if err != nil {
		return ""
	}
	defer state.Close()
	return handoff.Noticed(state, receivingStart+name)
}

// IsParked tells whether a process holds the unfinished transfer of a backup.
func (d *Dir) IsParked(name string) bool { return handoff.IsTaken(d.ParkedAddress(name)) }

// withoutParked leaves out the unfinished backups that a process holds for their senders.
func (d *Dir) withoutParked(listing btrfs.Listing) btrfs.Listing {
	listing.InDirectory = slices.DeleteFunc(listing.InDirectory, func(s btrfs.Subvolume) bool {
		name, incoming := btrfs.IncomingOf(s.Name)
		return incoming && d.IsParked(name)
	})
	return listing
}

// A Crowd are the transfers that others hold: it is told where they are found, the oldest first, and makes room or fails.
type Crowd struct {
	Most int // transfers
	Room func(addresses []string) error
}

// HoldTransfer tells other processes where the transfer of a backup is found, until release.
func (d *Dir) HoldTransfer(name, address string, c Crowd) (release func(), err error) {
	return hold(d.dir, receivingStart, name, address, c)
}

// HoldWithin counts a transfer as one of those in all folders below a directory, until release.
func HoldWithin(root *os.File, address string, c Crowd) (release func(), err error) {
	return hold(root, "within-", path.Base(address), address, c)
}

func hold(dir *os.File, start, name, address string, c Crowd) (release func(), err error) {
	notice, state, err := post(dir, start+name, address)
	if err != nil {
		return nil, err
	}
	release = func() {
		notice.Remove()
		state.Close()
		_ = unix.Unlinkat(int(dir.Fd()), tree.StateDir, unix.AT_REMOVEDIR) // unless there is more in it
	}
	all, err := handoff.Notices(state, start)
	var others []string
	for _, n := range all {
		if n.Address != address {
			others = append(others, n.Address)
		}
	}
	if err == nil && len(others) >= c.Most {
		err = c.Room(others)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// post puts a notice into the state directory of a folder, which another process may just remove since it is empty.
func post(dir *os.File, name, address string) (n *handoff.Notice, state *os.File, err error) {
	const attempts = 10
	for range attempts {
		if state, err = openState(dir, true); err != nil {
			continue
		}
		if n, err = handoff.Post(state, name, address); err == nil {
			return n, state, nil
		}
		state.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return nil, nil, err
}

// openState opens the state directory of a folder, and makes it on request.
func openState(dir *os.File, create bool) (*os.File, error) {
	if create {
		if err := unix.Mkdirat(int(dir.Fd()), tree.StateDir, 0o755); err != nil && err != unix.EEXIST {
			return nil, &os.PathError{Op: "mkdir", Path: dir.Name() + "/" + tree.StateDir, Err: err}
		}
	}
	return btrfs.OpenDirAt(dir, tree.StateDir)
}
