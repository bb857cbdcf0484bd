package replace

import (
	"encoding/hex"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
)

// A read-only subvolume cannot change its directory (linux/fs/btrfs/inode.c: btrfs_rename). So it is writable for a moment, under a
// hidden name which tells what may be forgotten then: as what it was received.

const moving = ".moving"

// movingName gives the hidden name of a snapshot on its way. One that only inherited its received UUID was never received itself, and
// loses it.
func movingName(s btrfs.Subvolume) string {
	name := "." + s.Name + moving
	if s.Received() {
		name += "." + hex.EncodeToString(s.ReceivedUUID[:])
	}
	return name
}

// movingOf gives the name and the received UUID of a snapshot on its way.
func movingOf(hidden string) (name string, received btrfs.UUID, ok bool) {
	hidden, ok = strings.CutPrefix(hidden, ".")
	if !ok {
		return "", received, false
	}
	if name, ok = strings.CutSuffix(hidden, moving); ok {
		return name, received, name != ""
	}
	const size = 2 * len(received)
	if len(hidden) < size+1 {
		return "", received, false
	}
	name, ok = strings.CutSuffix(hidden[:len(hidden)-size-1], moving)
	if !ok || name == "" || received.UnmarshalText([]byte(hidden[len(hidden)-size:])) != nil || hidden[len(hidden)-size-1] != '.' {
		return "", received, false
	}
	return name, received, true
}

// moveSnapshot moves a read-only subvolume into another directory, or goes on with that.
func moveSnapshot(from *os.File, name string, to *os.File) error {
	if _, _, onItsWay := movingOf(name); !onItsWay {
		s, err := btrfs.InfoAt(from, name)
		if err != nil {
			return err
		}
		hidden := movingName(s)
		if err := btrfs.Rename(from, name, hidden); err != nil {
			return err
		}
		failpoint.Reach("snapshot hidden")
		name = hidden
	}
	if err := btrfs.SetReadOnly(from, name, false); err != nil {
		return err
	}
	failpoint.Reach("snapshot writable")
	if err := btrfs.Move(from, name, to, name); err != nil {
		return err
	}
	failpoint.Reach("snapshot moved")
	return arrive(to, name)
}

// arrive makes a snapshot that was moved what it was.
func arrive(dir *os.File, hidden string) error {
	name, received, _ := movingOf(hidden)
	sub, err := btrfs.OpenDirAt(dir, hidden)
	if err != nil {
		return err
	}
	defer sub.Close()
	s, err := btrfs.Info(sub)
	if err != nil {
		return err
	}
	if !s.ReadOnly {
		// Linux 6.18 keeps it, btrfs-progs clear it. What is still there stays as it is: marked anew, a snapshot that was altered since it
		// was received would be taken for its copy.
		if !received.IsZero() && s.ReceivedUUID != received {
			if err := btrfs.SetReceived(sub, received); err != nil {
				return err
			}
		}
		if err := btrfs.SetReadOnly(dir, hidden, true); err != nil {
			return err
		}
		failpoint.Reach("snapshot read-only")
	}
	if err := btrfs.Move(dir, hidden, dir, name); err != nil {
		return err
	}
	failpoint.Reach("snapshot arrived")
	return nil
}

// arriveAll ends what is on its way in a directory.
func arriveAll(dir *os.File) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, _, onItsWay := movingOf(name); onItsWay {
			if err := arrive(dir, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func namesIn(dir *os.File) ([]string, error) {
	again, err := btrfs.OpenDirAt(dir, ".") // with a position of its own
	if err != nil {
		return nil, err
	}
	defer again.Close()
	return again.Readdirnames(-1)
}
