package notify

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"github.com/godbus/dbus/v5"
)

// testDesktop makes a process a desktop on the bus that it names.
const testDesktop = "BTRFS_BACKUP_TEST_DESKTOP"

// shown is a notice that a desktop shows.
type shown struct {
	App, Summary, Body string
	Urgency            byte
	UID                uint32 // of who asked for it
}

type desktop struct{ conn *dbus.Conn }

// Notify is the method of the specification of desktop notifications.
func (d desktop) Notify(sender dbus.Sender, app string, _ uint32, _, summary, body string, _ []string, hints map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	s := shown{App: app, Summary: summary, Body: body}
	s.Urgency, _ = hints["urgency"].Value().(byte)
	if err := d.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixUser", 0, string(sender)).Store(&s.UID); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	return 1, nil
}

// beDesktop shows notices as lines of JSON, until its input ends.
func beDesktop(bus string) {
	conn, err := dbus.Connect(bus)
	if err == nil {
		err = conn.Export(desktop{conn}, "/org/freedesktop/Notifications", "org.freedesktop.Notifications")
	}
	if err == nil {
		_, err = conn.RequestName("org.freedesktop.Notifications", 0)
	}
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// desktops makes the directories of users who are logged in.
type desktops struct{ dir, program string }

func newDesktops(t testing.TB) desktops {
	t.Helper()
	btrfstest.RequireRoot(t)
	dir, err := os.MkdirTemp("", "desktops")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	d := desktops{dir: filepath.Join(dir, "user"), program: filepath.Join(dir, "program")}
	check(t, os.Mkdir(d.dir, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	check(t, os.WriteFile(d.program, self, 0o755)) // which every user can run
	before := runtimeDirs
	runtimeDirs = d.dir
	t.Cleanup(func() { runtimeDirs = before })
	return d
}

func (d desktops) user(t testing.TB, uid int) (dir string) {
	t.Helper()
	dir = filepath.Join(d.dir, strconv.Itoa(uid))
	check(t, os.Mkdir(dir, 0o700))
	check(t, os.Chown(dir, uid, uid))
	return dir
}

// start starts a program as a user and gives its output, after a first line.
func (d desktops) start(t testing.TB, uid int, env []string, argv ...string) *bufio.Reader {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Dir, cmd.Stderr = "/", t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	_, err := cmd.StdinPipe() // it is closed by Wait
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	_, err = lines.ReadString('\n')
	check(t, err)
	return lines
}

func (d desktops) bus(t testing.TB, uid int) (address string) {
	t.Helper()
	address = "unix:path=" + d.user(t, uid) + "/bus"
	d.start(t, uid, nil, "dbus-daemon", "--session", "--nofork", "--print-address", "--address="+address)
	return address
}

func (d desktops) desktop(t testing.TB, uid int) *bufio.Reader {
	t.Helper()
	return d.start(t, uid, []string{testDesktop + "=" + d.bus(t, uid)}, d.program)
}

func TestADesktopShowsTheSubjectToItsUser(t *testing.T) {
	d := newDesktops(t)
	for _, uid := range []int{65534, 0} {
		screen := d.desktop(t, uid)
		n := failure()
		n.Subject = "backup <b>home</b>: \xff failed"
		send(t, newSender(t, Settings{Desktop: true}), n)
		line, err := screen.ReadString('\n')
		check(t, err)
		var got shown
		check(t, json.Unmarshal([]byte(line), &got))
		want := shown{"btrfs-backup", `[laptop] backup <b>home</b>: \xff failed`, "btrfs-backup status tells more", 2, uint32(uid)}
		if got != want {
			t.Errorf("it shows %+v", got)
		}
		check(t, os.RemoveAll(filepath.Join(d.dir, strconv.Itoa(uid))))
	}
}

func TestWithoutADesktopNobodyIsTold(t *testing.T) {
	d := newDesktops(t)
	s := newSender(t, Settings{Desktop: true})
	send(t, s, failure())
	d.user(t, 65532) // there is no bus
	d.bus(t, 0)      // there is no desktop
	gone, err := net.Listen("unix", filepath.Join(d.user(t, 65529), "bus"))
	check(t, err)
	gone.(*net.UnixListener).SetUnlinkOnClose(false)
	check(t, os.Chmod(gone.Addr().String(), 0o777))
	gone.Close()
	greeter := d.desktop(t, 1)
	send(t, s, failure())
	if told, err := s.State.Notices(); err != nil || len(told) > 0 {
		t.Errorf("on record: %v, %v", told, err)
	}
	user := d.desktop(t, 65534)
	send(t, s, failure())
	if _, err := user.ReadString('\n'); err != nil {
		t.Error(err)
	}
	if greeter.Buffered() > 0 {
		t.Error("the screen where people log in shows it")
	}
}

func TestWithoutTheProgramThatTalksToDesktopsThatIsAnError(t *testing.T) {
	newDesktops(t).user(t, 65534)
	t.Setenv("PATH", t.TempDir())
	wantError(t, newSender(t, Settings{Desktop: true}).Send(t.Context(), failure()), "desktop: of user 65534: starting busctl: ", "not found")
}

func TestADesktopThatHangsHoldsUpNobody(t *testing.T) {
	d := newDesktops(t)
	l, err := net.Listen("unix", filepath.Join(d.user(t, 65533), "bus"))
	check(t, err)
	t.Cleanup(func() { l.Close() })
	check(t, os.Chmod(l.Addr().String(), 0o777))
	user := d.desktop(t, 65534)
	s := newSender(t, Settings{Desktop: true})
	s.patience = 10 * soon
	wantError(t, s.Send(t.Context(), failure()), "desktop: no answer within 3s")
	if _, err := user.ReadString('\n'); err != nil {
		t.Error(err)
	}
}

func TestWhatTalksToABusKnowsNothingOfOurs(t *testing.T) {
	d := newDesktops(t)
	d.user(t, 65534)
	file := filepath.Join(filepath.Dir(d.dir), "told")
	check(t, os.WriteFile(file, nil, 0o666))
	check(t, os.Chmod(file, 0o666))
	programs := t.TempDir()
	check(t, os.Chmod(filepath.Dir(programs), 0o755))
	check(t, os.WriteFile(filepath.Join(programs, "busctl"), []byte("#!/bin/sh\n{ id -u; id -G; env; } >"+file+"\n"), 0o755))
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	t.Setenv("PASSWORD", secret)
	send(t, newSender(t, Settings{Desktop: true}), failure())
	if got := read(t, file); !strings.HasPrefix(got, "65534\n65534\n") || strings.Contains(got, secret) {
		t.Errorf("it is %s", got)
	}
}
