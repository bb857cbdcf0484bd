package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// A shim is a program in front of the real btrfs in PATH. It misbehaves in the command receive, for which it has a script, and else
// runs the real one.
type shim struct{ dir string }

const shimScript = `#!/bin/sh
dir='%s' real='%s'
if test "$1" = receive; then
	%s
fi
exec "$real" "$@"
`

// The script finds in $real the real program, in $@ its arguments, in $call how many times the command was called so far,
// in $dir a directory of its own. What runs off the end of it goes on to the real program.
func newShim(t testing.TB, script string) shim {
	t.Helper()
	real, err := exec.LookPath("btrfs")
	if err != nil {
		t.Fatal(err)
	}
	s := shim{t.TempDir()}
	btrfstest.WriteProgram(t, filepath.Join(s.dir, "btrfs"), fmt.Sprintf(shimScript, s.dir, real, script))
	return s
}

func (s shim) environ() []string {
	return []string{"PATH=" + s.dir + ":" + os.Getenv("PATH")}
}

// pid waits for the number of the process that a script wrote to $dir/pid.
func (s shim) pid(t testing.TB) (pid int) {
	t.Helper()
	eventually(t, func() bool {
		content, err := os.ReadFile(filepath.Join(s.dir, "pid"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(content)))
		return err == nil
	}, func() string { return "the script has not begun" })
	return pid
}
