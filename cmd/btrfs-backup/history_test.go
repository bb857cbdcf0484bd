package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

func TestARunThatASignalEndedIsInTheHistory(t *testing.T) {
	t.Parallel()
	source, _ := newSmallPair(t)
	state := t.TempDir()
	cmd := exec.Command("btrfs-backup", source, "shell://exec sleep 1000")
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
	run := start(t, cmd)
	run.says("sending")
	run.signal(syscall.SIGTERM)
	expect(t, 128+int(syscall.SIGTERM), run.wait())
	content, err := os.ReadFile(filepath.Join(state, "btrfs-backup", report.HistoryFile))
	btrfstest.Check(t, err)
	if !strings.Contains(string(content), `"source":"`+source+`","outcome":"interrupted","exit_status":143,`) {
		t.Errorf("the history tells: %s", content)
	}
}
