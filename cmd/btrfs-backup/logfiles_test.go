package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
)

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	btrfstest.Check(t, err)
	return string(text)
}

func TestLogFilesHaveTheOutcomeOfAJobAndAllThatLedToIt(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	dir := filepath.Join(t.TempDir(), "log")
	for range 2 {
		env, closeLogs := writtenTo(&b, false).withLogFiles(dir)
		log := env.newLog(slog.LevelWarn)
		log.Debug("a detail")
		log.Warn("a warning\x1b[2J")
		complain(env, hint.New(errors.New("it failed"), "do better"))
		env.files.Outcome("home: failed\nstatus 1")
		closeLogs()
	}
	const date = "2026-03-01 12:00:00 +0000"
	info := date + "  home: failed; status 1\n"
	if got := readFile(t, filepath.Join(dir, "info.log")); got != info+info {
		t.Errorf("info.log:\n%s", got)
	}
	debug := date + "  [DEBUG]  a detail\n" + date + `  [WARNING]  a warning\x1b[2J` + "\n" + date + "  [ERROR]  error: it failed\n" +
		date + "  [ERROR]  hint: do better\n" + date + "  [INFO ]  home: failed; status 1\n"
	if got := readFile(t, filepath.Join(dir, "debug.log")); got != debug+debug {
		t.Errorf("debug.log:\n%s", got)
	}
	if strings.Contains(b.String(), "a detail") || !strings.Contains(b.String(), "12:00:00  [WARNING]  a warning") {
		t.Errorf("on the screen:\n%s", b.String())
	}
}

func TestALogThatCannotBeWrittenIsAWarning(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	env, closeLogs := writtenTo(&b, true).withLogFiles("/dev/null/log")
	defer closeLogs()
	env.newLog(slog.LevelInfo).Info("on with it")
	if want := "<4>nothing is logged to files: mkdir /dev/null: not a directory\n<6>on with it\n"; b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
	full, closeFull := writtenTo(&b, false).withLogFiles(t.TempDir())
	defer closeFull()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	btrfstest.Check(t, err)
	defer f.Close()
	full.files = &terminal.Files{Info: f, Debug: f, Now: full.now}
	b.Reset()
	complain(full, io.EOF)
	full.newLog(slog.LevelInfo).Info("still at it")
	full.files.Outcome("home: done")
	if want := "btrfs-backup: error: EOF\n12:00:00  [INFO ]  still at it\n"; b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}
