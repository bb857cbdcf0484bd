package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keygen runs ssh-keygen.
func keygen(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", append([]string{"-q"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, out)
	}
}

// startAgent serves an agent that holds the keys of files and gives its socket.
func startAgent(t testing.TB, files ...string) string {
	t.Helper()
	keys := agent.NewKeyring()
	for _, file := range files {
		pem, err := os.ReadFile(file)
		check(t, err)
		key, err := xssh.ParseRawPrivateKey(pem)
		check(t, err)
		check(t, keys.Add(agent.AddedKey{PrivateKey: key}))
	}
	dir, err := os.MkdirTemp("", "agent") // the path of a socket is short
	check(t, err)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	check(t, err)
	t.Cleanup(func() { l.Close(); os.RemoveAll(dir) })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() { _ = agent.ServeAgent(keys, conn); conn.Close() }() // it ends with an error
		}
	}()
	return socket
}

// without gives the options but for those with the keywords.
func without(options []string, keywords ...string) []string {
	var rest []string
	for _, o := range options {
		keep := true
		for _, k := range keywords {
			keep = keep && !strings.HasPrefix(o, k+"=")
		}
		if keep {
			rest = append(rest, o)
		}
	}
	return rest
}

// withKey makes a client that has a server's options but for its key.
func withKey(t testing.TB, server *sshtest.Server, options ...string) *ssh.Machine {
	t.Helper()
	o := sshOptions(t, server)
	o.Options = append(options, without(o.Options, "IdentityFile", "IdentitiesOnly")...)
	return newSSH(t, server, server.Port, o)
}

func TestAKeyOfTheAgentIsUsed(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	other := filepath.Join(t.TempDir(), "other")
	sshtest.NewKey(t, other)
	socket := startAgent(t, other, server.KeyFile)
	missing := "IdentityFile=" + filepath.Join(t.TempDir(), "missing")

	checkOutput(t, withKey(t, server, "IdentityAgent="+socket, missing), "echo in", "in\n")
	t.Setenv("SSH_AUTH_SOCK", socket)
	checkOutput(t, withKey(t, server, "IdentityAgent=SSH_AUTH_SOCK", missing), "echo in", "in\n")

	_, err := output(t, withKey(t, server, "IdentityAgent=none", missing), "true")
	checkRefused(t, err, "permission denied", "there is no key to offer", "ssh-copy-id")
	_, err = output(t, withKey(t, server, "IdentityAgent="+socket, missing, "IdentitiesOnly=yes"), "true")
	checkRefused(t, err, "there is no key to offer")
	checkOutput(t, withKey(t, server, "IdentityAgent="+socket, "IdentityFile="+server.KeyFile+".pub", "IdentitiesOnly=yes"), "echo in", "in\n")
}

func TestAKeyThatIsNotAcceptedIsNamed(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	file := filepath.Join(t.TempDir(), "other")
	sshtest.NewKey(t, file)
	pub, err := os.ReadFile(file + ".pub")
	check(t, err)
	key, _, _, _, err := xssh.ParseAuthorizedKey(pub)
	check(t, err)
	_, err = output(t, withKey(t, server, "IdentityAgent=none", "IdentityFile="+file), "true")
	checkRefused(t, err, "permission denied", file, xssh.FingerprintSHA256(key), "ssh-copy-id")
	_, err = output(t, withKey(t, server, "IdentityAgent="+startAgent(t, file), "IdentityFile=none"), "true")
	checkRefused(t, err, xssh.FingerprintSHA256(key), "agent")

	o := sshOptions(t, server)
	o.Program = "ssh"
	o.Options = append([]string{"IdentityFile=" + file}, without(o.Options, "IdentityFile")...)
	_, err = output(t, newSSH(t, server, server.Port, o), "true")
	checkRefused(t, err, "Permission denied", "ssh-add")
}

func TestTooManyKeysAreTold(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"MaxAuthTries 2"}})
	var files []string
	for i := range 4 {
		files = append(files, filepath.Join(t.TempDir(), fmt.Sprint(i)))
		sshtest.NewKey(t, files[i])
	}
	socket := startAgent(t, append(files, server.KeyFile)...)
	_, err := output(t, withKey(t, server, "IdentityAgent="+socket), "true")
	checkRefused(t, err, "too many keys", "IdentitiesOnly=yes")
	// the configured one is offered first
	checkOutput(t, withKey(t, server, "IdentityAgent="+socket, "IdentityFile="+server.KeyFile), "echo in", "in\n")
}

func TestAPassphraseIsAskedOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		keygen []string
		public bool
	}{
		{"with its public half", []string{"-t", "ed25519"}, true},
		{"alone", []string{"-t", "ed25519"}, false},
		{"rsa", []string{"-t", "rsa", "-b", "2048"}, true},
		{"old format", []string{"-t", "rsa", "-b", "2048", "-m", "PEM"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := sshtest.Start(t, sshtest.Options{Config: []string{"MaxSessions 1"}})
			file := filepath.Join(t.TempDir(), "locked")
			keygen(t, append(test.keygen, "-a", "1", "-N", "open sesame", "-f", file)...) // of many rounds, it takes long
			pub, err := os.ReadFile(file + ".pub")
			check(t, err)
			check(t, os.WriteFile(filepath.Join(server.Dir, "authorized_keys"), pub, 0o600))
			if !test.public {
				check(t, os.Remove(file+".pub"))
			}
			o := sshOptions(t, server, "IdentityAgent=none")
			o.Options = append([]string{"IdentityFile=" + file}, without(o.Options, "IdentityFile")...)
			_, err = output(t, newSSH(t, server, server.Port, o), "true")
			checkRefused(t, err, "permission denied", file, "ssh-add")

			asked := 0
			o.Ask = func(_ context.Context, question string, secret bool) (string, error) {
				if asked++; !secret || !strings.Contains(question, file) {
					t.Errorf("asked %q, secret: %t", question, secret)
				}
				return []string{"wrong", "open sesame"}[min(asked-1, 1)], nil
			}
			s := newSSH(t, server, server.Port, o)
			session, err := s.Session(t.Context(), "cat")
			check(t, err)
			checkOutput(t, s, "echo on another connection", "on another connection\n")
			check(t, errors.Join(session.Stdin.Close(), session.Wait()))
			if asked != 2 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

func TestAPassphraseIsNotAskedForAKeyThatIsNotAccepted(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	file := filepath.Join(t.TempDir(), "locked")
	keygen(t, "-t", "ed25519", "-N", "open sesame", "-f", file)
	o := sshOptions(t, server, "IdentityAgent=none", "IdentityFile="+file)
	o.Ask = func(_ context.Context, question string, _ bool) (string, error) {
		t.Errorf("asked %q", question)
		return "", errors.New("no")
	}
	checkOutput(t, newSSH(t, server, server.Port, o), "echo in", "in\n")
}

func TestACertificateOfAUserIsUsed(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca")
	sshtest.NewKey(t, ca)
	server := sshtest.Start(t, sshtest.Options{Config: []string{"TrustedUserCAKeys " + ca + ".pub", "AuthorizedKeysFile none"}})
	key := filepath.Join(t.TempDir(), "key")
	sshtest.NewKey(t, key)
	keygen(t, "-s", ca, "-I", "me", "-n", server.User, key+".pub")
	checkOutput(t, withKey(t, server, "IdentityAgent=none", "IdentityFile="+key), "echo beside the key", "beside the key\n")

	cert := filepath.Join(t.TempDir(), "elsewhere")
	check(t, os.Rename(key+"-cert.pub", cert))
	_, err := output(t, withKey(t, server, "IdentityAgent=none", "IdentityFile="+key), "true")
	checkRefused(t, err, "permission denied")
	checkOutput(t, withKey(t, server, "IdentityAgent=none", "IdentityFile="+key, "CertificateFile="+cert), "echo file", "file\n")
	checkOutput(t, withKey(t, server, "IdentityAgent="+startAgent(t, key), "IdentityFile=none", "CertificateFile="+cert), "echo agent", "agent\n")
}

func TestAnAgentThatIsGoneDoesNotHinderAKeyFile(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	checkOutput(t, connectTo(t, server, "IdentityAgent="+filepath.Join(t.TempDir(), "gone")), "echo in", "in\n")
}

// serveLogin serves a way to log in, and sessions that end with success.
func serveLogin(t testing.TB, config *xssh.ServerConfig) (port int, known string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "host")
	line := sshtest.NewKey(t, file)
	pem, err := os.ReadFile(file)
	check(t, err)
	signer, err := xssh.ParsePrivateKey(pem)
	check(t, err)
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go serveSuccess(conn, config)
		}
	}()
	port = l.Addr().(*net.TCPAddr).Port
	return port, writeFile(t, fmt.Sprintf("[127.0.0.1]:%d %s\n", port, line))
}

