package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"os/signal"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/agent"
	"github.com/btrfs-backup/btrfs-backup/internal/host/serve"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

const (
	testOnlyServe  = "BTRFS_BACKUP_TEST_SERVE"  // makes a process that runs this test binary an agent
	testOnlyLimit  = "BTRFS_BACKUP_TEST_LIMIT"  // names the folder in which the agent may only add; "": it may do anything
	testOnlyStream = "BTRFS_BACKUP_TEST_STREAM" // names a file that it sends in the place of every stream; "": none
)

func TestMain(m *testing.M) {
	if os.Getenv(testOnlyServe) != "" {
		if file := os.Getenv(testOnlyStream); file != "" {
			failpoint.OnStream(func(r io.Reader) io.Reader { return instead(r, file) })
		}
		signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
		var limits serve.Limits
		if root := os.Getenv(testOnlyLimit); root != "" {
			limits = serve.Limits{Root: root, AppendOnly: true, ReceiveOnly: true}
		}
		err := serve.Run(context.Background(), os.Stdin, os.Stdout, serve.Options{
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Version: "test", ResumeWindow: time.Minute, Limits: limits})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// instead gives the content of a file when a stream has come to its end.
func instead(r io.Reader, file string) io.Reader {
	content, err := os.ReadFile(file)
	if _, copyErr := io.Copy(io.Discard, r); err != nil || copyErr != nil {
		panic(errors.Join(err, copyErr))
	}
	return bytes.NewReader(content)
}

// newAgentServer starts an sshd on a machine with an agent.
func newAgentServer(t testing.TB) *sshtest.Server {
	t.Helper()
	bin := t.TempDir()
	self, err := os.Executable()
	check(t, err)
	script := fmt.Sprintf("#!/bin/sh\n%s=1 %s='%s' %s='%s' exec '%s'\n", testOnlyServe, testOnlyLimit, os.Getenv(testOnlyLimit), testOnlyStream,
		os.Getenv(testOnlyStream), self)
	check(t, os.WriteFile(filepath.Join(bin, "btrfs-backup"), []byte(script), 0o755))
	return sshtest.Start(t, sshtest.Options{Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir()}})
}

// newAgent reaches this machine through the agent at the far end of a real sshd.
func newAgent(t testing.TB) *agent.Host {
	t.Helper()
	server := newAgentServer(t)
	target := ssh.Target{User: server.User, Host: server.Host, Port: server.Port}
	machine := ssh.New(target, ssh.Options{Options: server.Options(), Log: silent})
	a := agent.New(machine, agent.Options{
		Log: silent, Version: "test", Channels: 2, Compression: wire.Auto, ResumeWindow: time.Minute})
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func script(t testing.TB, dir, name, text string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}
