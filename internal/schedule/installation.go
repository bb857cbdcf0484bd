package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// An Installation has a setup run by the system.
type Installation struct {
	Setup
	Cron    bool // also where systemd runs
	Manager Manager
	Tell    func(line string) error
}

// byCron tells that there is no systemd, or is not to be used.
func (i Installation) byCron() bool { return i.Cron || i.Dir == "" && !booted() }

// Files are those that Install writes.
func (i Installation) Files() []File {
	if i.byCron() {
		return i.Setup.Cron()
	}
	return i.Units()
}

// Unnoticed has a line for each disk whose arrival starts nothing.
func (i Installation) Unnoticed() (lines []string) {
	for _, d := range i.Disks {
		if d.UUID == "" && i.Dir == "" && !i.byCron() {
			lines = append(lines, fmt.Sprintf("nothing starts when the disk %s is plugged in, since its UUID is not known: %s", d.Name, d.Lack))
		}
	}
	return lines
}

// Install writes the files and starts the timer. The error is a LeftError if all went well but that files of others stay.
func (i Installation) Install(ctx context.Context) error {
	if err := i.prepare(ctx); err != nil {
		return err
	}
	changes, err := write("/", i.Files(), i.Paths())
	if err == nil {
		err = i.tell(changes)
	}
	for _, line := range i.Unnoticed() {
		err = cmp.Or(err, i.Tell(line))
	}
	if err == nil && i.byCron() {
		try := "btrfs-backup run"
		if i.Config != "" {
			try += " --config " + i.Config
		}
		err = i.Tell("Try it now: " + try)
	}
	if err == nil && !i.byCron() {
		err = i.start(ctx, changes)
	}
	return cmp.Or(err, left(changes))
}

// prepare looks at what could go wrong, and stops a timer whose place cron takes.
func (i Installation) prepare(ctx context.Context) error {
	if err := i.Check(os.Geteuid()); err != nil || !i.byCron() {
		return err
	}
	if _, err := os.Stat("/etc/cron.d"); err != nil {
		return hint.New(errors.New("there is neither systemd nor /etc/cron.d"),
			"have what runs commands at times here run: "+i.cronCommand())
	}
	_, err := i.stop(ctx)
	return err
}

// start has systemd use what was written. A timer that is not ours is not touched.
func (i Installation) start(ctx context.Context, changes []Change) error {
	isAnothers := func(c Change) bool { return c.Fate == Left && c.Path == i.unit(Timer) }
	if slices.ContainsFunc(changes, isAnothers) {
		return i.Manager.reload(ctx)
	}
	if err := i.Manager.enable(ctx); err != nil {
		return hint.New(fmt.Errorf("the files are written, but nothing runs: %w", err), hint.Of(err))
	}
	var lines []string
	if next := i.Manager.next(ctx); next != "" {
		lines = append(lines, "next run: "+next)
	}
	journal := "journalctl"
	if i.Manager.User {
		journal += " --user"
		lines = append(lines, "It runs while you are logged in, or always by: loginctl enable-linger")
	}
	lines = append(lines, fmt.Sprintf("Try it now: %s; %s -u btrfs-backup -f", i.Manager.command("start", "btrfs-backup"), journal))
	for _, line := range lines {
		if err := i.Tell(line); err != nil {
			return err
		}
	}
	return nil
}

// Uninstall stops the timer and removes the files, as Install wrote them. Those of a package stay.
func (i Installation) Uninstall(ctx context.Context) error {
	packaged, err := i.stop(ctx)
	if err != nil {
		return err
	}
	changes, err := remove("/", i.Paths())
	if err == nil {
		err = i.tell(changes)
	}
	switch {
	case err != nil:
	case packaged:
		err = i.Tell("stopped " + Timer + ", which is part of a package and stays")
	case len(changes) == 0:
		err = i.Tell("nothing is installed")
	}
	removed := func(c Change) bool { return c.Fate == Removed }
	if err == nil && i.isManaged() && slices.ContainsFunc(changes, removed) {
		err = i.Manager.reload(ctx)
	}
	return cmp.Or(err, left(changes))
}

func (i Installation) isManaged() bool { return i.Manager.User || booted() }

// usesPackage tells that the timer of a package runs.
func (i Installation) usesPackage(ctx context.Context) (bool, error) {
	if i.Dir != "" {
		return false, nil
	}
	for _, path := range []string{i.unit(Timer), packagedPath(i.unit(Timer))} {
		if _, err := os.Stat(path); err == nil {
			return path != i.unit(Timer) && i.Manager.isEnabled(ctx), nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// stop stops a timer that is installed, or that of a package.
func (i Installation) stop(ctx context.Context) (packaged bool, err error) {
	if !i.isManaged() {
		return false, nil
	}
	ours, err := isInstalled("/", i.unit(Timer))
	if err == nil && !ours {
		packaged, err = i.usesPackage(ctx)
	}
	if err != nil || !ours && !packaged {
		return false, err
	}
	return packaged, i.Manager.disable(ctx)
}

func (i Installation) tell(changes []Change) error {
	for _, c := range changes {
		if c.Fate == Left {
			continue // that is an error
		}
		line := string(c.Fate) + " " + c.Path
		if c.Purpose != "" {
			line += " (" + c.Purpose + ")"
		}
		if err := i.Tell(line); err != nil {
			return err
		}
	}
	return nil
}

// LeftError names files that stay as they are.
type LeftError struct{ Paths []string }

func (e *LeftError) Error() string {
	return fmt.Sprintf("changed since they were written, or not ours, and left as they are: %v", e.Paths)
}

// Hint gives the way forward.
func (e *LeftError) Hint() string {
	forward := "remove what nobody needs, and give the command again"
	if slices.ContainsFunc(e.Paths, func(path string) bool { return strings.Contains(path, "/systemd/") }) {
		forward += "; changes of a unit belong into a drop-in: systemctl edit btrfs-backup"
	}
	return forward
}

func left(changes []Change) error {
	var paths []string
	for _, c := range changes {
		if c.Fate == Left {
			paths = append(paths, c.Path)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	return &LeftError{paths}
}
