package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestTheProgramsThatItStartsMayOpenAsManyFilesAsItMay(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("file", "content")
	bin := t.TempDir()
	rsync, err := exec.LookPath("rsync")
	btrfstest.Check(t, err)
	script := "#!/bin/sh\nulimit -Sn >>" + bin + "/limit\nexec " + rsync + ` "$@"` + "\n"
	btrfstest.Check(t, os.WriteFile(filepath.Join(bin, "rsync"), []byte(script), 0o755))
	cmd := r.command([]string{"PATH=" + bin + ":" + os.Getenv("PATH")})
	shell := exec.Command("sh", append([]string{"-c", `ulimit -Sn 200; ulimit -Hn 3000; exec "$@"`, "-"}, cmd.Args...)...)
	shell.Env = cmd.Env
	expect(t, exitDone, invokeCmd(t, shell))
	limit, err := os.ReadFile(filepath.Join(bin, "limit"))
	btrfstest.Check(t, err)
	if got, _, _ := strings.Cut(string(limit), "\n"); got != "3000" && got != "4096" {
		t.Errorf("rsync may open %s files", got)
	}
}
