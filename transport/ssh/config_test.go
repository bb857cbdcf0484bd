package ssh_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// section writes the section of a server in a configuration file.
func section(name string, server *sshtest.Server, lines ...string) string {
	text := fmt.Sprintf("Host %s\n HostName %s\n Port %d\n User %s\n", name, server.Host, server.Port, server.User)
	for _, o := range append(lines, server.Options()...) {
		text += " " + strings.Replace(o, "=", " ", 1) + "\n"
	}
	return text
}

// configured makes a client that knows the machines of a configuration file.
func configured(t testing.TB, name, config string, options ...string) (*ssh.Machine, *recorder) {
	t.Helper()
	log := &recorder{keep: 1000}
	s := ssh.New(ssh.Target{Host: name}, ssh.Options{Options: append(options, "IdentityAgent=none"),
		ConfigFile: writeFile(t, config), Log: slog.New(log)})
	t.Cleanup(func() { s.Close() })
	return s, log
}

// noPrograms leaves no program in PATH.
func noPrograms(t *testing.T) { t.Setenv("PATH", t.TempDir()) }

func TestTheConfigurationTellsHowAMachineIsReached(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	config := "Match host na*\n ConnectTimeout 7\n" + section("nas", server)
	s, log := configured(t, "nas", config)
	checkOutput(t, s, "echo in", "in\n")
	if s.String() != "nas" {
		t.Errorf("it is called %s", s)
	}
	if told(log, "ssh program") {
		t.Errorf("logged %q", log.lines)
	}
}

func told(log *recorder, part string) bool {
	log.mu.Lock()
	defer log.mu.Unlock()
	return slices.ContainsFunc(log.lines, func(line string) bool { return strings.Contains(line, part) })
}

func TestOptionsAndTheTargetOverrideTheConfiguration(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	config := "Host nas\n User nobody\n Port 1\n HostName no-such-host.invalid\n"
	for _, path := range []string{os.Getenv("PATH"), t.TempDir()} {
		t.Setenv("PATH", path)
		s := ssh.New(ssh.Target{Host: "nas", Port: server.Port, User: server.User}, ssh.Options{
			Options: append(server.Options(), "HostName="+server.Host, "IdentityAgent=none"), ConfigFile: writeFile(t, config)})
		defer s.Close()
		checkOutput(t, s, "echo in", "in\n")
	}
}

func TestAnOptionThatSSHDoesNotKnowIsAnError(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	_, err := output(t, connectTo(t, server, "NoSuchOption=yes"), "true")
	checkRefused(t, err, "looking up the ssh configuration", "nosuchoption")
}

func TestWithoutSSHItsFilesAreRead(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	noPrograms(t)
	included := writeFile(t, section("nas", server))
	s, _ := configured(t, "nas", "Include "+included+"\n")
	checkOutput(t, s, "echo in", "in\n")

	s, log := configured(t, "127.0.0.1", "Match exec true\n User nobody\n", append(server.Options(), fmt.Sprintf("Port=%d", server.Port))...)
	checkOutput(t, s, "echo in", "in\n")
	if !told(log, "is left out") {
		t.Errorf("logged %q", log.lines)
	}
	s, _ = configured(t, "nas", section("nas", server, "ProxyCommand=nc %h %p"))
	_, err := output(t, s, "true")
	checkRefused(t, err, "ProxyCommand is set", "executable file not found")
}

func TestJumpHostsAreTheWayToAMachine(t *testing.T) {
	first, second, last := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{})
	config := section("first", first) + section("second", second) + section("last", last) + section("chained", second, "ProxyJump=first") +
		section("odd", second, "ProxyJump=circle") + "Host circle\n ProxyJump circle2\nHost circle2\n ProxyJump circle\n"
	for _, path := range []string{os.Getenv("PATH"), t.TempDir()} {
		t.Setenv("PATH", path)
		for _, jump := range []string{"first,second", "chained", "first,odd"} {
			before := []int{logins(first), logins(second)}
			s, log := configured(t, "last", config, "ProxyJump="+jump)
			checkOutput(t, s, "echo in", "in\n")
			checkOutput(t, s, "echo again", "again\n")
			if got := []int{logins(first) - before[0], logins(second) - before[1]}; !slices.Equal(got, []int{1, 1}) {
				t.Errorf("by %s: %v logins on the way", jump, got)
			}
			if told(log, "ssh program") {
				t.Errorf("logged %q", log.lines)
			}
		}
	}
}

func logins(server *sshtest.Server) int { return strings.Count(server.Log(), "Accepted publickey") }

func TestTheJumpHostOfAllMachinesIsReachedDirectly(t *testing.T) {
	t.Parallel()
	first, last := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{})
	s, _ := configured(t, "last", section("first", first)+section("last", last)+"Host *\n ProxyJump first\n")
	checkOutput(t, s, "echo in", "in\n")
	if logins(first) != 1 {
		t.Errorf("%d logins on the way", logins(first))
	}
}

