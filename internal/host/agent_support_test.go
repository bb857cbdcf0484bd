package host_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"os/signal"

	"btrfs-backup/internal/host/agent"
	"btrfs-backup/internal/host/serve"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/sshtest"
	"btrfs-backup/transport/wire"
)

// testOnlyServe makes a process that runs this test binary an agent.
const testOnlyServe = "BTRFS_BACKUP_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(testOnlyServe) != "" {
		signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
		err := serve.Run(context.Background(), os.Stdin, os.Stdout, serve.Options{
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Version: "test", ResumeWindow: time.Minute})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newAgentServer starts an sshd on a machine with an agent.
func newAgentServer(t testing.TB) *sshtest.Server {
	t.Helper()
	bin := t.TempDir()
	self, err := os.Executable()
	check(t, err)
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s'\n", testOnlyServe, self)
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
