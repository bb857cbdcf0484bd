package serve

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"

	"golang.org/x/sys/unix"
)

// Whoever has the key could begin any number of things. Each costs a process, a thread and a mount, and some outlast the session.
const (
	mostInFolder = 4  // transfers under way or parked; one run at a time receives in a folder
	mostInRoot   = 16 // in all folders of a confined client
	mostSessions = 100
	lockTime     = 24 * time.Hour
	againTime    = 24 * time.Hour // for a commit to be told again
)

// announce lets later sessions find a transfer. It counts as one in its folder and, for a confined client, in all folders that are
// his.
func (s *server) announce(d *local.Dir, name, address string) (release func(), err error) {
	path := d.Status().Path
	inFolder, err := d.HoldTransfer(name, address, crowd(path, mostInFolder))
	if errors.Is(err, handoff.ErrTaken) {
		err = fmt.Errorf("%s is being received by another process", filepath.Join(path, name))
	}
	if err != nil || s.confine == nil {
		return inFolder, err
	}
	inRoot, err := local.HoldWithin(s.confine.root, address, crowd(s.confine.path, mostInRoot))
	if err != nil {
		inFolder()
		return nil, err
	}
	return func() {
		inRoot()
		inFolder()
	}, nil
}

// crowd lets transfers that wait for their senders give way to one more.
func crowd(where string, most int) local.Crowd {
	return local.Crowd{Most: most, Room: func(addresses []string) error {
		left := len(addresses)
		for _, address := range addresses {
			if left >= most && tell(address, request{Op: opAbort}) == nil {
				left--
			}
		}
		if left < most {
			return nil
		}
		return hint.New(fmt.Errorf("refused: %d backups are being received in %s already", left, where), "wait until one of them is complete")
	}}
}

// crowded refuses a session if there are too many of a limited key.
func (o Options) crowded() error {
	most := cmp.Or(o.Sessions, mostSessions)
	if o.Limits == (Limits{}) || sessions() <= most {
		return nil
	}
	return hint.New(fmt.Errorf("refused: this key has %d sessions already", most), "wait until other runs are done")
}

// sessions counts those of the key: the forced command gives them the same command line.
func sessions() (n int) {
	own, _ := os.ReadFile("/proc/self/cmdline")
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		var st unix.Stat_t
		other, err := os.ReadFile(line)
		if err == nil && bytes.Equal(other, own) && unix.Stat(line, &st) == nil && int(st.Uid) == os.Geteuid() {
			n++
		}
	}
	return n
}
