package receive_test

import (
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"golang.org/x/sys/unix"
)

// A change of the owner is left out where it changes nothing; but a file is not always made as its maker's. It leaves the mode.
func TestChangesOfOwnerAreApplied(t *testing.T) {
	t.Parallel()
	const group = 12
	chown := func(path string, uid, gid uint64) []byte {
		return streamtest.Encode(sendstream.CmdChown, streamtest.Text(sendstream.AttrPath, path),
			streamtest.Number(sendstream.AttrUID, uid), streamtest.Number(sendstream.AttrGID, gid))
	}
	chmod := func(path string, mode uint64) []byte {
		return streamtest.Encode(sendstream.CmdChmod, streamtest.Text(sendstream.AttrPath, path), streamtest.Number(sendstream.AttrMode, mode))
	}
	at, err := apply(t,
		mkfile("same"), chown("same", 0, 0), chmod("same", 0o640),
		mkfile("twice"), chown("twice", 0, group), chown("twice", 0, 0),
		mkfile("set"), chmod("set", 0o4755), chown("set", 0, 0),
		mkfile("other"), chown("other", 11, group), chmod("other", 0o4711),
		streamtest.Makes(sendstream.CmdMkdir, "shared"), chown("shared", 0, group), chmod("shared", 0o2775),
		mkfile("shared/root's"), chown("shared/root's", 0, 0),
		mkfile("shared/group's"), chown("shared/group's", 0, group))
	check(t, err)
	for path, want := range map[string]unix.Stat_t{
		"same":           {Mode: 0o640},
		"twice":          {Mode: 0o600},
		"set":            {Mode: 0o4755},
		"other":          {Mode: 0o4711, Uid: 11, Gid: group},
		"shared/root's":  {Mode: 0o600},
		"shared/group's": {Mode: 0o600, Gid: group},
	} {
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(at, path), &st))
		if st.Mode&0o7777 != want.Mode || st.Uid != want.Uid || st.Gid != want.Gid {
			t.Errorf("%s has mode %o of %d:%d, want %o of %d:%d", path, st.Mode&0o7777, st.Uid, st.Gid, want.Mode, want.Uid, want.Gid)
		}
	}
}
