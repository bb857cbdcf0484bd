package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

type keyRewrapOptions struct {
	readingOptions
	dryRun bool
	reach  job.Reach
}

func newKeyRewrap(env environment) *cobra.Command {
	o := &keyRewrapOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "rewrap --identity FILE [options] STORE[/SOURCE[/BACKUP]]",
		Short: "Let other secret keys read what is stored already",
		Example: "  btrfs-backup key rewrap -i old.key --dry-run s3://BUCKET/PREFIX\n" +
			"  sudo btrfs-backup key rewrap -i /media/stick/old.key s3://BUCKET/PREFIX",
		Long: `Store each backup once more for the public keys in
` + seal.RecipientsFile + `, and delete what was there, which the secret
key in FILE reads. All of it is read and stored again, part by part; only what
wraps its keys changes. What is done stays done: after an end, run it again.

Run it on the machine that makes the backups, with credentials that may read and
delete. What is locked cannot be deleted yet, so old keys read it until then.
Whoever has an old key and a copy of what it reads can read that copy for ever.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.rewrap(c.Context(), env, args) },
	}
	f := c.Flags()
	defineIdentities(&o.identities, f)
	o.defineReading(f)
	defineRecipients(&o.stores.Recipients, f)
	f.BoolVar(&o.stores.OneRecipient, "one-recipient", false, "let a single key be enough")
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what it would take, and do nothing")
	help.Grouped(f, help.FurtherTitle, func(f *pflag.FlagSet) {
		defineReach(&o.reach, f)
		defineFurtherReach(&o.reach, f)
	})
	return c
}

func (o *keyRewrapOptions) rewrap(ctx context.Context, env environment, args []string) error {
	if len(o.identities) == 0 {
		return misused("--identity is missing: which secret key reads the backups until now?", "-i FILE, or -i - to type one")
	}
	places, machines, err := lookAtAll(env, env.newLog(slog.LevelInfo), o.reach, o.readingOptions, "", args)
	if err != nil {
		return err
	}
	defer machines.Close()
	return machines.Rewrap(ctx, places[0], o.stores, o.dryRun, func(line string) { fmt.Fprintln(env.stdout, line) })
}
