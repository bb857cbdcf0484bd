package online

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

func parse(t *testing.T, text string) Check {
	t.Helper()
	c, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	c.patience = time.Hour
	return c
}

var quiet = ssh.Options{Log: slog.New(slog.DiscardHandler)}

func mustBeThere(t *testing.T, text string, o ssh.Options) {
	t.Helper()
	if err := parse(t, text).Probe(t.Context(), o); err != nil {
		t.Error(err)
	}
}

func mustBeAway(t *testing.T, c Check, o ssh.Options, why string) {
	t.Helper()
	err := c.Probe(t.Context(), o)
	if !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), why) || hint.Of(err) == "" {
		t.Errorf("%s: %v (%s), want %s", c, err, hint.Of(err), why)
	}
}

func TestParseRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, good := range []string{"tcp:nas:22", "tcp:[fd00::1]:22", "ping:nas", "ping:fd00::1", "ssh:nas", "ssh:root@nas:2222", "ssh:root@[fd00::1]:22", "ssh:[fd00::1]", "path:/mnt/nas"} {
		if c, err := Parse(good); err != nil || c.String() != good {
			t.Errorf("%s: %v %v", good, c, err)
		}
	}
	for _, bad := range []string{"", "nas", "tcp:nas", "tcp::22", "tcp:nas:0", "tcp:nas:65536", "tcp:nas:ssh", "ping:", "ping:-f", "ssh:", "ssh:-oProxyCommand=x", "ssh:-x@nas",
		"ssh:nas:/backup", "path:", "path:mnt", "http://nas"} {
		if _, err := Parse(bad); err == nil || hint.Of(err) != grammar {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if target, err := sshTarget("me@[fd00::1]:24"); err != nil || target != (ssh.Target{User: "me", Host: "fd00::1", Port: 24}) {
		t.Errorf("%+v %v", target, err)
	}
}

func TestPortIsThereWhenItAccepts(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", sshtest.Port(t))
	mustBeAway(t, parse(t, "tcp:"+address), quiet, "away: connection refused")
	l, err := net.Listen("tcp", address)
	btrfstest.Check(t, err)
	defer l.Close()
	mustBeThere(t, "tcp:"+address, quiet)
}

func TestHostIsThereWhenItReplies(t *testing.T) {
	btrfstest.RequireRoot(t) // an ordinary user may not be allowed to
	mustBeThere(t, "ping:127.0.0.1", quiet)
	mustBeAway(t, parse(t, "ping:host.invalid"), quiet, "host.invalid")
}

func TestHostThatDoesNotReplyIsAwayAndAMissingProgramIsTold(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	err := parse(t, "ping:127.0.0.1").Probe(t.Context(), quiet)
	if err == nil || errors.Is(err, ErrAway) || !strings.Contains(hint.Of(err), "iputils-ping") {
		t.Errorf("%v; %s", err, hint.Of(err))
	}
	btrfstest.WriteProgram(t, filepath.Join(bin, "ping"), "#!/bin/sh\nexit 1\n")
	mustBeAway(t, parse(t, "ping:127.0.0.1"), quiet, "no reply")
	btrfstest.WriteProgram(t, filepath.Join(bin, "ping"), "#!/bin/sh\nexec /bin/sleep 1000000\n")
	c := parse(t, "ping:127.0.0.1")
	c.patience = time.Millisecond
	mustBeAway(t, c, quiet, "no answer within 1ms")
}

func TestServerIsThereEvenIfItRefusesTheLogin(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	o := ssh.Options{Log: quiet.Log, Options: server.Options()}
	mustBeThere(t, "ssh:"+server.Addr(), o)
	o.Options = append([]string{"IdentityFile=" + filepath.Join(t.TempDir(), "none"), "IdentitiesOnly=yes"}, o.Options...)
	mustBeThere(t, "ssh:"+server.Addr(), o)
}

func TestServerThatDoesNotAnswerIsAway(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr())
	o := ssh.Options{Log: quiet.Log, Options: server.Options()}
	mustBeThere(t, "ssh:"+proxy.Addr, o)
	proxy.Stall(true)
	c := parse(t, "ssh:"+proxy.Addr)
	c.patience = 50 * time.Millisecond
	mustBeAway(t, c, o, "no answer within 50ms")
	proxy.Refuse(true)
	mustBeAway(t, parse(t, "ssh:"+proxy.Addr), o, "connection refused")
}

func TestPathIsThereWhenItExists(t *testing.T) {
	dir := t.TempDir()
	mustBeThere(t, "path:"+dir, quiet)
	mustBeAway(t, parse(t, "path:"+dir+"/missing"), quiet, "away: no such file or directory")
	btrfstest.Check(t, os.WriteFile(dir+"/file", nil, 0o644))
	mustBeAway(t, parse(t, "path:"+dir+"/file/below"), quiet, "not a directory")
}

func TestEndOfTheRunIsNotTakenForAbsence(t *testing.T) {
	stop := errors.New("stopped by a signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	for _, text := range []string{"tcp:127.0.0.1:1", "ping:127.0.0.1", "ssh:127.0.0.1:1", "path:/nothing"} {
		if err := parse(t, text).Probe(ctx, quiet); !errors.Is(err, stop) || errors.Is(err, ErrAway) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
