package btrfs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inodeItemKey = 1 // linux/btrfs_tree.h: BTRFS_INODE_ITEM_KEY
	// written is how long the data of what an unprivileged user lists may take to reach the disk, and the kernel to remove what was
	// deleted while it was open.
	written = time.Hour
)

// made gives the transaction in which s got its content, and when that was.
func (s Subvolume) made() (transaction uint64, at time.Time) {
	switch {
	case s.Filled():
		return s.SentIn, s.ReceivedAt
	case s.Received():
		return s.ReceivedIn, s.ReceivedAt
	}
	return s.CreatedIn, s.Created
}

// mayBeAltered tells that s was written to since it got its content, by whomever.
func (s *Subvolume) mayBeAltered() bool {
	since, _ := s.made()
	return s.ReadOnly && s.ChangedIn > since
}

// searched remembers what findAltered found: after a balance, all of a tree is searched.
var searched sync.Map // of state to a transaction

// state identifies what a subvolume holds.
type state struct {
	UUID
	ChangedIn uint64
}

// findAltered sets AlteredIn. Deduplication, defragmentation and data that is written after it was received raise the
// transaction of an inode, but not its ctime; whatever changes what a user sees raises both, if only those of a directory.
// Balancing raises neither.
func (s *Subvolume) findAltered(dir *os.File) error {
	if !s.mayBeAltered() {
		return nil
	}
	since, made := s.made()
	if found, ok := searched.Load(state{s.UUID, s.ChangedIn}); ok {
		s.AlteredIn = found.(uint64)
		return nil
	}
	clockWentBack := s.Changed.Before(made)
	err := searchTree(dir, s.ID, since+1, key{ObjectID: firstFreeObjectID, Kind: inodeItemKey}, func(k key, item []byte) {
		if k.Kind != inodeItemKey || len(item) < 160 { // linux/btrfs_tree.h: struct btrfs_inode_item
			return
		}
		in := le.Uint64(item[8:])
		at := timeAt(le, item, 124)
		if in > max(since, s.AlteredIn) && (clockWentBack || at.After(made) || s.Filled() && at.Equal(made)) {
			s.AlteredIn = in
		}
	})
	if errors.Is(err, unix.ENOENT) { // deleted since
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		if clockWentBack || s.Changed.After(made.Add(written)) {
			s.AlteredIn = s.ChangedIn
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for changes in %s/%s: %w", dir.Name(), s.Name, err)
	}
	searched.Store(state{s.UUID, s.ChangedIn}, s.AlteredIn)
	return nil
}

// WrittenAfter tells that something in the subvolume of dir was written after a transaction: a change, a deduplication, a time of access. A
// snapshot of it and its flags do not count. What is not on disk yet is not seen. It needs CAP_SYS_ADMIN.
func WrittenAfter(dir *os.File, transaction uint64) (bool, error) {
	info, err := Info(dir)
	if err != nil {
		return false, err
	}
	written := false
	err = searchTree(dir, info.ID, transaction+1, key{ObjectID: firstFreeObjectID, Kind: inodeItemKey}, func(k key, item []byte) {
		if k.Kind == inodeItemKey && len(item) >= 160 { // linux/btrfs_tree.h: struct btrfs_inode_item
			written = written || le.Uint64(item[8:]) > transaction
		}
	})
	if err != nil {
		return false, errors.Join(fmt.Errorf("looking for changes in %s", dir.Name()), err)
	}
	return written, nil
}

// SetReceived changes what a writable subvolume of dir is a received copy of; no UUID means nothing. It counts as received
// now.
func SetReceived(dir *os.File, uuid UUID) error { return setReceived(dir, dir, uuid) }

// SetReceivedAs makes a writable subvolume of dir a copy of what another one is a received copy of. It counts as received now.
func SetReceivedAs(dir, other *os.File) error {
	s, err := Info(other)
	if err != nil {
		return err
	}
	return setReceived(dir, other, s.ReceivedUUID)
}

func setReceived(dir, sent *os.File, uuid UUID) error {
	info := make([]byte, subvolInfoSize)
	if err := ioctl(sent, iocGetSubvolInfo, info); err != nil {
		return fmt.Errorf("reading the subvolume of %s: %w", sent.Name(), err)
	}
	if uuid.IsZero() {
		return markReceived(dir, uuid, nil, nil)
	}
	return markReceived(dir, uuid, info[360:368], info[408:424]) // what was sent, and when, remains
}

// SetReceivedFrom makes a writable subvolume of dir a received copy, as of now, of what had a UUID and was sent in a transaction of its
// own filesystem.
func SetReceivedFrom(dir *os.File, uuid UUID, sentIn uint64) error {
	return markReceived(dir, uuid, native.AppendUint64(nil, sentIn), nil)
}

// SetFilled lets a writable subvolume of dir, all of which is on disk, count as made now, and as nothing received: whatever changes later
// is altered. It counts once: somebody may have received what was filled then.
func SetFilled(dir *os.File) error {
	s, err := Info(dir)
	if err != nil || s.Filled() {
		return err
	}
	return markReceived(dir, UUID{}, native.AppendUint64(nil, s.ChangedIn), nil)
}

func markReceived(dir *os.File, uuid UUID, sentIn, sentAt []byte) error {
	arg := make([]byte, 200) // linux/btrfs.h: struct btrfs_ioctl_received_subvol_args
	copy(arg, uuid[:])
	copy(arg[16:24], sentIn)
	copy(arg[32:48], sentAt)
	if err := ioctl(dir, iocSetReceived, arg); err != nil {
		return fmt.Errorf("setting the received UUID of %s: %w", dir.Name(), err)
	}
	return nil
}

// Settle lets a received subvolume of dir count as received now that its data is on disk, so that nothing need be searched to
// see that it was never altered.
func Settle(dir *os.File, name string) error {
	sub, err := OpenDirAt(dir, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	s, err := Info(sub)
	if err != nil || s.ChangedIn <= s.ReceivedIn {
		return err
	}
	if err := SetReadOnly(dir, name, false); err != nil {
		return err
	}
	return errors.Join(SetReceived(sub, s.ReceivedUUID), SetReadOnly(dir, name, true))
}
