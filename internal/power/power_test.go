package power

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

func TestBatteryCountsIfNothingElseGivesPower(t *testing.T) {
	mains := func(online string) map[string]string { return map[string]string{"type": "Mains", "online": online} }
	battery := func(status string) map[string]string { return map[string]string{"type": "Battery", "status": status} }
	mouse := map[string]string{"type": "Battery", "status": "Discharging", "scope": "Device"}
	for name, c := range map[string]struct {
		supplies []map[string]string
		want     bool
	}{
		"no supplies":                {nil, false},
		"unplugged":                  {[]map[string]string{mains("0"), battery("Discharging")}, true},
		"plugged in":                 {[]map[string]string{battery("Discharging"), mains("1")}, false},
		"charged by USB":             {[]map[string]string{mains("0"), battery("Discharging"), {"type": "USB", "online": "1"}}, false},
		"full, in its dock":          {[]map[string]string{mains("0"), battery("Full")}, false},
		"desktop with a mouse":       {[]map[string]string{mouse}, false},
		"unplugged with a mouse":     {[]map[string]string{mouse, battery("Discharging"), battery("Unknown")}, true},
		"a supply that tells little": {[]map[string]string{{"type": "Wireless"}, battery("Discharging")}, true},
	} {
		dir := t.TempDir()
		for i, supply := range c.supplies {
			for file, content := range supply {
				path := filepath.Join(dir, string(rune('a'+i)), file)
				btrfstest.Check(t, os.MkdirAll(filepath.Dir(path), 0o755))
				btrfstest.Check(t, os.WriteFile(path, []byte(content+"\n"), 0o644))
			}
		}
		if got, err := OnBattery(dir); err != nil || got != c.want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	if got, err := OnBattery(filepath.Join(t.TempDir(), "missing")); err != nil || got {
		t.Errorf("%v %v", got, err)
	}
}

// newBus starts a bus that stands in for the system's, and gives a connection to it.
func newBus(t *testing.T) *dbus.Conn {
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
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	bus, err := dbus.Connect(address)
	btrfstest.Check(t, err)
	t.Cleanup(func() { bus.Close() })
	return bus
}

// offer makes an object of a service.
func offer(t *testing.T, bus *dbus.Conn, object any, name, path, face string) {
	t.Helper()
	btrfstest.Check(t, bus.Export(object, dbus.ObjectPath(path), face))
	reply, err := bus.RequestName(name, 0)
	btrfstest.Check(t, err)
	if reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("%s is taken", name)
	}
}

type networkManager struct{ metered atomic.Uint32 }

func (n *networkManager) Get(_, property string) (dbus.Variant, *dbus.Error) {
	if property != "Metered" {
		return dbus.Variant{}, dbus.MakeFailedError(errors.New("no such property"))
	}
	return dbus.MakeVariant(n.metered.Load()), nil
}

func TestConnectionIsMeteredAsNetworkManagerKnowsOrGuesses(t *testing.T) {
	bus := newBus(t)
	if metered, err := Metered(t.Context()); metered || err != nil {
		t.Errorf("without NetworkManager: %v %v", metered, err)
	}
	nm := &networkManager{}
	offer(t, bus, nm, "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager", "org.freedesktop.DBus.Properties")
	for value, want := range []bool{false, true, false, true, false} {
		nm.metered.Store(uint32(value))
		if metered, err := Metered(t.Context()); metered != want || err != nil {
			t.Errorf("%d: %v %v", value, metered, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Metered(ctx); err != nil {
		t.Errorf("a bus that cannot be asked: %v", err)
	}
}

// logind hands out locks, of which it keeps the other ends.
type logind struct {
	mutex sync.Mutex
	asked [][]string
	given []int // its copies of what it handed out
	ends  []int
}

func (l *logind) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.asked = append(l.asked, []string{what, who, why, mode})
	l.given, l.ends = append(l.given, pair[0]), append(l.ends, pair[1])
	return dbus.UnixFD(pair[0]), nil
}

type said struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.Buffer.Write(p)
}

// waitFor waits until it is said.
func (s *said) waitFor(t *testing.T, words string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s.mutex.Lock()
		text := s.String()
		s.mutex.Unlock()
		if strings.Contains(text, words) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q was not said:\n%s", words, text)
		}
	}
}

func (s *said) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestSleepIsBlockedUntilTheRelease(t *testing.T) {
	bus := newBus(t)
	manager := &logind{}
	offer(t, bus, manager, "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
	s := &said{}
	release := KeepAwake(s.log(), "a backup is being made")
	s.waitFor(t, "does not go to sleep")
	manager.mutex.Lock()
	defer manager.mutex.Unlock()
	if len(manager.asked) != 1 || strings.Join(manager.asked[0], "; ") != "sleep; btrfs-backup; a backup is being made; block" {
		t.Fatalf("asked for %q", manager.asked)
	}
	btrfstest.Check(t, unix.Close(manager.given[0]))
	end := manager.ends[0]
	defer unix.Close(end)
	if _, _, err := unix.Recvfrom(end, make([]byte, 1), unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the lock was given up before the release: %v", err)
	}
	child := exec.Command("cat") // does not get the lock
	_, err := child.StdinPipe()
	btrfstest.Check(t, err)
	btrfstest.Check(t, child.Start())
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	release()
	if n, err := unix.Read(end, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("after the release: %d %v", n, err)
	}
}

func TestWithoutLogindNothingIsHeldUp(t *testing.T) {
	s := &said{}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "bus"))
	KeepAwake(s.log(), "")()
	s.waitFor(t, "may go to sleep")

	s = &said{}
	newBus(t)
	defer KeepAwake(s.log(), "")()
	s.waitFor(t, "org.freedesktop.login1")
}

func TestBusThatIsSilentHoldsNothingUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	btrfstest.Check(t, err)
	defer l.Close()
	reached := make(chan net.Conn)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			reached <- conn
		}
	}()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	s := &said{}
	release := KeepAwake(s.log(), "")
	conn := <-reached
	defer conn.Close()
	release()
	s.waitFor(t, "may go to sleep")
	_, _ = io.Copy(io.Discard, conn) // it is left
}
