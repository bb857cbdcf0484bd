package rsh

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestRsyncRunsTheProgramWhateverItsName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's a \"%H\" % $HOME")
	btrfstest.Check(t, os.Mkdir(dir, 0o755))
	program := filepath.Join(dir, "it")
	btrfstest.Check(t, os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s|' \"$1\" \"$2\" >\"$(dirname \"$0\")/told\"\n"), 0o755))
	argv := []string{program, "two words", "@it's"}
	for _, args := range [][]string{{"-e", shellOption(argv), "remote:/nowhere"}, {"rsync://nowhere.invalid/module"}} {
		cmd := exec.CommandContext(t.Context(), "rsync", args...)
		cmd.Env = append(os.Environ(), connectProgram(argv))
		_ = cmd.Run() // it gets no answer
		if told, err := os.ReadFile(filepath.Join(dir, "told")); string(told) != "two words|@it's|" {
			t.Errorf("%q ran it with %q, %v", args, told, err)
		}
		_ = os.Remove(filepath.Join(dir, "told"))
	}
}
