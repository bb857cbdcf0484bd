package bring_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/bring"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// TestMain lets what is brought be small, and this test binary be such a program, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "--version") {
		fmt.Println("this is", os.Args[1:])
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "bring")
	if err != nil {
		panic(err)
	}
	filling := make([]byte, 40<<10) // which takes its size on a disk and on the way
	_, _ = rand.Read(filling)
	text := fmt.Sprintf("#!/bin/sh\necho this is \"[$*]\" && exit\n%x\n", filling)
	if err := os.WriteFile(dir+"/program", []byte(text), 0o600); err != nil {
		panic(err)
	}
	bring.SetSelf(dir + "/program")
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// itself lets this test binary be brought.
func itself(t testing.TB) {
	before := bring.SetSelf("/proc/self/exe")
	t.Cleanup(func() { bring.SetSelf(before) })
}

// A far end is a machine behind a real sshd whose places for the program are the test's own.
type far struct {
	testing.TB
	dir, home, runtime, run, varTmp, bin string
	proxy                                *sshtest.Proxy
	said                                 *bytes.Buffer // the log

	shell  string // the login shell
	path   string // PATH of its sessions
	mounts string // commands that are run as root before
	server *sshtest.Server
	shared *ssh.Machine
}

func newFar(t testing.TB) *far {
	t.Helper()
	btrfstest.RequireRoot(t)
	f := &far{TB: t, dir: t.TempDir(), shell: "sh", path: os.Getenv("PATH"), said: &bytes.Buffer{}}
	btrfstest.Check(t, os.Chmod(filepath.Dir(f.dir), 0o755)) // for other users
	for _, d := range []struct {
		field *string
		name  string
	}{{&f.home, "home"}, {&f.runtime, "runtime"}, {&f.run, "run"}, {&f.varTmp, "vartmp"}, {&f.bin, "bin"}} {
		*d.field = filepath.Join(f.dir, d.name)
		btrfstest.Check(t, os.Mkdir(*d.field, 0o755))
	}
	btrfstest.Check(t, os.Chmod(f.varTmp, 0o777|os.ModeSticky))
	f.server = sshtest.Start(t, sshtest.Options{Shell: "sh " + f.dir + "/login"})
	f.proxy = sshtest.NewProxy(t, f.server.Addr())
	known, err := os.ReadFile(f.server.KnownHosts)
	btrfstest.Check(t, err)
	known = append(known, strings.Replace(string(known), fmt.Sprint(f.server.Port), fmt.Sprint(f.proxy.Port()), 1)...)
	btrfstest.Check(t, os.WriteFile(f.server.KnownHosts, known, 0o600))
	return f
}

// machine gives the connection that most of a test shares.
func (f *far) machine() *ssh.Machine {
	f.Helper()
	f.becomes()
	if f.shared == nil {
		f.shared = f.connection()
	}
	return f.shared
}

// becomes lets the sessions from now on be what the fields say.
func (f *far) becomes() {
	f.Helper()
	login := fmt.Sprintf(`export HOME='%s' XDG_RUNTIME_DIR='%s' PATH='%s:%s'
exec unshare --mount sh -c '
mount --bind %s /run && mount --bind %s /var/tmp || exit
%s
exec %s -c "$1"' sh "$2"
`, f.home, f.runtime, f.bin, f.path, f.run, f.varTmp, f.mounts, f.shell)
	btrfstest.Check(f, os.WriteFile(f.dir+"/login", []byte(login), 0o644))
}

func (f *far) connection() *ssh.Machine {
	f.Helper()
	target := ssh.Target{User: f.server.User, Host: f.server.Host, Port: f.proxy.Port()}
	machine := ssh.New(target, ssh.Options{Options: f.server.Options(), Log: slog.New(slog.DiscardHandler)})
	f.Cleanup(func() { machine.Close() })
	return machine
}

func (f *far) program(agents string) (*bring.Copy, error) {
	f.Helper()
	return bring.Program(f.Context(), f.machine(), bring.Options{Agents: agents, Log: slog.New(slog.NewTextHandler(f.said, nil))})
}

// arrives fails the test unless the program is brought below dir, and runs there.
func (f *far) arrives(dir string) *bring.Copy {
	f.Helper()
	c, err := f.program("")
	if err != nil {
		f.Fatalf("%v; hint: %s", err, hint.Of(err))
	}
	if c.Sent == 0 || !strings.HasPrefix(c.Path, dir+"/") {
		f.Errorf("%d bytes were sent, to %s", c.Sent, c.Path)
	}
	f.answers(c)
	f.holdsOnly(dir)
	return c
}

// answers fails the test unless the copy runs.
func (f *far) answers(c *bring.Copy) {
	f.Helper()
	out, err := f.runs(c.Line(false, "serve", "it's me"))
	if err != nil || !strings.HasSuffix(out, "this is [serve it's me]\n") {
		f.Errorf("it says %q, %v", out, err)
	}
}

func (f *far) runs(line string) (string, error) {
	f.Helper()
	session, err := f.machine().Session(f.Context(), line)
	btrfstest.Check(f, err)
	btrfstest.Check(f, session.Stdin.Close())
	out, err := io.ReadAll(session.Stdout)
	return string(out), errors.Join(session.Wait(), err)
}

// holdsOnly fails the test unless one of the places holds the program and the others nothing. Their directories do not count.
func (f *far) holdsOnly(dir string) {
	f.Helper()
	for _, place := range []string{f.home, f.runtime, f.run, f.varTmp} {
		real := place
		if place == f.run || place == f.varTmp {
			real = map[string]string{f.run: "/run", f.varTmp: "/var/tmp"}[place]
		}
		var names []string
		btrfstest.Check(f, filepath.WalkDir(place, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(d.Name(), "rc") {
				names = append(names, d.Name())
			}
			return err
		}))
		if want := map[bool]string{true: "[btrfs-backup]", false: "[]"}[real == dir]; fmt.Sprint(names) != want {
			f.Errorf("%s holds %v, want %s", place, names, want)
		}
	}
}

// stub puts a script before what is in PATH.
func (f *far) stub(name, script string) {
	f.Helper()
	btrfstest.Check(f, os.WriteFile(filepath.Join(f.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

// onlyBusybox leaves the far end no other programs than those of busybox.
func (f *far) onlyBusybox() {
	f.Helper()
	busybox, err := exec.LookPath("busybox")
	btrfstest.Check(f, err)
	btrfstest.Run(f, "cp", busybox, f.bin)
	btrfstest.Run(f, f.bin+"/busybox", "--install", "-s", f.bin)
	f.mounts += "\nmount -t tmpfs tmpfs /usr/local && mount --bind " + f.empty() + " /usr/sbin" // what the script adds to PATH
	f.path = f.empty()
}

func (f *far) empty() string {
	f.Helper()
	d := filepath.Join(f.dir, "empty")
	btrfstest.Check(f, os.MkdirAll(d, 0o755))
	return d
}

// refuses fails the test unless the program cannot be brought, for these reasons.
func (f *far) refuses(texts ...string) error {
	f.Helper()
	_, err := f.program("")
	if err == nil {
		f.Fatal("it was brought")
	}
	for _, text := range texts {
		if all := err.Error() + "; hint: " + hint.Of(err); !strings.Contains(all, text) {
			f.Errorf("%q is not in: %s", text, all)
		}
	}
	return err
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
