package main

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/schedule"
)

func TestTheServiceThatIsStoppedLeavesAHookItsTime(t *testing.T) {
	t.Parallel()
	for _, f := range (schedule.Setup{Program: "/usr/bin/btrfs-backup"}).Units() {
		_, rest, found := strings.Cut(f.Content, "TimeoutStopSec=")
		if !found {
			continue
		}
		text, _, _ := strings.Cut(rest, "\n")
		patience, err := time.ParseDuration(text)
		btrfstest.Check(t, err)
		if patience <= hook.DefaultTimeout {
			t.Errorf("%s: %v, and a hook may take %v", f.Path, patience, hook.DefaultTimeout)
		}
		return
	}
	t.Error("no unit says how long it may take to stop")
}
