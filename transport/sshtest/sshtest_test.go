package sshtest_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// echo serves connections that send back what they get.
func echo(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	return l.Addr().String()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exchange sends a byte and waits for it to come back.
func exchange(conn net.Conn) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestAProxyDisturbsConnections(t *testing.T) {
	p := sshtest.NewProxy(t, echo(t))
	conn, err := net.Dial("tcp", p.Addr)
	check(t, err)
	defer conn.Close()
	check(t, exchange(conn))
	if up, down := p.Up.Load(), p.Down.Load(); up != 1 || down != 1 {
		t.Errorf("%d bytes up, %d down", up, down)
	}
	const delay = 50 * time.Millisecond
	p.Delay(delay)
	begin := time.Now()
	check(t, exchange(conn))
	if passed := time.Since(begin); passed < 2*delay {
		t.Errorf("both ways took %s", passed)
	}
	p.Delay(0)
	p.Stall(true)
	check(t, conn.SetReadDeadline(time.Now().Add(delay)))
	if err := exchange(conn); !os.IsTimeout(err) {
		t.Errorf("error: %v", err)
	}
	p.Stall(false)
	check(t, conn.SetReadDeadline(time.Time{}))
	_, err = io.ReadFull(conn, make([]byte, 1)) // it was only held up
	check(t, err)

	p.Refuse(true)
	if _, err := net.Dial("tcp", p.Addr); err == nil {
		t.Error("it accepts")
	}
	check(t, exchange(conn))
	p.Refuse(false)
	p.Cut()
	if err := exchange(conn); err == nil {
		t.Error("the connection stands")
	}
	again, err := net.Dial("tcp", p.Addr)
	check(t, err)
	defer again.Close()
	check(t, exchange(again))
}

func TestADelayDoesNotLimitTheRate(t *testing.T) {
	p := sshtest.NewProxy(t, echo(t))
	const delay = 500 * time.Millisecond
	p.Delay(delay)
	conn, err := net.Dial("tcp", p.Addr)
	check(t, err)
	defer conn.Close()
	const size = 128 << 20 // more than all buffers of sockets hold
	begin := time.Now()
	go func() { _, _ = conn.Write(make([]byte, size)) }()
	_, err = io.ReadFull(conn, make([]byte, size))
	check(t, err)
	if passed := time.Since(begin); passed > patience(size, delay) {
		t.Errorf("%d bytes took %s", size, passed)
	}
}

func TestARoundTripIsAnAnswerToWhatTheLastOneMayHaveCaused(t *testing.T) {
	p := sshtest.NewProxy(t, echo(t))
	p.Delay(100 * time.Millisecond)
	one, err := net.Dial("tcp", p.Addr)
	check(t, err)
	defer one.Close()
	other, err := net.Dial("tcp", p.Addr)
	check(t, err)
	defer other.Close()
	ask := func(conns ...net.Conn) {
		for _, c := range conns {
			_, err := c.Write([]byte{1})
			check(t, err)
		}
		for _, c := range conns {
			_, err := io.ReadFull(c, make([]byte, 1))
			check(t, err)
		}
	}
	ask(one)
	ask(one, other) // at once
	ask(other)
	if n := p.RoundTrips(); n != 3 {
		t.Errorf("%d round trips", n)
	}
}

// patience is the time that bytes would take if a delay let 1 MiB pass each time.
func patience(size int, delay time.Duration) time.Duration { return time.Duration(size>>20) * delay }

func TestKillEndsTheServerAndItsSessions(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	conn, err := net.Dial("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	check(t, err)
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, len("SSH-2.0-")))
	check(t, err)
	s.Stop()
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("a stopped one accepts")
	}
	s.Kill()
	if _, err := io.ReadAll(conn); os.IsTimeout(err) {
		t.Errorf("error: %v", err)
	}
}

func TestSessionsReadNoFilesOfTheUser(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	argv := []string{"-F", "none", "-p", strconv.Itoa(s.Port)}
	for _, o := range s.Options() {
		argv = append(argv, "-o", o)
	}
	home, err := exec.Command("ssh", append(argv, s.User+"@"+s.Host, `printf %s "$HOME"`)...).CombinedOutput()
	check(t, err)
	if string(home) != s.Dir {
		t.Errorf("HOME is %q", home)
	}
}
