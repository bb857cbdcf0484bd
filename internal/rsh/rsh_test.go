package rsh_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/agent"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

const patience = 5 * time.Minute

// linked is an rsync that reaches this machine through a real sshd.
type linked struct {
	*rsh.Link
	server *sshtest.Server
	bin    string // first in the far PATH
}

// newRemote reaches a machine on which no btrfs-backup answers.
func newRemote(t testing.TB, server *sshtest.Server, program string, sudo bool) *agent.Host {
	t.Helper()
	target := ssh.Target{User: server.User, Host: server.Host, Port: server.Port}
	machine := ssh.New(target, ssh.Options{Options: server.Options(), Program: program, Log: silent})
	r := agent.New(machine, agent.Options{Log: silent, Version: "test", Sudo: sudo, Channels: 1})
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func link(t testing.TB, program string, sudo bool) linked {
	t.Helper()
	bin := t.TempDir()
	server := sshtest.Start(t, sshtest.Options{Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir()}})
	if sudo {
		script(t, bin, "sudo", `[ "$1" = -n ] || exit 1
shift
echo "$@" >>"$(dirname "$0")/asked"
exec "$@"`)
	}
	l, err := newRemote(t, server, program, sudo).Rsync(t.Context())
	check(t, err)
	t.Cleanup(l.Close)
	return linked{l, server, bin}
}

// rsync makes a command that runs rsync over the link.
func (l linked) rsync(t testing.TB, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	cmd, stderr = exec.CommandContext(t.Context(), "rsync", append(append([]string{}, l.Options...), args...)...), new(bytes.Buffer)
	cmd.Env, cmd.Stderr = append(os.Environ(), l.Env...), stderr
	return cmd, stderr
}

// hostileTree makes files whose names mean something to a shell, to rsync, or are no text.
func hostileTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's; a $(touch evil) \"tree\"\n\xff")
	for _, name := range append(oddNames, "`touch evil`", "host:path", "::module", "*", "[a]?", "%H", "#004", `\#004`) {
		check(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, name, name), []byte(name), 0o600))
	}
	check(t, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<18), 0o600))
	old := time.Date(2020, 1, 2, 3, 4, 5, 678901234, time.UTC) // rsync takes no note of times of this very second
	check(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, old, old))
	}))
	return dir
}

func TestRsyncCarriesHostileNamesBothWays(t *testing.T) {
	btrfstest.RequireRoot(t)
	tree := hostileTree(t)
	for _, program := range []string{"", "ssh"} {
		l := link(t, program, false)
		for _, way := range []struct{ from, to string }{{tree + "/", l.Prefix + "TO/"}, {l.Prefix + tree + "/", "TO/"}} {
			to := filepath.Join(t.TempDir(), "b's ; $HOME \n\xfe")
			cmd, stderr := l.rsync(t, "-a", way.from, strings.Replace(way.to, "TO", to, 1))
			if err := cmd.Run(); err != nil || stderr.Len() > 0 {
				t.Errorf("%q %q: %v: %s", program, way, err, stderr)
			}
			btrfstest.Equal(t, tree, to)
		}
		check(t, l.Err())
		if n := strings.Count(l.server.Log(), "Accepted publickey"); program == "" && n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}

func TestRsyncRunsThereBySudoOnRequest(t *testing.T) {
	l := link(t, "", true)
	to := t.TempDir()
	cmd, stderr := l.rsync(t, "-a", "/etc/hostname", l.Prefix+to+"/")
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, stderr)
	}
	asked, err := os.ReadFile(filepath.Join(l.bin, "asked"))
	check(t, err)
	if want := "rsync --version\nrsync --server -s"; !strings.HasPrefix(string(asked), want) {
		t.Errorf("sudo was asked for %q, want %q", asked, want)
	}
	_, err = os.Stat(to + "/hostname")
	check(t, err)
}

