package ssh_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// programs are the ways to reach a machine: the built-in client, and an ssh program.
var programs = []string{"", "ssh"}

// listen runs a service for each connection to an address.
func listen(t testing.TB, service func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() {
				defer c.Close()
				service(c)
			}()
		}
	}()
	return l.Addr().String()
}

// repeat reads to the end, then writes all of it back.
func repeat(c net.Conn) {
	all, _ := io.ReadAll(c)
	_, _ = c.Write(all)
}

// babble writes without end.
func babble(c net.Conn) { _, _ = io.Copy(c, endless{}) }

func dial(t testing.TB, s *ssh.Machine, address string) *transport.Session {
	t.Helper()
	c, err := s.Dial(t.Context(), address)
	check(t, err)
	return c
}

// checkRepeated sends a text through a connection to repeat.
func checkRepeated(t testing.TB, c *transport.Session) {
	t.Helper()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	go func() {
		_, err := c.Stdin.Write(sent)
		if err := errors.Join(err, c.Stdin.Close()); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(c.Stdout)
	if err := errors.Join(err, waitFor(t, c)); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, want %d: %v", len(got), len(sent), err)
	}
}

func TestAConnectionIsForwardedForAnAccountThatMayRunNothing(t *testing.T) {
	t.Parallel()
	address := listen(t, repeat)
	for _, config := range []string{"MaxSessions 0", "ForceCommand /bin/false"} {
		server := sshtest.Start(t, sshtest.Options{Config: []string{config}})
		for _, program := range programs {
			o := sshOptions(t, server)
			o.Program = program
			s := newSSH(t, server, server.Port, o)
			checkRepeated(t, dial(t, s, address))
			checkRepeated(t, dial(t, s, address))
		}
	}
}

func TestForwardedConnectionsShareTheConnectionWithSessions(t *testing.T) {
	t.Parallel()
	address := listen(t, repeat)
	server := sshtest.Start(t, sshtest.Options{Config: []string{"MaxSessions 1"}})
	s := connectTo(t, server)
	first := dial(t, s, address)
	session, err := s.Session(t.Context(), "cat; echo end")
	check(t, err)
	second := dial(t, s, address) // though there is no room for a session
	checkRepeated(t, second)
	if n := strings.Count(server.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d connections", n)
	}
	check(t, session.Stdin.Close())
	if out, err := io.ReadAll(session.Stdout); string(out) != "end\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	check(t, waitFor(t, session))
	checkRepeated(t, first)
}

func TestARefusedSessionLeavesForwardedConnectionsAlone(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"MaxSessions 0"}})
	s := connectTo(t, server)
	c := dial(t, s, listen(t, repeat))
	_, err := output(t, s, "true")
	checkRefused(t, err, "opening a session on")
	before := strings.Count(server.Log(), "Accepted publickey")
	checkRepeated(t, dial(t, s, listen(t, repeat)))
	if n := strings.Count(server.Log(), "Accepted publickey"); n != before {
		t.Errorf("%d connections, want %d", n, before)
	}
	checkRepeated(t, c)
}

func TestADialTellsWhyItWasRefused(t *testing.T) {
	t.Parallel()
	open, closed := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{Config: []string{"AllowTcpForwarding no"}})
	nobody := fmt.Sprintf("127.0.0.1:%d", sshtest.Port(t))
	for _, program := range programs {
		try := func(server *sshtest.Server) error {
			o := sshOptions(t, server)
			o.Program = program
			c, err := newSSH(t, server, server.Port, o).Dial(t.Context(), nobody)
			if err != nil {
				return err
			}
			_, readErr := io.ReadAll(c.Stdout)
			return errors.Join(c.Wait(), readErr)
		}
		err := try(open)
		if !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: it is not told that nobody listens: %v", program, err)
		}
		checkTells(t, err, "connecting to "+nobody, "hint: does a program listen on "+nobody)
		err = try(closed)
		checkRefused(t, err, "connecting to "+nobody, "hint: ", "AllowTcpForwarding")
	}
	if _, err := connectTo(t, open).Dial(t.Context(), "no port"); err == nil {
		t.Error("an address without a port is taken")
	}
}

func TestAForwardedConnectionTellsWhetherTheMachineWasLost(t *testing.T) {
	t.Parallel()
	address := listen(t, babble)
	for _, program := range programs {
		server := sshtest.Start(t, sshtest.Options{})
		proxy := sshtest.NewProxy(t, server.Addr())
		o := sshOptions(t, server, "HostKeyAlias=it", "UserKnownHostsFile="+knownAs(t, server, "it"))
		o.Program = program
		s := newSSH(t, server, proxy.Port(), o)
		c := dial(t, s, address)
		_, err := io.ReadFull(c.Stdout, make([]byte, 100))
		check(t, err)
		proxy.Cut()
		_, _ = io.ReadAll(c.Stdout) // it ends
		if err := waitFor(t, c); !errors.Is(err, transport.ErrDisconnected) {
			t.Errorf("%s error: %v", program, err)
		}
		checkRepeated(t, dial(t, s, listen(t, repeat))) // over a new connection
	}
}

func TestKillEndsAForwardedConnectionThatNobodyReads(t *testing.T) {
	t.Parallel()
	ended := make(chan bool, 1)
	address := listen(t, func(c net.Conn) {
		babble(c)
		ended <- true
	})
	server := sshtest.Start(t, sshtest.Options{})
	for _, program := range programs {
		o := sshOptions(t, server)
		o.Program = program
		s := newSSH(t, server, server.Port, o)
		session, err := s.Session(t.Context(), "cat; echo end")
		check(t, err)
		c := dial(t, s, address)
		_, err = io.ReadFull(c.Stdout, make([]byte, 100))
		check(t, err)
		c.Kill()
		if err := waitFor(t, c); err == nil {
			t.Error("a killed connection ended well")
		}
		<-ended
		check(t, session.Stdin.Close())
		out, err := io.ReadAll(session.Stdout)
		if err := errors.Join(err, waitFor(t, session)); string(out) != "end\n" || err != nil {
			t.Errorf("a session did not go on: %q, %v", out, err)
		}
	}
}

func TestAHeardSessionTellsWhatTheCommandSays(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	for _, program := range programs {
		o := sshOptions(t, server)
		o.Program = program
		var said []string
		session, err := newSSH(t, server, server.Port, o).HeardSession(t.Context(), "printf 'one\\ntwo' >&2; exit 3",
			func(line string) { said = append(said, line) })
		check(t, err)
		_, err = io.ReadAll(session.Stdout)
		check(t, err)
		var exit *transport.ExitError
		if err := session.Wait(); !errors.As(err, &exit) || strings.Join(said, "|") != "one|two" {
			t.Errorf("it said %q, %v", said, err)
		}
	}
}
