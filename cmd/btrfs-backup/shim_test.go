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

// A shim is a program in front of the real btrfs in PATH. It misbehaves in the commands send and receive, for which it has
// scripts, and else runs the real one.
type shim struct{ dir string }

const shimScript = `#!/bin/sh
dir='%s' real='%s'
case $1 in
send|receive)
	echo "$*" >>"$dir/$1.calls"
	call=$(wc -l <"$dir/$1.calls")
	;;
esac
# flip changes a bit of the byte at position $2 of the file $1
flip() {
	byte=$(od -An -tu1 -j"$2" -N1 "$1")
	printf "\\$(printf %%o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
gate() {
	while test -d "$dir" && ! test -e "$dir/open"; do sleep 0.02; done
}
case $1 in
send)
%s
;;
receive)
%s
;;
esac
exec "$real" "$@"
`

// The scripts find in $real the real program, in $@ its arguments, in $call how many times the command was called so far,
// in $dir a directory of their own. What runs off the end of a script goes on to the real program.
func newShim(t testing.TB, send, receive string) shim {
	t.Helper()
	real, err := exec.LookPath("btrfs")
	if err != nil {
		t.Fatal(err)
	}
	s := shim{t.TempDir()}
	script := fmt.Sprintf(shimScript, s.dir, real, orColon(send), orColon(receive))
	btrfstest.WriteProgram(t, filepath.Join(s.dir, "btrfs"), script)
	return s
}

func orColon(script string) string {
	if script == "" {
		return ":"
	}
	return script
}

// heldAfter gives a script for receive that takes n bytes and waits until the shim is opened.
func heldAfter(n int) string {
	return fmt.Sprintf(`{ head -c %d; gate; exec cat; } | "$real" "$@"; exit`, n)
}

// open lets the scripts go on that wait at the gate.
func (s shim) open(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "open"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s shim) environ() []string {
	return []string{"PATH=" + s.dir + ":" + os.Getenv("PATH")}
}

// calls gives the arguments of every call of a command.
func (s shim) calls(t testing.TB, command string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, command+".calls"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

// wasCalled fails the test unless the command was called so many times.
func (s shim) wasCalled(t testing.TB, command string, times int) {
	t.Helper()
	if calls := s.calls(t, command); len(calls) != times {
		t.Fatalf("btrfs %s was called %d times instead of %d:\n%s", command, len(calls), times, strings.Join(calls, "\n"))
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
