package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/progress"
)

// environment is what the program takes from outside. What is written to its streams upsets no terminal.
type environment struct {
	stdout   io.Writer
	stderr   io.Writer
	data     io.Writer // standard output for other programs, to which bytes are written as they are
	terminal *os.File  // what bars are drawn on; nil without a terminal
	journal  bool      // standard error goes to systemd's journal
	now      func() time.Time
	files    *logFiles // nil without a configuration that names them
	runtime  string    // the directory of what runs keep on this machine until it stops
}

// newEnvironment gives the environment of this process.
func newEnvironment() environment {
	env := environment{stdout: progress.Printable(os.Stdout), stderr: progress.Printable(os.Stderr), data: os.Stdout, now: time.Now,
		runtime: runtimeDir()}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		env.data = env.stdout
	}
	env.journal = isJournal(os.Stderr, os.Getenv("JOURNAL_STREAM"))
	if term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb" {
		env.terminal = os.Stderr
	}
	os.Setenv("PATH", usablePath(os.Getenv("PATH")))
	if zone := os.Getenv("TZ"); zone != "" && zone != "UTC" && time.Local.String() == "UTC" { // Go knows no such file
		if location, err := posixZone(strings.TrimPrefix(zone, ":")); err == nil {
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
	return machineState()
}

// isJournal tells whether a file is the one that systemd names, by device and inode: see systemd.exec(5).
func isJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	return stream != "" && unix.Fstat(int(f.Fd()), &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// usablePath adds to a PATH where some distributions keep btrfs, which that of cron lacks. Without one it is the usual one. An
// empty element, which stands for the working directory, is left out.
func usablePath(path string) string {
	dirs := slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool { return dir == "" })
	if len(dirs) == 0 {
		dirs = []string{"/usr/local/bin", "/usr/bin", "/bin"}
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// posixZone understands a time zone such as CET-1CEST,M3.5.0,M10.5.0/3. Go does so only at the end of a file of zones: see RFC
// 8536. What it does not understand is UTC, as it is for date(1).
func posixZone(rule string) (*time.Location, error) {
	const (
		header = "TZif2" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		counts = "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x01" + "\x00\x00\x00\x04"
		utc    = "\x00\x00\x00\x00" + "\x00\x00" + "UTC\x00"
		block  = header + counts + utc
	)
	return time.LoadLocationFromTZData("Local", []byte(block+block+"\n"+rule+"\n"))
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