func TestJumpHostsThatLeadInACircleAreAnError(t *testing.T) {
	t.Parallel()
	s, _ := configured(t, "a", "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
	_, err := output(t, s, "true")
	checkRefused(t, err, "ProxyJump")
}

func TestAFailureOnTheWayNamesItsPlace(t *testing.T) {
	t.Parallel()
	first, closed := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{Config: []string{"AllowTcpForwarding no"}})
	last := sshtest.Start(t, sshtest.Options{})
	last.Kill()
	config := section("first", first) + section("closed", closed) + section("last", last)
	s, _ := configured(t, "last", config, "ProxyJump=first")
	_, err := output(t, s, "true")
	if !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("error: %v", err)
	}
	checkTells(t, err, "connecting to last", "by way of first", "refused")
	s, _ = configured(t, "last", config, "ProxyJump=closed")
	_, err = output(t, s, "true")
	checkRefused(t, err, "closed does not forward connections", "AllowTcpForwarding")
}

func TestASilentMachineBehindAJumpHostIsNoticed(t *testing.T) {
	t.Parallel()
	first, last := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, last.Addr())
	s, _ := configured(t, "last", section("first", first)+section("last", last), "ProxyJump=first", fmt.Sprintf("Port=%d", proxy.Port()),
		"HostKeyAlias=it", "UserKnownHostsFile="+knownAs(t, last, "it"), "ServerAliveInterval=1", "ConnectTimeout=5")
	session, err := s.Session(t.Context(), "cat")
	check(t, err)
	proxy.Stall(true)
	if err := waitFor(t, session); !errors.Is(err, transport.ErrDisconnected) {
		t.Errorf("error: %v", err)
	}
	if _, err := output(t, s, "true"); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("error: %v", err)
	}
	proxy.Stall(false)
	checkOutput(t, s, "echo again", "again\n")
}

func TestWhatTheBuiltInClientLacksIsDoneBySSH(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256",
		"Ciphers aes128-gcm@openssh.com,aes128-ctr", "MACs umac-128@openssh.com,hmac-sha2-256"}})
	proxyCommand := fmt.Sprintf("ProxyCommand=busybox nc %s %d", server.Host, server.Port)
	for _, test := range []struct{ name, option, why string }{
		{"ProxyCommand", proxyCommand, "ProxyCommand is set for nas"},
		{"KexAlgorithms", "KexAlgorithms=sntrup761x25519-sha512@openssh.com", "KexAlgorithms for nas"},
		{"KnownHostsCommand", "KnownHostsCommand=/bin/true", "KnownHostsCommand is set"},
		{"known_hosts", "UserKnownHostsFile=" + writeFile(t, readFile(t, server.KnownHosts)+"nas ssh-unheard-of AAAA\n"), "known host keys"},
		{"algorithms", "MACs=umac-128@openssh.com", "MACs for nas"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, log := configured(t, "nas", section("nas", server), test.option)
			checkOutput(t, s, "echo in", "in\n")
			if !told(log, "running the ssh program: ") || !told(log, test.why) {
				t.Errorf("logged %q", log.lines)
			}
			var exit *transport.ExitError
			_, err := output(t, s, "frob 2>/dev/null; echo it failed >&2; exit 3")
			if !errors.As(err, &exit) || exit.Program != "frob" || exit.State != "exit status 3" || exit.Stderr != "it failed" {
				t.Errorf("error: %#v", err)
			}
		})
	}
	s, log := configured(t, "nas", section("nas", server), "ProxyCommand=none")
	checkOutput(t, s, "echo in", "in\n")
	if told(log, "ssh program") {
		t.Errorf("logged %q", log.lines)
	}
}

func TestAServerWithoutCommonAlgorithmsIsLeftToSSH(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"KexAlgorithms sntrup761x25519-sha512@openssh.com"}})
	s, log := configured(t, "nas", section("nas", server))
	checkOutput(t, s, "echo in", "in\n")
	checkOutput(t, s, "echo again", "again\n")
	if !told(log, "in common") {
		t.Errorf("logged %q", log.lines)
	}
}

func TestAKeyThatOnlySSHCanUseIsLeftToIt(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	foreign := writeFile(t, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
	// ssh fails too, and its message is told
	s, log := configured(t, "127.0.0.1", "", append([]string{"IdentityFile=" + foreign, fmt.Sprintf("Port=%d", server.Port)},
		without(server.Options(), "IdentityFile")...)...)
	_, err := output(t, s, "true")
	checkRefused(t, err, "Permission denied")
	if !told(log, "only it can use "+foreign) {
		t.Errorf("logged %q", log.lines)
	}
	// where another key is accepted, it is not needed
	s, log = configured(t, "nas", section("nas", server, "IdentityFile="+foreign))
	checkOutput(t, s, "echo in", "in\n")
	if told(log, "ssh program") {
		t.Errorf("logged %q", log.lines)
	}
}

func TestTheConfiguredProgramIsRun(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	dir := t.TempDir()
	program := filepath.Join(dir, "my-ssh")
	check(t, os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$0.argv\"\nexec ssh \"$@\"\n"), 0o700))
	o := sshOptions(t, server, "ServerAliveInterval=7")
	o.Program = program
	checkOutput(t, newSSH(t, server, server.Port, o), "echo 'a  b'", "a  b\n")
	argv := strings.Split(readFile(t, program+".argv"), "\n")
	for _, want := range []string{"-T", "BatchMode=yes", "ConnectTimeout=20", "ServerAliveCountMax=3", "echo 'a  b'"} {
		if !slices.Contains(argv, want) {
			t.Errorf("%q was not given: %q", want, argv)
		}
	}
	if i, j := slices.Index(argv, "ServerAliveInterval=7"), slices.Index(argv, "ServerAliveInterval=15"); i < 0 || j < i {
		t.Errorf("the user's option does not come first: %q", argv)
	}
}

