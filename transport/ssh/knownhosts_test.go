package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"

	xssh "golang.org/x/crypto/ssh"
)

// knowing makes a client of a server that knows host keys from one file.
func knowing(t testing.TB, server *sshtest.Server, file string, options ...string) *ssh.Machine {
	t.Helper()
	return connectTo(t, server, append(options, "UserKnownHostsFile="+file)...)
}

func publicKey(t testing.TB, file string) (line, fingerprint string) {
	t.Helper()
	text, err := os.ReadFile(file + ".pub")
	check(t, err)
	key, _, _, _, err := xssh.ParseAuthorizedKey(text)
	check(t, err)
	return strings.TrimSpace(string(text)), xssh.FingerprintSHA256(key)
}

func newPublicKey(t testing.TB) (line, fingerprint string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	sshtest.NewKey(t, file)
	return publicKey(t, file)
}

// place is the name of a server in known_hosts files.
func place(server *sshtest.Server) string { return fmt.Sprintf("[%s]:%d", server.Host, server.Port) }

func readFile(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	return string(text)
}

func TestAnUnknownHostKeyIsRefusedWhenNobodyIsThere(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	_, fingerprint := publicKey(t, server.HostKey)
	file := filepath.Join(t.TempDir(), "known_hosts")
	for _, strict := range []string{"ask", "yes"} {
		_, err := output(t, knowing(t, server, file, "StrictHostKeyChecking="+strict), "true")
		checkRefused(t, err, fingerprint, "is not known", "ssh-keyscan",
			fmt.Sprintf("ssh -p %d %s@%s ", server.Port, server.User, server.Host))
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

func TestAnUnknownHostKeyIsAddedWhenTheUserAccepts(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	_, fingerprint := publicKey(t, server.HostKey)
	for _, hash := range []string{"no", "yes"} {
		file := filepath.Join(t.TempDir(), "new", "known_hosts")
		o := sshOptions(t, server, "StrictHostKeyChecking=ask", "HashKnownHosts="+hash, "UserKnownHostsFile="+file)
		answer := "no"
		o.Ask = func(_ context.Context, question string, secret bool) (string, error) {
			if secret || !strings.Contains(question, fingerprint) {
				t.Errorf("asked %q, secret: %t", question, secret)
			}
			return answer, nil
		}
		_, err := output(t, newSSH(t, server, server.Port, o), "true")
		checkRefused(t, err, fingerprint, "not accepted")
		answer = "yes"
		checkOutput(t, newSSH(t, server, server.Port, o), "echo in", "in\n")

		checkOutput(t, knowing(t, server, file, "StrictHostKeyChecking=yes"), "echo known", "known\n")
		if got := readFile(t, file); strings.Contains(got, server.Host) == (hash == "yes") || strings.Count(got, "\n") != 1 {
			t.Errorf("HashKnownHosts=%s: %s", hash, got)
		}
		for name, want := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700 | os.ModeDir} {
			if info, err := os.Stat(name); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	}
}

func TestAnUnknownHostKeyIsNotAskedForWhenCheckingIsStrict(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	o := sshOptions(t, server, "StrictHostKeyChecking=yes", "UserKnownHostsFile=/dev/null")
	o.Ask = func(_ context.Context, question string, _ bool) (string, error) {
		t.Errorf("asked %q", question)
		return "yes", nil
	}
	_, err := output(t, newSSH(t, server, server.Port, o), "true")
	checkRefused(t, err, "is not known")
}

func TestAnUnknownHostKeyIsAddedAsConfigured(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	line, _ := publicKey(t, server.HostKey)
	for _, strict := range []string{"accept-new", "no"} {
		file := writeFile(t, "# no end of line")
		checkOutput(t, knowing(t, server, file, "StrictHostKeyChecking="+strict, "HashKnownHosts=no"), "echo in", "in\n")
		if want := "# no end of line\n" + place(server) + " " + line + "\n"; readFile(t, file) != want {
			t.Errorf("%s, want %s", readFile(t, file), want)
		}
	}
}

func TestAChangedHostKeyIsAlwaysRefused(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	_, offered := publicKey(t, server.HostKey)
	old, known := newPublicKey(t)
	file := writeFile(t, "# a comment\n"+place(server)+" "+old+"\n")
	for _, strict := range []string{"yes", "ask", "accept-new", "no"} {
		o := sshOptions(t, server, "StrictHostKeyChecking="+strict, "UserKnownHostsFile="+file)
		o.Ask = func(_ context.Context, question string, _ bool) (string, error) {
			t.Errorf("asked %q", question)
			return "yes", nil
		}
		_, err := output(t, newSSH(t, server, server.Port, o), "true")
		checkRefused(t, err, offered, known, file+":2", "ssh-keygen -f "+file+" -R")
	}
	o := sshOptions(t, server, "UserKnownHostsFile="+file)
	o.Program = "ssh"
	_, err := output(t, newSSH(t, server, server.Port, o), "true")
	checkRefused(t, err, "fingerprint")
}

func TestAHostKeyIsKnownInEachForm(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	line, _ := publicKey(t, server.HostKey)
	other, _ := newPublicKey(t)
	plain := writeFile(t, place(server)+" "+line+"\n")
	hashed := writeFile(t, readFile(t, plain))
	keygen(t, "-H", "-f", hashed)
	if strings.Contains(readFile(t, hashed), server.Host) {
		t.Fatal("it is not hashed")
	}
	for name, file := range map[string]string{
		"plain":    plain,
		"hashed":   hashed,
		"second":   writeFile(t, place(server)+" "+other+"\n"+place(server)+" "+line+"\n"),
		"wildcard": writeFile(t, "127.0.0.* "+line+"\n"),
		"of many":  writeFile(t, "other,"+place(server)+" "+line+"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			checkOutput(t, knowing(t, server, file), "echo in", "in\n")
		})
	}
	checkOutput(t, knowing(t, server, "/dev/null "+plain), "echo second file", "second file\n")
	checkOutput(t, connectTo(t, server, "GlobalKnownHostsFile="+plain, "UserKnownHostsFile=/dev/null"), "echo global", "global\n")
	alias := writeFile(t, "the-alias "+line+"\n")
	checkOutput(t, knowing(t, server, alias, "HostKeyAlias=the-alias"), "echo alias", "alias\n")
	_, err := output(t, knowing(t, server, alias), "true")
	checkRefused(t, err, "is not known")
}

func TestTheKindOfHostKeyThatIsKnownIsAskedFor(t *testing.T) {
	t.Parallel()
	more := filepath.Join(t.TempDir(), "rsa")
	keygen(t, "-t", "rsa", "-b", "3072", "-N", "", "-f", more)
	ecdsa := filepath.Join(t.TempDir(), "ecdsa")
	keygen(t, "-t", "ecdsa", "-N", "", "-f", ecdsa)
	server := sshtest.Start(t, sshtest.Options{Config: []string{"HostKey " + more, "HostKey " + ecdsa}})
	for _, file := range []string{more, ecdsa, server.HostKey} {
		line, _ := publicKey(t, file)
		checkOutput(t, knowing(t, server, writeFile(t, place(server)+" "+line+"\n")), "echo in", "in\n")
	}
}

func TestACertificateOfAHostIsChecked(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca")
	authority := sshtest.NewKey(t, ca)
	other, _ := newPublicKey(t)
	key := filepath.Join(t.TempDir(), "host")
	sshtest.NewKey(t, key)
	keygen(t, "-s", ca, "-h", "-I", "host", "-n", "127.0.0.1", key+".pub")
	server := sshtest.Start(t, sshtest.Options{Config: []string{"HostKey " + key, "HostCertificate " + key + "-cert.pub"}})
	checkOutput(t, knowing(t, server, writeFile(t, "@cert-authority * "+authority+"\n")), "echo in", "in\n")

	for name, file := range map[string]string{
		"of another authority": "@cert-authority * " + other + "\n",
		"revoked":              "@cert-authority * " + authority + "\n@revoked * " + authority + "\n",
		"for others":           "@cert-authority *.example.com " + authority + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := output(t, knowing(t, server, writeFile(t, file)), "true")
			checkRefused(t, err, "the host key")
		})
	}
	plain, _ := publicKey(t, key) // the certificate is not asked for
	checkOutput(t, knowing(t, server, writeFile(t, place(server)+" "+plain+"\n")), "echo in", "in\n")
}

