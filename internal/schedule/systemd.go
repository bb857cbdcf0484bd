package schedule

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// A Manager is a systemd that runs.
type Manager struct {
	User bool // it is the one of a user
	Run  func(ctx context.Context, argv ...string) (output string, err error)
}

// booted tells that systemd runs this machine, see sd_booted(3).
func booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

func (m Manager) argv(words ...string) []string {
	if m.User {
		return append([]string{"systemctl", "--user"}, words...)
	}
	return append([]string{"systemctl"}, words...)
}

// command is a line for a shell that asks the manager.
func (m Manager) command(words ...string) string { return strings.Join(m.argv(words...), " ") }

// enable makes the manager and udev read their files again, and starts the timer.
func (m Manager) enable(ctx context.Context) error {
	if err := m.reload(ctx); err != nil {
		return err
	}
	if _, err := m.Run(ctx, m.argv("enable", "--now", Timer)...); err != nil {
		return hint.New(fmt.Errorf("starting the timer: %w", err), "see what is wrong, then: "+m.command("enable", "--now", Timer))
	}
	return nil
}

// disable stops the timer. A run that goes on ends by itself.
func (m Manager) disable(ctx context.Context) error {
	_, err := m.Run(ctx, m.argv("disable", "--now", Timer)...)
	if err != nil {
		return hint.New(fmt.Errorf("stopping the timer: %w", err), "see what is wrong, then: "+m.command("disable", "--now", Timer))
	}
	return nil
}

func (m Manager) isEnabled(ctx context.Context) bool {
	_, err := m.Run(ctx, m.argv("is-enabled", "--quiet", Timer)...)
	return err == nil
}

// reload makes the manager and udev read their files again.
func (m Manager) reload(ctx context.Context) error {
	if _, err := m.Run(ctx, m.argv("daemon-reload")...); err != nil {
		return hint.New(fmt.Errorf("having systemd read its files again: %w", err), "see what is wrong, then: "+m.command("daemon-reload"))
	}
	if _, err := exec.LookPath("udevadm"); err != nil || m.User {
		return nil // udev is not here, or not asked
	}
	if _, err := m.Run(ctx, "udevadm", "control", "--reload"); err != nil {
		return hint.New(fmt.Errorf("having udev read its rules again: %w", err), "see what is wrong, then: udevadm control --reload")
	}
	return nil
}

// next tells when the timer elapses; "" if that is not known.
func (m Manager) next(ctx context.Context) string {
	out, err := m.Run(ctx, m.argv("show", "--property=NextElapseUSecRealtime", "--value", Timer)...)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}