func TestCiphersOfTheConfigurationAreKept(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{Config: []string{"LogLevel DEBUG1"}})
	for option, want := range map[string]string{
		"Compression=no":                           "aes128-gcm@openssh.com", // the fastest
		"Ciphers=aes256-ctr":                       "aes256-ctr",
		"Ciphers=aes256-gcm@openssh.com":           "aes256-gcm@openssh.com",
		"Ciphers=-aes128-gcm@openssh.com,aes256-*": "chacha20-poly1305@openssh.com",
	} {
		for _, path := range []string{os.Getenv("PATH"), t.TempDir()} {
			before := strings.Count(server.Log(), "cipher: "+want)
			t.Run(option, func(t *testing.T) {
				t.Setenv("PATH", path)
				s, _ := configured(t, "nas", section("nas", server), option)
				checkOutput(t, s, "true", "")
			})
			if strings.Count(server.Log(), "cipher: "+want) == before {
				t.Errorf("%s: %s is not used", option, want)
			}
		}
	}
}

func TestFileNamesHaveSSHsTokensAndVariables(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	dir := t.TempDir()
	t.Setenv("KEYS", dir)
	t.Setenv("ODD", "%d") // no token
	options := append(without(server.Options(), "IdentityFile"), "HostName="+server.Host, "HostKeyAlias=it", "IdentitiesOnly=yes",
		fmt.Sprintf("Port=%d", server.Port))
	options = append(without(options, "UserKnownHostsFile"), "UserKnownHostsFile="+knownAs(t, server, "it"))
	const tokens = "%%-%C-%d-%h-%i-%k-%L-%l-%n-%p-%r-%u-${ODD}-$KEYS"
	// ssh itself tells what it makes of them in another file name
	argv := []string{"-G", "-F", "none", "-l", server.User, "-o", "ControlPath=" + dir + "/" + tokens}
	for _, o := range options {
		argv = append(argv, "-o", o)
	}
	told, err := exec.Command("ssh", append(argv, "nas")...).Output()
	check(t, err)
	_, name, _ := strings.Cut(string(told), "\ncontrolpath ")
	name, _, _ = strings.Cut(name, "\n")
	check(t, os.MkdirAll(filepath.Dir(name), 0o700))
	check(t, os.WriteFile(name, []byte(readFile(t, server.KeyFile)), 0o600))
	for _, programs := range []string{os.Getenv("PATH"), t.TempDir()} {
		t.Setenv("PATH", programs)
		s := ssh.New(ssh.Target{Host: "nas", User: server.User}, ssh.Options{ConfigFile: writeFile(t, ""),
			Options: append([]string{"IdentityFile=${KEYS}/" + tokens}, options...)})
		defer s.Close()
		checkOutput(t, s, "echo in", "in\n")
	}
}

func TestNamesOfFilesMayHoldSpaces(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	dir := filepath.Join(t.TempDir(), "a b", "c  d")
	check(t, os.MkdirAll(dir, 0o700))
	for from, to := range map[string]string{server.KeyFile: "k e y", server.KnownHosts: "known hosts"} {
		check(t, os.WriteFile(filepath.Join(dir, to), []byte(readFile(t, from)), 0o600))
	}
	options := []string{"IdentitiesOnly=yes", fmt.Sprintf("Port=%d", server.Port), fmt.Sprintf(`IdentityFile="%s/k e y"`, dir)}
	path := os.Getenv("PATH")
	for _, list := range []string{`"%[1]s/known hosts"`, `/no/file "%[1]s/known hosts"`, `"%[1]s/known hosts" "/no /file"`} {
		for _, programs := range []string{path, t.TempDir()} {
			t.Setenv("PATH", programs)
			s, _ := configured(t, server.Host, "Host *\n User "+server.User+"\n",
				append(options, "UserKnownHostsFile="+strings.ReplaceAll(list, "%[1]s", dir))...)
			checkOutput(t, s, "echo in", "in\n")
		}
	}
	t.Setenv("PATH", path)
	fresh := filepath.Join(dir, "new hosts")
	s, _ := configured(t, server.Host, "", append(options, "User="+server.User, `UserKnownHostsFile="`+fresh+`"`, "StrictHostKeyChecking=accept-new")...)
	checkOutput(t, s, "echo in", "in\n")
	if readFile(t, fresh) == "" {
		t.Error("the key was added elsewhere")
	}
}