func TestTheStatusAndMessagesOfTheFarRsyncAreHandedOn(t *testing.T) {
	l := link(t, "", false)
	script(t, l.bin, "rsync", `printf 'told: it'"'"'s\nbroken' >&2; exit 42`)
	cmd, stderr := l.rsync(t, "-a", "/etc/hostname", l.Prefix+t.TempDir())
	if err := cmd.Run(); err == nil || !strings.HasPrefix(stderr.String(), "told: it's\nbroken\n") {
		t.Errorf("%v: %s", err, stderr)
	}
	for line, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -9 $$": 255, "echo 'a  b' | grep -q 'a  b'": 0} {
		if status, stderr := l.shell(t, "-l", "user", "remote", line); status != want || stderr != "" {
			t.Errorf("%s: status %d, want %d: %s", line, status, want, stderr)
		}
	}
	check(t, l.Err()) // the machine was reached
	if status, stderr := l.shell(t, "remote"); status != 255 || !strings.Contains(stderr, "no command") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// shell runs the remote shell that rsync would. rsync itself hands its status on if that comes soon enough.
func (l linked) shell(t testing.TB, words ...string) (status int, stderr string) {
	t.Helper()
	argv := append(strings.Fields(l.Options[slices.Index(l.Options, "-e")+1]), words...)
	cmd, told := exec.CommandContext(t.Context(), argv[0], argv[1:]...), new(bytes.Buffer)
	cmd.Env, cmd.Stderr = append(os.Environ(), l.Env...), told
	_ = cmd.Run() // the status tells
	return cmd.ProcessState.ExitCode(), told.String()
}

// stuckTransfer starts an rsync whose far side has begun and waits, and gives the ID of that.
func (l linked) stuckTransfer(t testing.TB) (cmd *exec.Cmd, stderr *bytes.Buffer, far int) {
	t.Helper()
	pidFile := filepath.Join(l.bin, "pid")
	script(t, l.bin, "rsync", fmt.Sprintf("echo $$ >%[1]s.new && mv %[1]s.new %[1]s; exec cat >/dev/null", pidFile))
	cmd, stderr = l.rsync(t, "-a", "/etc/hostname", l.Prefix+"/nowhere")
	check(t, cmd.Start())
	for end := time.Now().Add(patience); far == 0; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(pidFile)
		if err == nil {
			far, err = strconv.Atoi(strings.TrimSpace(string(text)))
			check(t, err)
		} else if !errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
			t.Fatalf("the far rsync does not start: %v", err)
		}
	}
	return cmd, stderr, far
}

func waitForEnd(t testing.TB, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

func TestTheFarRsyncEndsWithTheNearOne(t *testing.T) {
	for _, program := range []string{"", "ssh"} {
		l := link(t, program, false)
		cmd, _, far := l.stuckTransfer(t)
		check(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		waitForEnd(t, far)
		check(t, l.Err())
	}
}

func TestClosingTheLinkEndsBothRsyncs(t *testing.T) {
	l := link(t, "", false)
	cmd, _, far := l.stuckTransfer(t)
	l.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("rsync succeeded")
	}
	waitForEnd(t, far)
	if status, stderr := l.shell(t, "remote", "true"); status != 255 || !strings.Contains(stderr, "reaching the btrfs-backup that runs rsync") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestALostMachineIsToldByTheLink(t *testing.T) {
	l := link(t, "", false)
	cmd, stderr, _ := l.stuckTransfer(t)
	l.server.Kill()
	if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), "connection lost") {
		t.Errorf("%v: %s", err, stderr)
	}
	if err := l.Err(); !errors.Is(err, transport.ErrDisconnected) {
		t.Errorf("the link tells %v", err)
	}
}

