package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// sshOptions are those that let a client into a server. The user's own files and agent are kept out.
func sshOptions(t testing.TB, server *sshtest.Server, more ...string) ssh.Options {
	t.Helper()
	return ssh.Options{
		Options:    append(append(more, server.Options()...), "IdentityAgent=none"), // the first value counts
		ConfigFile: writeFile(t, ""),
		Log:        slog.New(slog.DiscardHandler),
	}
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// newSSH makes a client for a port of this machine.
func newSSH(t testing.TB, server *sshtest.Server, port int, o ssh.Options) *ssh.Machine {
	t.Helper()
	s := ssh.New(ssh.Target{Host: server.Host, Port: port, User: server.User}, o)
	t.Cleanup(func() { s.Close() })
	return s
}

func connectTo(t testing.TB, server *sshtest.Server, more ...string) *ssh.Machine {
	t.Helper()
	return newSSH(t, server, server.Port, sshOptions(t, server, more...))
}

// output runs a line and gives what it writes.
func output(t testing.TB, s *ssh.Machine, line string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	session, err := s.Session(ctx, line)
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(session.Stdout)
	return string(out), errors.Join(err, session.Wait())
}

func checkOutput(t testing.TB, s *ssh.Machine, line, want string) {
	t.Helper()
	if got, err := output(t, s, line); got != want || err != nil {
		t.Errorf("%s: %q, %v, want %q", line, got, err, want)
	}
}

// checkRefused checks an error that is neither of the two that are worth another try.
func checkRefused(t testing.TB, err error, parts ...string) {
	t.Helper()
	if errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrDisconnected) {
		t.Errorf("it is told to be worth another try: %v", err)
	}
	checkTells(t, err, parts...)
}

// checkTells checks that an error and its hint hold all parts.
func checkTells(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	var hinted interface{ Hint() string }
	text := err.Error()
	if errors.As(err, &hinted) {
		text += "\nhint: " + hinted.Hint()
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the error does not tell %q: %s", part, text)
		}
	}
}

func TestASessionConnectsTheStreamsOfACommand(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	session, err := s.Session(t.Context(), "cat; echo end")
	check(t, err)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, err := session.Stdin.Write(sent)
		if err := errors.Join(err, session.Stdin.Close()); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(session.Stdout)
	check(t, errors.Join(err, session.Wait()))
	if want := string(sent) + "end\n"; string(got) != want {
		t.Errorf("%d bytes came back, want %d", len(got), len(want))
	}
}

func TestASessionTellsHowACommandFailed(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	log := &recorder{keep: 100}
	o := sshOptions(t, server)
	o.Log, o.Level = slog.New(log), slog.LevelWarn
	s := newSSH(t, server, server.Port, o)

	_, err := output(t, s, "btrfs frob 2>/dev/null; printf 'one\\ntwo' >&2; exit 7")
	var exit *transport.ExitError
	if !errors.As(err, &exit) || exit.Program != "btrfs frob" || exit.State != "exit status 7" || exit.Stderr != "one; two" || exit.Killed() {
		t.Errorf("error: %#v", err)
	}
	if i := slices.Index(log.lines, "btrfs frob: two"); i < 0 || log.levels[i] != slog.LevelWarn {
		t.Errorf("logged %q", log.lines)
	}
	if _, err := output(t, s, "kill -9 $$"); !errors.As(err, &exit) || !exit.Killed() {
		t.Errorf("error: %v", err)
	}
}

func TestTheShellsOfServersReadQuotedArgumentsBack(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash", "busybox sh"} {
		server := sshtest.Start(t, sshtest.Options{Shell: shell})
		argv := []string{"", "two words", "'$HOME'", "`id`", "*", "~", "a\nb", "\xff", `\`, ";", "-n"}
		checkOutput(t, connectTo(t, server), transport.Quote(append([]string{"printf", `%s\0`}, argv...)...),
			strings.Join(argv, "\x00")+"\x00")
	}
}

func TestSessionsShareAConnection(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	s := connectTo(t, server)
	var wait sync.WaitGroup
	for i := range 8 { // at once, the first ones too
		wait.Go(func() { checkOutput(t, s, fmt.Sprintf("echo %d", i), fmt.Sprintf("%d\n", i)) })
	}
	wait.Wait()
	checkOutput(t, s, "echo later", "later\n")
	if n := strings.Count(server.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestMoreSessionsThanAServerAllowsTakeMoreConnections(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"MaxSessions 2"}})
	s := connectTo(t, server)
	var wait sync.WaitGroup
	sessions := make([]*transport.Session, 10)
	for i := range sessions {
		wait.Go(func() {
			session, err := s.Session(t.Context(), "echo ready; cat")
			if err != nil {
				t.Error(err)
				return
			}
			sessions[i] = session
		})
	}
	wait.Wait()
	for _, session := range sessions { // all run at the same time
		if session == nil {
			t.FailNow()
		}
		if _, err := io.ReadFull(session.Stdout, make([]byte, len("ready\n"))); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(server.Log(), "Accepted publickey"); n != 5 {
		t.Errorf("%d connections, want 5", n)
	}
	for _, session := range sessions {
		check(t, errors.Join(session.Stdin.Close(), session.Wait()))
	}
	checkOutput(t, s, "echo again", "again\n")
	if n := strings.Count(server.Log(), "Accepted publickey"); n != 5 {
		t.Errorf("%d connections, though the sessions have ended", n)
	}
}

func TestAServerThatTakesNoSessionIsAnError(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"MaxSessions 0"}})
	_, err := output(t, connectTo(t, server), "true")
	checkRefused(t, err, "opening a session on")
}

func TestAConnectionOutlivesTheExchangeOfKeys(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Config: []string{"RekeyLimit 1M"}})
	known := filepath.Join(t.TempDir(), "known")
	asked := 0
	o := sshOptions(t, server, "UserKnownHostsFile="+known, "StrictHostKeyChecking=ask")
	o.Ask = func(context.Context, string, bool) (string, error) { asked++; return "yes", nil }
	s := newSSH(t, server, server.Port, o)
	if got, err := output(t, s, "head -c 8000000 /dev/zero"); len(got) != 8000000 || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestTargetsAreWrittenAsTheyAreTyped(t *testing.T) {
	t.Parallel()
	for want, target := range map[string]ssh.Target{
		"nas":               {Host: "nas"},
		"me@nas:2222":       {User: "me", Host: "nas", Port: 2222},
		"[fe80::1]":         {Host: "fe80::1"},
		"me@[fe80::1]:2222": {User: "me", Host: "fe80::1", Port: 2222},
	} {
		if got := target.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
