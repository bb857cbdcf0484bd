package rsh_test

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/serve"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
)

// testOnlyServe makes a process that runs this test binary an agent.
const testOnlyServe = "BTRFS_BACKUP_TEST_SERVE"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "rsh" { // as cmd does
		os.Exit(rsh.Run(context.Background(), os.Args[3:], os.Stderr))
	}
	if os.Getenv(testOnlyServe) != "" {
		signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
		_ = serve.Run(context.Background(), os.Stdin, os.Stdout, serve.Options{Log: silent, Version: "test"})
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var check = btrfstest.Check

var silent = slog.New(slog.DiscardHandler)

func script(t testing.TB, dir, name, text string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

// oddNames are names of directories that mean something to a shell, or are no text.
var oddNames = []string{
	"plain", " space  s ", "a'b\"c`d", "; exit 1; $HOME * ? ~ #", "line\nbreak", "line\n", "-rf", "not \xff\xfe utf-8", `back\slash`, "${x}$(false)&|",
}