func TestOnlyTheOwnRsyncUsesALink(t *testing.T) {
	l := link(t, "", false)
	l.Env = append(l.Env, "BTRFS_BACKUP_RSH=guessed") // the last one counts
	if status, stderr := l.shell(t, "remote", "true"); status != 255 || stderr == "" {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestAMachineThatRunsNoRsyncIsAClearError(t *testing.T) {
	empty := t.TempDir()
	check(t, os.Symlink("/bin/sh", empty+"/sh"))
	self, err := os.Executable()
	check(t, err)
	for _, test := range []struct {
		name, keyOptions, path, tells string
	}{
		{"no rsync", "", empty, "install rsync on"},
		{"the agent by force", fmt.Sprintf(`restrict,command="%s=1 exec %s"`, testOnlyServe, self), "", "must allow any command"},
		{"silence by force", `restrict,command="true"`, "", "must allow any command"},
		{"a chatty shell", `command="echo hello; eval $SSH_ORIGINAL_COMMAND"`, "", "must print nothing"},
		{"no shell", `command="echo This account is currently not available.; exit 1"`, "", "currently not available"},
		{"endless noise by force", `restrict,command="yes"`, "", "must allow any command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := sshtest.Options{KeyOptions: test.keyOptions}
			if test.path != "" {
				o.Env = []string{"PATH=" + test.path}
			}
			for _, program := range []string{"", "ssh"} {
				l, err := newRemote(t, sshtest.Start(t, o), program, false).Rsync(t.Context())
				if err == nil {
					l.Close()
				}
				var hinted interface{ Hint() string }
				if !errors.As(err, &hinted) || !strings.Contains(err.Error()+hinted.Hint(), test.tells) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestRsyncBySudoNeedsALineOfItsOwn(t *testing.T) {
	bin := t.TempDir()
	script(t, bin, "sudo", `echo "sudo: a password is required" >&2; exit 1`)
	server := sshtest.Start(t, sshtest.Options{Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")}})
	l, err := newRemote(t, server, "", true).Rsync(t.Context())
	if err == nil {
		l.Close()
	}
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.HasSuffix(hinted.Hint(), ": "+server.User+" ALL=(root) NOPASSWD: /usr/bin/rsync") {
		t.Errorf("%v", err)
	}
}

// daemon runs an rsync daemon with a module that can be written to, and gives its address and the module's directory.
func daemon(t testing.TB) (address, dir string) {
	t.Helper()
	dir = t.TempDir()
	config := filepath.Join(t.TempDir(), "rsyncd.conf")
	port := strconv.Itoa(sshtest.Port(t))
	check(t, os.WriteFile(config, []byte(fmt.Sprintf(`use chroot = no
uid = root
gid = root
[module]
path = %s
read only = no
`, dir)), 0o600))
	cmd := exec.Command("rsync", "--daemon", "--no-detach", "--address=127.0.0.1", "--port="+port, "--config="+config)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	address = "127.0.0.1:" + port
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			check(t, c.Close())
			return address, dir
		}
		if time.Now().After(end) {
			t.Fatal("the rsync daemon does not listen")
		}
	}
}

func TestATunnelReachesADaemonForAnAccountThatMayRunNothing(t *testing.T) {
	btrfstest.RequireRoot(t)
	tree := hostileTree(t)
	address, dir := daemon(t)
	for _, config := range []string{"ForceCommand /bin/false", "MaxSessions 0"} {
		server := sshtest.Start(t, sshtest.Options{Config: []string{config}})
		for _, program := range []string{"", "ssh"} {
			l := tunnel(t, server, program, address)
			cmd, stderr := l.rsync(t, "-a", "--delete", tree+"/", "rsync://nowhere.invalid/module/there/")
			if err := cmd.Run(); err != nil || stderr.Len() > 0 {
				t.Errorf("%s %q: %v: %s", config, program, err, stderr)
			}
			btrfstest.Equal(t, tree, dir+"/there")
			back := t.TempDir()
			cmd, stderr = l.rsync(t, "-a", "nowhere.invalid::module/there/", back+"/")
			if err := cmd.Run(); err != nil || stderr.Len() > 0 {
				t.Errorf("%s %q: %v: %s", config, program, err, stderr)
			}
			btrfstest.Equal(t, tree, back)
			check(t, l.Err())
			check(t, os.RemoveAll(dir+"/there"))
		}
	}
}

func tunnel(t testing.TB, server *sshtest.Server, program, address string) linked {
	t.Helper()
	target := ssh.Target{User: server.User, Host: server.Host, Port: server.Port}
	machine := ssh.New(target, ssh.Options{Options: server.Options(), Program: program, Log: silent})
	t.Cleanup(func() { _ = machine.Close() })
	l, err := rsh.Tunnel(t.Context(), machine, address)
	check(t, err)
	t.Cleanup(l.Close)
	return linked{Link: l, server: server}
}

func TestATunnelTellsWhyItReachesNoDaemon(t *testing.T) {
	nobody := fmt.Sprintf("127.0.0.1:%d", sshtest.Port(t))
	server := sshtest.Start(t, sshtest.Options{})
	for _, program := range []string{"", "ssh"} {
		to := tunnel(t, server, program, nobody)
		cmd, stderr := to.rsync(t, "rsync://host/module/")
		if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), "connecting to "+nobody) {
			t.Errorf("%v: %s", err, stderr)
		}
		if err := to.Err(); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("the link tells %v", err)
		}
	}
}
