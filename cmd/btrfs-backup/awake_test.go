package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// logind hands out locks. Of each, it gives the other end.
type logind struct {
	mode  chan string
	given chan int
	ends  chan int
}

func (l *logind) Inhibit(what, _, _, mode string) (dbus.UnixFD, *dbus.Error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.mode <- what + " " + mode
	l.given <- pair[0]
	l.ends <- pair[1]
	return dbus.UnixFD(pair[0]), nil
}

// newLogind starts a bus with a logind, and gives the variable by which programs find it.
func newLogind(t *testing.T) (l *logind, variable string) {
	t.Helper()
	address := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	cmd := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address", "--address="+address)
	out, err := cmd.StdoutPipe()
	btrfstest.Check(t, err)
	btrfstest.Check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = out.Read(make([]byte, 1)) // it listens
	btrfstest.Check(t, err)
	bus, err := dbus.Connect(address)
	btrfstest.Check(t, err)
	t.Cleanup(func() { bus.Close() })
	l = &logind{make(chan string, 10), make(chan int, 10), make(chan int, 10)}
	btrfstest.Check(t, bus.Export(l, "/org/freedesktop/login1", "org.freedesktop.login1.Manager"))
	_, err = bus.RequestName("org.freedesktop.login1", 0)
	btrfstest.Check(t, err)
	return l, "DBUS_SYSTEM_BUS_ADDRESS=" + address
}

func TestTheMachineStaysAwakeWhileABackupIsMade(t *testing.T) {
	t.Parallel()
	source, _ := newSmallPair(t)
	l, variable := newLogind(t)
	cmd := exec.Command("btrfs-backup", "--verbosity", "debug", source, "shell://exec sleep 1000")
	cmd.Env = append(os.Environ(), variable, "XDG_STATE_HOME="+t.TempDir())
	run := start(t, cmd)
	run.says("does not go to sleep")
	if mode := <-l.mode; mode != "sleep block" {
		t.Errorf("asked for %s", mode)
	}
	btrfstest.Check(t, unix.Close(<-l.given))
	end := <-l.ends
	defer unix.Close(end)
	run.isRunning()
	if _, _, err := unix.Recvfrom(end, make([]byte, 1), unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("sleep is not blocked: %v", err)
	}
	run.signal(syscall.SIGTERM)
	expect(t, 128+int(syscall.SIGTERM), run.wait())
	if n, err := unix.Read(end, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("sleep is still blocked: %d %v", n, err)
	}
}
