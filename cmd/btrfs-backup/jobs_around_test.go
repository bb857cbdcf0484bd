package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestARunOutlivesThePipeOfItsOutput(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	expect(t, exitDone, h.run()) // writes the configuration
	h.wrote("+all", "+job", "+db", "-db ok", "+net", "-net ok", "-job ok", "-all ok")
	reader, pipe, err := os.Pipe()
	btrfstest.Check(t, err)
	reader.Close()
	defer pipe.Close()
	for _, args := range [][]string{{"run", "--config", filepath.Join(h.dir, "config.toml"), "home", "--json"}, {h.source, h.destination}} {
		cmd := h.command(args...)
		cmd.Stdout, cmd.Stderr = pipe, pipe
		if _ = cmd.Run(); cmd.ProcessState.ExitCode() < 0 {
			t.Errorf("%q: %v", args, cmd.ProcessState)
		}
	}
	h.wrote("+all", "+job", "+db", "-db ok", "+net", "-net ok", "-job ok", "-all ok")
	h.has(3, 1, 3)
}

func TestARunWithoutRoomForItsLocksIsDoneAndSaysSo(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.configure("[job.home]\nsource = \"SOURCE\"\ndestination = \"DIR/backups\"\nskip-fs-checks = true\nengine = \"rsync\"\n")
	btrfstest.Check(t, os.Mkdir(filepath.Join(m.dir, "run"), 0o700))
	btrfstest.Check(t, os.WriteFile(filepath.Join(m.dir, "run/jobs"), nil, 0o600))
	expect(t, exitDone, m.run(), "job home: a second run of it is not kept out: ")
}
