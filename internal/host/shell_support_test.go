package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"btrfs-backup/internal/host"
	"btrfs-backup/transport"
	"btrfs-backup/transport/sshtest"
)

func newShell(t testing.TB, sh string, sudo bool) *host.Shell {
	t.Helper()
	server := sshtest.Start(t, sshtest.Options{Shell: shellProgram(sh), Env: []string{
		"PATH=" + remotePath(t, sh, sudo), "HOME=" + t.TempDir()}}) // no start-up files
	return shellAt(t, server, host.ShellOptions{Sudo: sudo})
}

func shellAt(t testing.TB, server *sshtest.Server, o host.ShellOptions) *host.Shell {
	t.Helper()
	if o.Log == nil {
		o.Log = silent
	}
	target := transport.Target{User: server.User, Host: server.Host, Port: server.Port}
	ssh := transport.NewSSH(target, transport.SSHOptions{Options: server.Options(), Log: silent})
	t.Cleanup(func() { ssh.Close() })
	return host.NewShell(ssh, o)
}

func shellProgram(sh string) string {
	if sh == "busybox" {
		return "busybox sh"
	}
	return sh
}

// privileged are the commands of which some need to be root.
var privileged = []string{
	"btrfs", "cat", "chmod", "find", "flock", "id", "ls", "ln", "mkdir", "mktemp", "mv", "rm", "stat", "sync", "tee", "test",
}

// remotePath makes a PATH for a far side on which sh is the shell, with the programs of busybox alone if it is that. With
// sudo, commands that may need it refuse to run without.
func remotePath(t testing.TB, sh string, sudo bool) string {
	t.Helper()
	bin, commands := t.TempDir(), "/usr/local/bin:/usr/bin:/bin"
	program, err := exec.LookPath(sh)
	check(t, err)
	if sh == "busybox" {
		commands = t.TempDir()
		run(t, program, "--install", "-s", commands)
		for _, other := range []string{"btrfs", "flock", "busybox"} {
			_ = os.Remove(filepath.Join(commands, other)) // it may have this applet
			found, err := exec.LookPath(other)
			check(t, err)
			check(t, os.Symlink(found, filepath.Join(commands, other)))
		}
	} else {
		check(t, os.Symlink(program, filepath.Join(bin, "sh")))
	}
	if sudo {
		script(t, bin, "sudo", `[ "$1" = -n ] || exit 1
shift
AS_ROOT=1 exec "$@"`)
		for _, name := range privileged {
			script(t, bin, name, fmt.Sprintf(`if [ -z "$AS_ROOT" ] && [ "$1" != --version ]; then
	echo "%[1]s $*: Operation not permitted" >&2
	exit 1
fi
PATH=%[2]s exec %[1]s "$@"`, name, transport.Quote(commands)))
		}
	}
	return bin + ":" + commands
}

func script(t testing.TB, dir, name, text string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}
