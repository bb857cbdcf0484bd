package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/schedule"
	"btrfs-backup/transport"
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
that has a UUID, a rule of udev starts "btrfs-backup run --disk NAME" when it is
plugged in. Without systemd, write a file for cron. Files that were changed are
left alone, so the command can be given again, after each change of a [disk].`,
		Example: `  sudo btrfs-backup install
  btrfs-backup install --print               show the files, write none`,
		Args:                  needNothing,
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, _ []string) error { return o.install(c.Context(), env) },
	}
	f := c.Flags()
	f.SortFlags = false
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
that were changed are named and left. Backups, the configuration and this
program stay.`,
		Example:               "  sudo btrfs-backup uninstall",
		Args:                  needNothing,
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, _ []string) error { return o.uninstall(c.Context(), env) },
	}
	o.defineUser(c.Flags())
	return c
}

// needNothing refuses arguments.
func needNothing(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misused(fmt.Sprintf("%s takes options only, not %q", c.CommandPath(), args[0]), "usage: "+c.UseLine()+"; more with --help")
	}
	return nil
}

func (o *installOptions) install(ctx context.Context, env environment) error {
	setup, err := o.setup()
	if err != nil {
		return err
	}
	byCron := o.cron || !o.user && !schedule.Booted()
	files := setup.Units()
	if byCron {
		files = setup.Cron()
	}
	if o.print {
		return printFiles(env, files)
	}
	manager := o.manager(env)
	if err := o.prepare(ctx, manager, setup, byCron); err != nil {
		return err
	}
	changes, err := schedule.Install("/", files, setup.Paths())
	if err == nil {
		err = printChanges(env, files, changes)
	}
	if err == nil && byCron {
		_, err = fmt.Fprintln(env.stdout, "Try it now: btrfs-backup run")
	}
	if err == nil && !byCron {
		err = o.start(ctx, env, manager, changes[0])
	}
	return cmp.Or(err, tellLeft(env, changes))
}

// prepare looks at what could go wrong, and stops a timer whose place cron takes.
func (o *installOptions) prepare(ctx context.Context, m schedule.Manager, s schedule.Setup, byCron bool) error {
	if err := o.needRoot(); err != nil {
		return err
	}
	if err := s.Check(os.Geteuid()); err != nil || !byCron {
		return err
	}
	if _, err := os.Stat("/etc/cron.d"); err != nil {
		return hint.New(errors.New("there is neither systemd nor /etc/cron.d"),
			"have what runs commands at times here run: "+s.CronCommand())
	}
	if schedule.Booted() {
		return stop(ctx, m, s)
	}
	return nil
}

// start has systemd use what was written. A timer that is not ours is not touched.
func (o *installOptions) start(ctx context.Context, env environment, m schedule.Manager, timer schedule.Change) error {
	if timer.Fate == schedule.Left {
		return m.Reload(ctx)
	}
	if err := m.Enable(ctx); err != nil {
		return hint.New(fmt.Errorf("the files are written, but nothing runs: %w", err), hint.Of(err))
	}
	return o.forecast(ctx, env, m)
}

// forecast tells when the next run is, and how to try it.
func (o *installOptions) forecast(ctx context.Context, env environment, m schedule.Manager) error {
	if next := m.Next(ctx); next != "" {
		fmt.Fprintln(env.stdout, "next run: "+next)
	}
	journal := "journalctl"
	if o.user {
		journal += " --user"
		fmt.Fprintln(env.stdout, "It runs while you are logged in, or always by: loginctl enable-linger")
	}
	_, err := fmt.Fprintf(env.stdout, "Try it now: %s; %s -u btrfs-backup -f\n", m.Command("start", "btrfs-backup"), journal)
	return err
}

func (o *installOptions) uninstall(ctx context.Context, env environment) error {
	setup, err := o.place()
	if err != nil {
		return err
	}
	if err := o.needRoot(); err != nil {
		return err
	}
	manager, managed := o.manager(env), o.user || schedule.Booted()
	if managed {
		if err := stop(ctx, manager, setup); err != nil {
			return err
		}
	}
	changes, err := schedule.Uninstall("/", setup.Paths())
	if err == nil {
		err = printChanges(env, nil, changes)
	}
	if err == nil && len(changes) == 0 {
		_, err = fmt.Fprintln(env.stdout, "nothing is installed")
	}
	removed := func(c schedule.Change) bool { return c.Fate == schedule.Removed }
	if err == nil && managed && slices.ContainsFunc(changes, removed) {
		err = manager.Reload(ctx)
	}
	return cmp.Or(err, tellLeft(env, changes))
}

// stop stops a timer that is installed.
func stop(ctx context.Context, m schedule.Manager, s schedule.Setup) error {
	if ours, err := schedule.IsInstalled("/", s.Paths()[0]); err != nil || !ours {
		return err
	}
	return m.Disable(ctx)
}

// place gives a setup that tells where files are.
func (o *installOptions) place() (s schedule.Setup, err error) {
	if !o.user {
		return s, nil
	}
	dir, err := os.UserConfigDir()
	s.Dir = filepath.Join(dir, "systemd/user")
	return s, err
}

func (o *installOptions) setup() (schedule.Setup, error) {
	s, err := o.place()
	if err != nil {
		return s, err
	}
	if o.config != "" {
		if s.Config, err = filepath.Abs(o.config); err != nil {
			return s, err
		}
	}
	if _, err := readConfig(o.config); err != nil { // each run would fail
		return s, err
	}
	if s.Program, err = os.Executable(); err != nil {
		return s, err
	}
	s.Program, err = filepath.EvalSymlinks(s.Program)
	return s, err
}

func (o *installOptions) needRoot() error {
	if !o.user && os.Geteuid() != 0 {
		return hint.New(errors.New("only root changes what the system runs"), "use sudo, or --user")
	}
	return nil
}

func (o *installOptions) manager(env environment) schedule.Manager {
	here := transport.Local{Level: slog.LevelDebug, Log: env.newLog(slog.LevelWarn)}
	return schedule.Manager{User: o.user, Run: here.Output}
}

func printFiles(env environment, files []schedule.File) error {
	for i, f := range files {
		if i > 0 {
			fmt.Fprintln(env.stdout)
		}
		if _, err := fmt.Fprintf(env.stdout, "# %s\n%s", f.Path, f.Content); err != nil {
			return err
		}
	}
	return nil
}

func printChanges(env environment, files []schedule.File, changes []schedule.Change) error {
	for i, c := range changes {
		line := string(c.Fate) + " " + c.Path
		if i < len(files) && files[i].Purpose != "" {
			line += " (" + files[i].Purpose + ")"
		}
		if c.Fate == schedule.Left {
			continue // that is told as an error
		}
		if _, err := fmt.Fprintln(env.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// tellLeft tells which files were left as they are.
func tellLeft(env environment, changes []schedule.Change) error {
	var errs []error
	for _, c := range changes {
		if c.Fate == schedule.Left {
			errs = append(errs, hint.New(fmt.Errorf("%s was changed, or is not ours: it stays as it is", c.Path),
				"remove it if nobody needs it, and give the command again; changes of a unit belong into a drop-in: systemctl edit btrfs-backup"))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	complain(env, errs...)
	return outcomeError{engine.Partly}
}