func serveSuccess(conn net.Conn, config *xssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := xssh.NewServerConn(conn, config)
	if err != nil {
		return // the client gave up
	}
	go xssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(r.Type == "exec", nil)
				_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
				channel.Close()
			}
		}()
	}
}

func TestAPasswordIsAskedOfTheUser(t *testing.T) {
	t.Parallel()
	wrong := errors.New("wrong")
	password := &xssh.ServerConfig{PasswordCallback: func(_ xssh.ConnMetadata, p []byte) (*xssh.Permissions, error) {
		if string(p) != "open sesame" {
			return nil, wrong
		}
		return nil, nil
	}}
	interactive := &xssh.ServerConfig{KeyboardInteractiveCallback: func(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
		answers, err := ask("", "", []string{"What? "}, []bool{false})
		if err != nil || answers[0] != "open sesame" {
			return nil, wrong
		}
		return nil, nil
	}}
	for name, config := range map[string]*xssh.ServerConfig{"password": password, "keyboard-interactive": interactive} {
		t.Run(name, func(t *testing.T) {
			port, known := serveLogin(t, config)
			asked := 0
			o := ssh.Options{ConfigFile: writeFile(t, ""), Options: []string{"UserKnownHostsFile=" + known,
				"GlobalKnownHostsFile=none", "IdentityAgent=none", "IdentityFile=none"}}
			target := ssh.Target{Host: "127.0.0.1", Port: port, User: "me"}
			_, err := output(t, ssh.New(target, o), "true")
			checkRefused(t, err, "permission denied", name)

			o.Ask = func(_ context.Context, question string, secret bool) (string, error) {
				if asked++; !secret || !strings.Contains(question, "me@127.0.0.1") {
					t.Errorf("asked %q, secret: %t", question, secret)
				}
				return []string{"wrong", "open sesame"}[min(asked-1, 1)], nil
			}
			s := ssh.New(target, o)
			defer s.Close()
			checkOutput(t, s, "true", "")
			if asked != 2 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

// noKerberos is a server's side of GSSAPI that accepts nobody.
type noKerberos struct{}

func (noKerberos) AcceptSecContext([]byte) ([]byte, string, bool, error) {
	return nil, "", false, errors.New("no")
}
func (noKerberos) VerifyMIC([]byte, []byte) error { return errors.New("no") }
func (noKerberos) DeleteSecContext() error        { return nil }

func TestGSSAPIIsLeftToSSHWhereAServerOffersIt(t *testing.T) {
	t.Parallel()
	server := &xssh.ServerConfig{
		PublicKeyCallback: func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) { return nil, errors.New("no") },
		GSSAPIWithMICConfig: &xssh.GSSAPIWithMICConfig{Server: noKerberos{},
			AllowLogin: func(xssh.ConnMetadata, string) (*xssh.Permissions, error) { return nil, errors.New("no") }},
	}
	port, known := serveLogin(t, server)
	for _, enabled := range []string{"yes", "no"} {
		log := &recorder{keep: 1000}
		s := ssh.New(ssh.Target{Host: "127.0.0.1", Port: port, User: "me"}, ssh.Options{Log: slog.New(log),
			ConfigFile: writeFile(t, ""), Options: []string{"UserKnownHostsFile=" + known, "GlobalKnownHostsFile=none",
				"IdentityAgent=none", "IdentityFile=none", "GSSAPIAuthentication=" + enabled}})
		_, err := output(t, s, "true")
		checkRefused(t, err, "ermission denied")
		if told(log, "may take GSSAPIAuthentication") != (enabled == "yes") {
			t.Errorf("GSSAPIAuthentication=%s: logged %q", enabled, log.lines)
		}
	}
}
