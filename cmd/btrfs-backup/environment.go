package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/process"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// environment is what the program takes from outside. What is written to its streams upsets no terminal.
type environment struct {
	stdout   io.Writer
	stderr   io.Writer
	data     io.Writer // standard output for other programs, to which bytes are written as they are
	terminal *os.File  // what bars are drawn on; nil without a terminal
	journal  bool      // standard error goes to systemd's journal
	now      func() time.Time
	files    *terminal.Files // nil without a configuration that names them
	runtime  string          // the directory of what runs keep on this machine until it stops
}

// newEnvironment gives the environment of this process.
func newEnvironment() environment {
	env := environment{stdout: progress.Printable(os.Stdout), stderr: progress.Printable(os.Stderr), data: os.Stdout, now: time.Now,
		runtime: runtimeDir()}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		env.data = env.stdout
	}
	env.journal = process.IsJournal(os.Stderr, os.Getenv("JOURNAL_STREAM"))
	if term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb" {
		env.terminal = os.Stderr
	}
	os.Setenv("PATH", process.UsablePath(os.Getenv("PATH")))
	if zone := os.Getenv("TZ"); zone != "" && zone != "UTC" && time.Local.String() == "UTC" { // Go knows no such file
		if location, err := process.POSIXZone(strings.TrimPrefix(zone, ":")); err == nil {
			time.Local = location
		}
	}
	return env
}

// runtimeDir is the same for all runs of a user: $XDG_RUNTIME_DIR does not count for root, who may have one or not.
func runtimeDir() string {
	if os.Geteuid() == 0 {
		return "/run/btrfs-backup"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "btrfs-backup")
	}
	return lock.StateDir()
}

// needProc refuses to begin without /proc, by which folders that are open are named.
func needProc(*cobra.Command, []string) error {
	_, err := os.Stat("/proc/self/fd")
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(errors.New("/proc is not mounted"), "mount it: mount -t proc proc /proc")
	}
	return err
}

// withBars gives a display of what takes long, and the environment whose output makes way for it.
func (e environment) withBars() (environment, *progress.Display) {
	if e.terminal == nil {
		return e, progress.Silent()
	}
	display := progress.NewBars(e.terminal)
	e.stdout, e.stderr = display.Writer(e.stdout), display.Writer(e.stderr)
	return e, display
}
