package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/draft"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func newConfigInit(env environment) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "init [options]",
		Short:   "Ask a few questions, and write a first configuration",
		Example: "  sudo btrfs-backup config init",
		Long: `Look at the btrfs filesystems that are mounted, ask what to back up, where to,
how often, and how long to keep it, and write a configuration with comments.
Enter takes the proposal in brackets. A file that exists is never overwritten.`,
		Args: needNothing,
		RunE: func(c *cobra.Command, _ []string) error { return initConfig(c.Context(), env, file) },
	}
	c.Flags().StringVarP(&file, "output", "o", "", "write `FILE` in place of "+config.SystemFile)
	return c
}

func initConfig(ctx context.Context, env environment, file string) error {
	file = cmp.Or(file, config.DefaultFile())
	ask := env.ask()
	if ask == nil {
		return hint.New(errors.New("config init asks questions, and there is no terminal"), "btrfs-backup.toml(5) shows what to write")
	}
	if _, err := os.Lstat(file); err == nil {
		return hint.Newf(fmt.Errorf("%s exists", file), "edit it, or write another one: btrfs-backup config init -o FILE")
	}
	found, err := draft.Look()
	if err != nil {
		return err
	}
	dialog := draft.Dialog{
		Ask:      func(ctx context.Context, question string) (string, error) { return ask(ctx, question, false) },
		Tell:     func(line string) { fmt.Fprintln(env.stderr, line) },
		Complain: func(err error) { complain(env, err) },
	}
	choice, err := dialog.Choose(ctx, found)
	if errors.Is(err, io.EOF) {
		return errors.New("a question was not answered: nothing was written")
	}
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		choice.Log = "/var/log/btrfs-backup"
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := draft.Write(file, choice.Text()); err != nil {
		return err
	}
	if _, err := readConfig(file); err != nil {
		return err
	}
	given, user := "", ""
	if file != config.DefaultFile() {
		given = " --config " + file
	} else if file != config.SystemFile {
		user = " --user"
	}
	_, err = fmt.Fprintf(env.stdout, "wrote %s\nsee what it would do:  btrfs-backup run --dry-run%s\nhave it done:          btrfs-backup install%s%s\n", file, given, user, given)
	return err
}
