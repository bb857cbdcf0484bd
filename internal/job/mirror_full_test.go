package job_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
)

// Where the disk is full while a mirror grows, nothing is left, and the next run goes on.
func TestAMirrorThatFillsItsDiskLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.shell("for i in $(seq 300); do mkdir d$i; echo >d$i/f; done")
	m.mirror()
	m.shell("echo >new")
	filler := filepath.Join(filepath.Dir(m.target), "filler")
	fill := "dd if=/dev/zero of=%[1]s bs=1M 2>/dev/null || dd if=/dev/zero of=%[1]s bs=4k oflag=append conv=notrunc 2>/dev/null || truncate -s -400K %[1]s; sync -f %[1]s"
	btrfstest.Run(t, "sh", "-ec", fmt.Sprintf(fill, filler)) // 300 directories take 1200 KiB
	m.said.Reset()
	report := m.outcome(engine.Failed)
	if all := fmt.Sprint(report.AllFailures()); strings.Contains(m.said.String(), walked) || !strings.Contains(all, "no space left on device") {
		t.Errorf("%s\n%s", all, &m.said)
	}
	if all := m.backups(); len(all) != 1 {
		t.Errorf("there are %q", all)
	}
	btrfstest.Run(t, "rm", filler)
	m.mirror()
	left, err := filepath.Glob(filepath.Join(m.target, ".*incoming"))
	if all := m.backups(); len(all) != 3 || len(left) > 0 || err != nil {
		t.Errorf("there are %q and %q, %v", all, left, err)
	}
	btrfstest.Equal(t, filepath.Join(m.spec.Subvolume.Folder, m.backups()[1]), filepath.Join(m.target, m.backups()[1]), btrfstest.OwnAttributes)
}
