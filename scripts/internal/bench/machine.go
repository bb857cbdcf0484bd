package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the machine, which is this one behind an sshd of its own, in the configuration of ssh.
const (
	near = "near" // by way of the loopback interface
	far  = "far"  // the same, with a delay
)

// farDelay is what everything takes to and from the far name: the round trip is twice that.
const farDelay = 50 * time.Millisecond

// machine is an sshd for whoever has a key that was made for it.
type machine struct {
	dir   string
	port  int
	proxy *proxy
}

// newMachine makes keys and configurations. For this process and its children, ssh is one that reads only these.
func newMachine(dir string) (*machine, error) {
	m := &machine{dir: dir}
	for _, key := range []string{"host_key", "key"} {
		if err := run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", m.file(key)); err != nil {
			return nil, err
		}
	}
	var err error
	if m.port, err = freePort(); err != nil {
		return nil, err
	}
	if m.proxy, err = newProxy(m.address(), farDelay); err != nil {
		return nil, err
	}
	if err := m.configureServer(); err != nil {
		return nil, err
	}
	// so that the processes that lose their parents on the machine become children of this one, which then counts them
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	return m, m.configureClient()
}

func (m *machine) file(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

func (m *machine) configureServer() error {
	config := fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
SetEnv "PATH=%s" "HOME=%s"
`, m.port, m.file("host_key"), m.file("key.pub"), os.Getenv("PATH"), m.dir) // a .bashrc may take more time than a session
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // demanded for the unprivileged half
		return err
	}
	return os.WriteFile(m.file("sshd_config"), []byte(config), 0o600)
}

func (m *machine) configureClient() error {
	hostKey, err := os.ReadFile(m.file("host_key.pub"))
	if err != nil {
		return err
	}
	config := fmt.Sprintf(`Host %s
Port %d
Host %s
Port %d
Host *
HostName 127.0.0.1
User root
HostKeyAlias machine
UserKnownHostsFile %s
GlobalKnownHostsFile /dev/null
IdentityFile %s
IdentitiesOnly yes
`, near, m.port, far, m.proxy.port(), m.file("known_hosts"), m.file("key"))
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return err
	}
	programs := m.file("programs")
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, m.file("ssh_config"))
	return errors.Join(
		os.WriteFile(m.file("known_hosts"), append([]byte("machine "), hostKey...), 0o600),
		os.WriteFile(m.file("ssh_config"), []byte(config), 0o600),
		os.Mkdir(programs, 0o755),
		os.WriteFile(filepath.Join(programs, "ssh"), []byte(wrapper), 0o755),
		os.Setenv("PATH", programs+":"+os.Getenv("PATH")))
}

// start starts sshd.
func (m *machine) start() (*exec.Cmd, error) {
	log := m.file("sshd.log")
	if err := os.RemoveAll(log); err != nil {
		return nil, err
	}
	path, err := exec.LookPath("sshd") // it wants an absolute path
	if err != nil {
		return nil, err
	}
	sshd := exec.Command(path, "-D", "-E", log, "-f", m.file("sshd_config"))
	sshd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := sshd.Start(); err != nil {
		return nil, err
	}
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if said, _ := os.ReadFile(log); bytes.Contains(said, []byte("Server listening on")) { // none at first
			return sshd, nil
		}
	}
	said, _ := os.ReadFile(log)
	return nil, errors.Join(fmt.Errorf("sshd does not listen on port %d: %s", m.port, said),
		sshd.Process.Kill(), ignoreExit(sshd.Wait()))
}

// measure runs a program that uses the machine, and counts what both sides took. The machine has an sshd of its own for it,
// which was waited for as were all that it ran: nothing is missed that lasts longer than the connection.
func (m *machine) measure(argv []string) (usage, error) {
	sshd, err := m.start()
	if err != nil {
		return usage{}, err
	}
	u, err := measure(argv)
	if err != nil {
		killChildren() // a transfer that failed is kept for another try
	}
	stopped := sshd.Process.Signal(unix.SIGTERM) // the sessions go on
	if waited := ignoreExit(sshd.Wait()); waited != nil {
		return u, waited
	}
	u.there = sshd.ProcessState.UserTime() + sshd.ProcessState.SystemTime()
	for {
		var r unix.Rusage
		switch _, waitErr := unix.Wait4(-1, nil, 0, &r); waitErr {
		case nil:
			u.there += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		case unix.EINTR:
		case unix.ECHILD:
			if errors.Is(stopped, os.ErrProcessDone) {
				stopped = nil
			}
			return u, errors.Join(err, stopped)
		default:
			return u, os.NewSyscallError("wait4", waitErr)
		}
	}
}

// ignoreExit leaves the errors of a wait that did not come about.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// killChildren kills the children of this process, and theirs once they are orphans.
func killChildren() {
	for {
		var living int
		for _, pid := range children("self") {
			if unix.Kill(pid, unix.SIGKILL) == nil && !isZombie(pid) {
				living++
			}
		}
		if living == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
