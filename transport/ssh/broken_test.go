package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

func TestAMachineThatDoesNotAnswerIsUnreachable(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer silent.Close()
	hangUp, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer hangUp.Close()
	go func() {
		for conn, err := hangUp.Accept(); err == nil; conn, err = hangUp.Accept() {
			conn.Close()
		}
	}()
	proxy := sshtest.NewProxy(t, server.Addr())
	proxy.Refuse(true)
	for _, test := range []struct {
		name  string
		port  int
		host  string
		tells []string
	}{
		{"refused", proxy.Port(), "", []string{"connection refused", fmt.Sprintf("on port %d?", proxy.Port())}},
		{"accepts and is silent", silent.Addr().(*net.TCPAddr).Port, "", []string{"does not go on with the handshake", "firewall"}},
		{"hangs up", hangUp.Addr().(*net.TCPAddr).Port, "", []string{"closed during the handshake", "is it sshd"}},
		{"no such name", 0, "no-such-host.invalid", []string{"no-such-host.invalid", "hint: "}},
	} {
		for _, program := range []string{"", "ssh"} {
			t.Run(test.name+" "+program, func(t *testing.T) {
				timeout := "ConnectTimeout=60"
				if test.name == "accepts and is silent" {
					timeout = "ConnectTimeout=1"
				}
				o := sshOptions(t, server, timeout)
				o.Program = program
				s := newSSH(t, server, test.port, o)
				if test.host != "" {
					s = ssh.New(ssh.Target{Host: test.host}, o)
				}
				_, err := output(t, s, "true")
				if !errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrDisconnected) {
					t.Errorf("error: %v", err)
				}
				if program == "" {
					checkTells(t, err, test.tells...)
				}
			})
		}
	}
}

func TestABrokenConnectionEndsItsSessionsAndIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"", "ssh"} {
		server := sshtest.Start(t, sshtest.Options{})
		proxy := sshtest.NewProxy(t, server.Addr())
		o := sshOptions(t, server, "HostKeyAlias=it", "UserKnownHostsFile="+knownAs(t, server, "it"))
		o.Program = program
		s := newSSH(t, server, proxy.Port(), o)
		session, err := s.Session(t.Context(), "echo here; cat")
		check(t, err)
		_, err = io.ReadFull(session.Stdout, make([]byte, len("here\n")))
		check(t, err)
		proxy.Cut()
		_, _ = io.ReadAll(session.Stdout) // it ends
		err = session.Wait()
		if !errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s error: %v", program, err)
		}
		checkTells(t, err, "connection lost", "hint: ")
		checkOutput(t, s, "echo again", "again\n")
	}
}

// knownAs gives a known_hosts file in which a server has another name.
func knownAs(t testing.TB, server *sshtest.Server, name string) string {
	t.Helper()
	key, err := os.ReadFile(server.HostKey + ".pub")
	check(t, err)
	return writeFile(t, name+" "+string(key))
}

// OpenSSH's packet.c, sshpkt_fatal, has one message for both.
func TestAConnectionThatIsResetIsLostOnlyIfItStood(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	for says, want := range map[string]error{"": transport.ErrUnreachable, "here\n": transport.ErrDisconnected} {
		for _, message := range []string{"Connection reset by", "Connection closed by", "Connection timed out to"} {
			program := writeFile(t, fmt.Sprintf("#!/bin/sh\nprintf '%s'\necho '%s 127.0.0.1 port 22' >&2\nexit 255\n", says, message))
			check(t, os.Chmod(program, 0o700))
			o := sshOptions(t, server)
			o.Program = program
			_, err := output(t, newSSH(t, server, server.Port, o), "true")
			if !errors.Is(err, want) {
				t.Errorf("%q after %q: %v", message, says, err)
			}
		}
	}
}

func TestAKilledServerEndsItsSessions(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	session, err := s.Session(t.Context(), "cat")
	check(t, err)
	server.Kill()
	if err := session.Wait(); !errors.Is(err, transport.ErrDisconnected) {
		t.Errorf("error: %v", err)
	}
	if _, err := output(t, s, "true"); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("error: %v", err)
	}
}

func TestASilentPeerIsNoticed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, line string }{{"while reading", "cat"}, {"while writing", "cat >/dev/null"}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := sshtest.Start(t, sshtest.Options{})
			proxy := sshtest.NewProxy(t, server.Addr())
			s := newSSH(t, server, proxy.Port(), sshOptions(t, server, "ServerAliveInterval=1", "ServerAliveCountMax=2",
				"HostKeyAlias=it", "UserKnownHostsFile="+knownAs(t, server, "it")))
			session, err := s.Session(t.Context(), test.line)
			check(t, err)
			proxy.Stall(true)
			if test.name == "while writing" {
				go func() { _, _ = io.Copy(session.Stdin, endless{}) }() // it breaks
			}
			if err := waitFor(t, session); !errors.Is(err, transport.ErrDisconnected) {
				t.Errorf("error: %v", err)
			}
			proxy.Stall(false)
			checkOutput(t, s, "echo again", "again\n")
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// waitFor waits for a session that must end by itself.
func waitFor(t testing.TB, session *transport.Session) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- session.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("the session does not end")
		return nil
	}
}

