package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// newTerminal gives the two ends of a terminal.
func newTerminal(t testing.TB) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	btrfstest.Check(t, err)
	t.Cleanup(func() { user.Close() })
	btrfstest.Check(t, unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	btrfstest.Check(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	btrfstest.Check(t, err)
	t.Cleanup(func() { program.Close() })
	return user, program
}

func TestOneKeyEndsAQuestion(t *testing.T) {
	t.Parallel()
	user, terminal := newTerminal(t)
	file := filepath.Join(t.TempDir(), "config.toml")
	const patience = 5 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "btrfs-backup", "config", "init", "-o", file)
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	btrfstest.Check(t, cmd.Start())
	var said bytes.Buffer
	for part := make([]byte, 1000); !bytes.Contains(said.Bytes(), []byte("]: ")); {
		n, err := user.Read(part)
		btrfstest.Check(t, err)
		said.Write(part[:n])
	}
	const controlC = "\x03"
	_, err := user.WriteString(controlC)
	btrfstest.Check(t, err)
	_ = cmd.Wait() // its status is looked at
	if status := cmd.ProcessState.ExitCode(); status != 128+int(syscall.SIGINT) {
		t.Errorf("exit status %d after\n%s", status, &said)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("a file was written")
	}
}