func TestARevokedHostKeyIsRefused(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	line, fingerprint := publicKey(t, server.HostKey)
	file := writeFile(t, place(server)+" "+line+"\n@revoked * "+line+"\n")
	_, err := output(t, knowing(t, server, file, "StrictHostKeyChecking=no"), "true")
	checkRefused(t, err, fingerprint, "is revoked", file+":2")

	list := writeFile(t, "# keys\n"+line+"\n")
	_, err = output(t, connectTo(t, server, "RevokedHostKeys="+list, "StrictHostKeyChecking=no"), "true")
	checkRefused(t, err, fingerprint, "is revoked", list)
	other, _ := newPublicKey(t)
	checkOutput(t, connectTo(t, server, "RevokedHostKeys="+writeFile(t, other+"\n")), "echo in", "in\n")
}

func TestAnUnknownMachineIsAskedForTheKeyThatSSHShows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rsa, ecdsa := filepath.Join(dir, "rsa"), filepath.Join(dir, "ecdsa")
	keygen(t, "-t", "rsa", "-b", "3072", "-N", "", "-f", rsa)
	keygen(t, "-t", "ecdsa", "-N", "", "-f", ecdsa)
	server := sshtest.Start(t, sshtest.Options{Config: []string{"HostKey " + rsa, "HostKey " + ecdsa}})
	unknown := filepath.Join(dir, "known_hosts")
	for algorithms, file := range map[string]string{"": server.HostKey, "HostKeyAlgorithms=-ssh-ed25519": ecdsa,
		"HostKeyAlgorithms=rsa-sha2-512,rsa-sha2-256": rsa} {
		_, want := publicKey(t, file)
		options := []string{"StrictHostKeyChecking=yes"}
		if algorithms != "" {
			options = append(options, algorithms)
		}
		_, err := output(t, knowing(t, server, unknown, options...), "true")
		checkRefused(t, err, want, "is not known")
	}
}