func TestAnIdleConnectionIsKept(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server, "ServerAliveInterval=1", "ServerAliveCountMax=3")
	checkOutput(t, s, "sleep 6; echo done", "done\n")
}

func TestKillEndsACommand(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	for _, program := range []string{"", "ssh"} {
		o := sshOptions(t, server)
		o.Program = program
		s := newSSH(t, server, server.Port, o)
		session, err := s.Session(t.Context(), "echo $$; cat")
		check(t, err)
		line := make([]byte, 16)
		n, err := session.Stdout.Read(line)
		check(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
		check(t, err)
		session.Kill()
		if err := waitFor(t, session); err == nil {
			t.Error("a killed command succeeded")
		}
		waitForEnd(t, pid)
	}
}

func TestTheEndOfTheContextKillsACommand(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	session, err := s.Session(ctx, "echo $$; exec cat")
	check(t, err)
	line := make([]byte, 16)
	n, err := session.Stdout.Read(line)
	check(t, err)
	cancel(cause)
	if err := waitFor(t, session); !errors.Is(err, cause) {
		t.Errorf("error: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	check(t, err)
	waitForEnd(t, pid)
	checkOutput(t, s, "echo others go on", "others go on\n")
}

func TestKillDoesNotWaitForASilentPeer(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr())
	s := newSSH(t, server, proxy.Port(), sshOptions(t, server, "ServerAliveInterval=600",
		"HostKeyAlias=it", "UserKnownHostsFile="+knownAs(t, server, "it")))
	session, err := s.Session(t.Context(), "cat >/dev/null")
	check(t, err)
	proxy.Stall(true)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(session.Stdin, endless{})
		wrote <- err
	}()
	session.Kill()
	if err := waitFor(t, session); err == nil {
		t.Error("a killed command succeeded")
	}
	if err := <-wrote; err == nil {
		t.Error("writing goes on")
	}
}

func TestTheEndOfTheContextAfterTheCommandIsNoFailure(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	session, err := s.Session(ctx, "echo done")
	check(t, err)
	_, err = io.ReadAll(session.Stdout)
	check(t, err)
	until(t, "the end of the session", func() bool { return strings.Contains(server.Log(), "Close session") })
	checkOutput(t, s, "true", "") // what came before is handled
	cancel()
	check(t, errors.Join(session.Wait(), session.Wait()))
}

func TestKillEndsASessionWhoseCommandGoesOn(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	other, err := s.Session(t.Context(), "cat")
	check(t, err)
	session, err := s.Session(t.Context(), "trap '' PIPE; exec sleep 300 2>/dev/null")
	check(t, err)
	session.Kill()
	checkOutput(t, s, "sleep 7; echo others go on", "others go on\n")
	check(t, errors.Join(other.Stdin.Close(), waitFor(t, other)))
	if _, err := io.ReadAll(session.Stdout); err != nil {
		t.Error(err)
	}
	if err := waitFor(t, session); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

func TestTheEndOfTheContextEndsADial(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer silent.Close()
	server := sshtest.Start(t, sshtest.Options{})
	s := newSSH(t, server, silent.Addr().(*net.TCPAddr).Port, sshOptions(t, server, "ConnectTimeout=600"))
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		conn, err := silent.Accept()
		if err == nil {
			_, _ = conn.Read(make([]byte, 4)) // the client has begun
			cancel(cause)
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	if _, err := s.Session(ctx, "true"); !errors.Is(err, cause) {
		t.Errorf("error: %v", err)
	}
}

// countedContext counts how often somebody began to wait for its end.
type countedContext struct {
	context.Context
	waits atomic.Int32
}

func (c *countedContext) Done() <-chan struct{} {
	c.waits.Add(1)
	return c.Context.Done()
}

// until waits until something is so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
	}
}

func TestOneCallersEndDoesNotEndTheConnectingOfAnother(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr())
	proxy.Stall(true)
	s := newSSH(t, server, proxy.Port(), sshOptions(t, server, "HostKeyAlias=it", "UserKnownHostsFile="+knownAs(t, server, "it")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.Session(ctx, "true")
		first <- err
	}()
	until(t, "the first caller's connection", func() bool { return strings.Contains(server.Log(), "Connection from") })
	waiting := &countedContext{Context: t.Context()}
	go func() {
		session, err := s.Session(waiting, "true")
		if err == nil {
			err = session.Wait()
		}
		second <- err
	}()
	until(t, "the second caller", func() bool { return waiting.waits.Load() == 2 }) // for the configuration, and the connection
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	proxy.Stall(false)
	check(t, <-second)
}

func TestCloseEndsSessionsAndTakesNoMore(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	session, err := s.Session(t.Context(), "cat")
	check(t, err)
	check(t, s.Close())
	if err := waitFor(t, session); err == nil {
		t.Error("a session outlives its connection")
	}
	if _, err := s.Session(t.Context(), "true"); err == nil {
		t.Error("a closed one connects")
	}
}
