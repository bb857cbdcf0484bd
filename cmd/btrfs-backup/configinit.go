package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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
	ask := env.ask()
	if ask == nil {
		return hint.New(errors.New("config init asks questions, and there is no terminal"), "btrfs-backup.toml(5) shows what to write")
	}
	dialog := draft.Dialog{
		Ask:      func(ctx context.Context, question string) (string, error) { return ask(ctx, question, false) },
		Tell:     func(line string) { fmt.Fprintln(env.stderr, line) },
		Complain: func(err error) { complain(env, err) },
	}
	at := draft.At{File: cmp.Or(file, config.DefaultFile()), Default: config.DefaultFile(), System: config.SystemFile}
	next, err := dialog.Init(ctx, at, func(file string) error {
		_, err := readConfig(file)
		return err
	})
	if err == nil {
		_, err = fmt.Fprint(env.stdout, next)
	}
	return err
}
