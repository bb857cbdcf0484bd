// Package sshtest runs a real sshd for a test, on a loopback port, with keys and files of its own.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// patience is how long a started sshd may take to listen.
const patience = 5 * time.Minute

// Options are what a Server differs in.
type Options struct {
	// Config are further lines of its configuration. They come first, and the first value counts.
	Config []string
	// KeyOptions are the options of the client's key in authorized_keys, such as `restrict,command="true"`.
	KeyOptions string
	// Shell runs the command lines in place of the login shell: "dash", "bash", "busybox sh".
	Shell string
	// Env are variables of the sessions as KEY=VALUE, such as PATH. HOME is Server.Dir unless it is among them: what a shell reads in
	// that of the user may take long, or wait for other shells.
	Env []string
}

// A Server is a running sshd that lets the user of this process in with one key.
type Server struct {
	Host       string
	Port       int
	User       string
	Dir        string // of its files, for more of them
	KeyFile    string // of the client; the public key is beside it with the suffix .pub
	HostKey    string // of the server; likewise
	KnownHosts string // a known_hosts file with the key of the server

	cmd     *exec.Cmd
	ended   chan struct{} // the end of cmd
	orphans []int         // what cmd had started when Stop ended it
}

// Start starts an sshd that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	me, err := user.Current()
	check(t, err)
	dir := t.TempDir()
	s := &Server{Host: "127.0.0.1", User: me.Username, Dir: dir, KeyFile: filepath.Join(dir, "id_ed25519"),
		HostKey: filepath.Join(dir, "host_key"), KnownHosts: filepath.Join(dir, "known_hosts")}
	clientKey, hostKey := NewKey(t, s.KeyFile), NewKey(t, s.HostKey)
	check(t, os.WriteFile(filepath.Join(dir, "authorized_keys"), []byte(strings.TrimSpace(o.KeyOptions+" "+clientKey)+"\n"), 0o600))
	if os.Getuid() == 0 {
		check(t, os.MkdirAll("/run/sshd", 0o755)) // demanded for the unprivileged half
	}
	s.start(t, o)
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("sshd on port %d said:\n%s", s.Port, s.Log())
		}
	})
	check(t, os.WriteFile(s.KnownHosts, []byte(fmt.Sprintf("[%s]:%d %s\n", s.Host, s.Port, hostKey)), 0o600))
	return s
}

// start runs sshd on a port of its own.
func (s *Server) start(t testing.TB, o Options) {
	t.Helper()
	config := filepath.Join(s.Dir, "sshd_config")
	s.Port = Port(t)
	check(t, os.WriteFile(config, []byte(s.config(o)), 0o600))
	cmd, ended := exec.Command("/usr/sbin/sshd", "-D", "-E", s.logFile(), "-f", config), make(chan struct{})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the death signal comes when the thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	check(t, <-started)
	s.cmd, s.ended = cmd, ended
	s.awaitListening(t)
}

func (s *Server) awaitListening(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		if strings.Contains(s.Log(), "Server listening on") {
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("sshd does not start:\n%s", s.Log())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("sshd does not listen:\n%s", s.Log())
		}
	}
}

func (s *Server) config(o Options) string {
	lines := append([]string{}, o.Config...)
	lines = append(lines,
		"Port "+strconv.Itoa(s.Port),
		"ListenAddress "+s.Host,
		"HostKey "+s.HostKey,
		"AuthorizedKeysFile "+filepath.Join(s.Dir, "authorized_keys"),
		"PidFile none",
		"StrictModes no",
		"UsePAM no",
		"PermitRootLogin yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"MaxStartups 100",
		"LogLevel VERBOSE",
	)
	env := o.Env
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		env = append(slices.Clone(env), "HOME="+s.Dir)
	}
	lines = append(lines, `SetEnv "`+strings.Join(env, `" "`)+`"`)
	if o.Shell != "" {
		lines = append(lines, fmt.Sprintf(`ForceCommand exec %s -c "$SSH_ORIGINAL_COMMAND"`, o.Shell))
	}
	return strings.Join(lines, "\n") + "\n"
}

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Options are options of an ssh client, as for its -o, that let it in with the key and know the server, and keep the
// user's own files out of it.
func (s *Server) Options() []string {
	return []string{
		"IdentityFile=" + s.KeyFile,
		"IdentitiesOnly=yes",
		"UserKnownHostsFile=" + s.KnownHosts,
		"GlobalKnownHostsFile=/dev/null",
		"StrictHostKeyChecking=yes",
	}
}

// Log is what sshd told so far.
func (s *Server) Log() string {
	log, _ := os.ReadFile(s.logFile()) // none at first
	return string(log)
}

func (s *Server) logFile() string { return filepath.Join(s.Dir, "sshd.log") }

// Stop ends the sshd that listens. Connections that stand go on.
func (s *Server) Stop() {
	s.orphans = append(s.orphans, children(s.cmd.Process.Pid)...)
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
}

// Kill ends sshd and all that it started, at once.
func (s *Server) Kill() {
	for _, pid := range s.orphans {
		killTree(pid)
	}
	s.orphans = nil
	select {
	case <-s.ended:
	default:
		killTree(s.cmd.Process.Pid)
		<-s.ended
	}
}

// killTree kills a process and its descendants. Each is stopped before its children are listed, so that none is missed.
func killTree(pid int) {
	_ = unix.Kill(pid, unix.SIGSTOP) // gone is fine, here and below
	for _, child := range children(pid) {
		killTree(child)
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

func children(pid int) []int {
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // none when it has ended
	for _, task := range tasks {
		list, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(list)) {
			if n, err := strconv.Atoi(child); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// NewKey makes an ed25519 key in file and its public half in file.pub, and returns that: "ssh-ed25519 AAAA...".
func NewKey(t testing.TB, file string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	check(t, err)
	key, err := ssh.NewPublicKey(public)
	check(t, err)
	line := ssh.MarshalAuthorizedKey(key)
	check(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	check(t, os.WriteFile(file+".pub", line, 0o600))
	return strings.TrimSpace(string(line))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
