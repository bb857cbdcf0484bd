package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/schedule"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

type installOptions struct {
	user   bool
	cron   bool
	print  bool
	config string
}

func (o *installOptions) defineUser(f *pflag.FlagSet) {
	f.BoolVar(&o.user, "user", false, "for this user, by his systemd, not for the machine")
}

func newInstall(env environment) *cobra.Command {
	o := &installOptions{}
	c := &cobra.Command{
		Use:   "install [options]",
		Short: "Have the system run what is due",
		Long: `Write a timer and a service of systemd that run what is due, every 15 minutes
("btrfs-backup run"), and start the timer. For each [disk] of the configuration
whose UUID is known, a rule of udev starts "btrfs-backup run --disk NAME" when
it is plugged in; others are named. Without systemd, write a file for cron.
Units that came with a package are used. Files that were changed are left alone,
so the command can be given again, after each change of a [disk].`,
		Example: `  sudo btrfs-backup install
  btrfs-backup install --print               show the files, write none`,
		Args: needNothing,
		RunE: func(c *cobra.Command, _ []string) error { return o.install(c.Context(), env) },
	}
	f := c.Flags()
	o.defineUser(f)
	f.BoolVar(&o.cron, "cron", false, "by cron, also where systemd runs")
	f.BoolVar(&o.print, "print", false, "show the files, write none")
	defineConfig(&o.config, f)
	c.MarkFlagsMutuallyExclusive("user", "cron")
	return c
}

func newUninstall(env environment) *cobra.Command {
	o := &installOptions{}
	c := &cobra.Command{
		Use:   "uninstall [options]",
		Short: "Have the system run nothing any more",
		Long: `Stop the timer, and remove the files that "btrfs-backup install" wrote. Files
that were changed are named and left. Backups, the configuration, this program
and the units of a package stay.`,
		Example: "  sudo btrfs-backup uninstall",
		Args:    needNothing,
		RunE:    func(c *cobra.Command, _ []string) error { return o.uninstall(c.Context(), env) },
	}
	o.defineUser(c.Flags())
	return c
}

func (o *installOptions) install(ctx context.Context, env environment) error {
	i, err := o.installation(env)
	if err != nil {
		return err
	}
	found, err := readConfig(o.config)
	if err != nil { // each run would fail
		return err
	}
	if i.Disks, err = schedule.DisksOf(found.Disks); err != nil {
		return err
	}
	if o.config != "" {
		if i.Config, err = filepath.Abs(o.config); err != nil {
			return err
		}
	}
	if i.Program, err = os.Executable(); err != nil {
		return err
	}
	if i.Program, err = filepath.EvalSymlinks(i.Program); err != nil {
		return err
	}
	if o.print {
		return i.Print(env.stdout)
	}
	return o.change(env, func() error { return i.Install(ctx) })
}

func (o *installOptions) uninstall(ctx context.Context, env environment) error {
	i, err := o.installation(env)
	if err != nil {
		return err
	}
	return o.change(env, func() error { return i.Uninstall(ctx) })
}

// change changes what the system runs.
func (o *installOptions) change(env environment, change func() error) error {
	if !o.user && os.Geteuid() != 0 {
		return hint.New(errors.New("only root changes what the system runs"), "use sudo, or --user")
	}
	err := change()
	if errors.As(err, new(*schedule.LeftError)) {
		complain(env, err)
		return statusError(exitPartly)
	}
	return err
}

func (o *installOptions) installation(env environment) (i schedule.Installation, err error) {
	here := transport.Local{Level: slog.LevelDebug, Log: env.newLog(slog.LevelWarn)}
	i.Cron = o.cron
	i.Manager = schedule.Manager{User: o.user, Run: here.Output}
	i.Tell = func(line string) error {
		_, err := fmt.Fprintln(env.stdout, line)
		return err
	}
	if !o.user {
		return i, nil
	}
	dir, err := os.UserConfigDir()
	i.Dir = filepath.Join(dir, "systemd/user")
	return i, err
}
