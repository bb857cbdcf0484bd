package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
)

// A shim is a program in front of the real btrfs in PATH. It misbehaves in the command receive, for which it has a script, and else
// runs the real one.
type shim struct{ dir string }

const shimScript = `#!/bin/sh
dir='%s' real='%s'
gate() {
	while test -d "$dir" && ! test -e "$dir/open"; do sleep 0.02; done
}
if test "$1" = receive; then
	echo "$*" >>"$dir/receive.calls"
	call=$(wc -l <"$dir/receive.calls")
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

// open lets a script go on that waits at the gate.
func (s shim) open(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "open"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s shim) environ() []string {
	return []string{"PATH=" + s.dir + ":" + os.Getenv("PATH")}
}

// wasCalled fails the test unless it was to receive so many times.
func (s shim) wasCalled(t testing.TB, times int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, "receive.calls"))
	btrfstest.Check(t, err)
	if calls := strings.Count(string(content), "\n"); calls != times {
		t.Fatalf("btrfs receive was called %d times instead of %d:\n%s", calls, times, content)
	}
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
