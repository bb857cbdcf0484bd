package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/keys"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

func newKey(env environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "key COMMAND",
		Short: "Make, try and show the keys of encrypted backups",
		Example: "  sudo btrfs-backup key new -o /media/stick/btrfs-backup.key\n" +
			"  btrfs-backup key test -i -    type the paper key, to try it",
		Long: `Backups in a store are encrypted for the public keys in
` + seal.RecipientsFile + `. Each is read with one of the secret keys:
if all of them are lost, the backups are lost, and nobody can help. A machine
that makes backups needs no secret key, and should have none.`,
	}
	c.AddCommand(newKeyNew(env), newKeyTest(env), newKeyList(env), newKeyRewrap(env))
	return c
}

func newKeyNew(env environment) *cobra.Command {
	var r keys.Request
	c := &cobra.Command{
		Use:   "new --output FILE [options]",
		Short: "Make a daily key, and a paper key for the worst day",
		Example: "  sudo btrfs-backup key new -o /media/stick/btrfs-backup.key\n" +
			"  sudo btrfs-backup key new --add    one more paper key",
		Long: `Make two keys, each of which reads all backups that are made from now on: the
daily key, whose secret half is written to FILE, and the paper key, which is
shown once, to be copied by hand. You type back its last group; until then
nothing is written. Their public halves go to ` + seal.RecipientsFile + `.

Let FILE be on a USB stick, or bring it to another machine: whoever steals this
one must not find it here. If both keys are lost, the backups are lost. Nobody
can help. A file that exists is never replaced.`,
		Args: needNothing,
		RunE: func(c *cobra.Command, _ []string) error {
			if r.Output == "" && (!r.Add || r.One) {
				return misused("--output is missing: where is the secret key to be?",
					"on a USB stick, not on a disk of this machine: --output /media/stick/btrfs-backup.key")
			}
			if r.One && r.Paper != "" {
				return misused("--one-recipient makes no paper key, so there is none for --paper", "leave out one of them")
			}
			return env.conversation().New(c.Context(), r)
		},
	}
	f := c.Flags()
	f.StringVarP(&r.Output, "output", "o", "", "write the daily key to `FILE`, which is not there yet")
	f.BoolVar(&r.Add, "add", false, "add to public keys; without --output, a paper key")
	f.BoolVar(&r.One, "one-recipient", false, "make no paper key: losing FILE is losing the backups")
	f.StringVar(&r.Paper, "paper", "", "write the paper key to `FILE`, in place of showing it")
	defineRecipients(&r.Recipients, f)
	return c
}

type keyTestOptions struct {
	recipients string
	identities []string
	stores     job.Stores
	reach      job.Reach
}

func newKeyTest(env environment) *cobra.Command {
	o := &keyTestOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "test --identity FILE [options] [STORE]",
		Short: "Try whether a secret key reads what is encrypted",
		Example: "  btrfs-backup key test -i /media/stick/btrfs-backup.key\n" +
			"  btrfs-backup key test -i - s3://BUCKET/PREFIX    type the paper key",
		Long: `Read what STORE has for trying keys, and tell whose the secret key is. Without
STORE, encrypt something for the public keys in
` + seal.RecipientsFile + `, and read that. FILE is one of age, with a
passphrase or without, or a private key of SSH; - asks for a key, or reads it
from standard input.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.test(c.Context(), env, args) },
	}
	f := c.Flags()
	defineIdentities(&o.identities, f)
	defineRecipients(&o.recipients, f)
	defineCredentials(&o.stores, f)
	help.Grouped(f, help.FurtherTitle, func(f *pflag.FlagSet) {
		defineReach(&o.reach, f)
		defineFurtherReach(&o.reach, f)
	})
	return c
}

func (o *keyTestOptions) test(ctx context.Context, env environment, args []string) error {
	if len(o.identities) == 0 {
		return misused("--identity is missing: which secret key is to be tried?", "-i FILE, or -i - to type one")
	}
	log := env.newLog(slog.LevelWarn)
	places, machines, err := lookAtAll(env, log, o.reach, readingOptions{stores: o.stores}, "", args)
	if err != nil {
		return err
	}
	defer machines.Close()
	for _, p := range places {
		if _, isStore := p.(job.Store); !isStore {
			return misused(p.String()+" is no store: only what is in a store is encrypted", "s3://BUCKET/PREFIX, store:/FOLDER or store+ssh://HOST/FOLDER")
		}
	}
	ids, err := env.prompt().ReadIdentities(ctx, o.identities...)
	if err != nil {
		return err
	}
	if len(places) == 0 {
		return env.conversation().Test(o.recipients, ids)
	}
	canary, err := machines.Canary(ctx, places[0].(job.Store))
	if err != nil {
		return err
	}
	return env.conversation().TestIn(args[0], canary, ids)
}

func newKeyList(env environment) *cobra.Command {
	var recipients string
	c := &cobra.Command{
		Use:     "list [options]",
		Short:   "Show the public keys that backups are encrypted for",
		Example: "  btrfs-backup key list",
		Long: `Show the public keys in ` + seal.RecipientsFile + `, for which backups of
this machine are encrypted, and the keys whose signatures count here: that of
this machine, and those in /var/lib/btrfs-backup/signers.`,
		Args: needNothing,
		RunE: func(*cobra.Command, []string) error { return env.conversation().List(recipients, lock.StateDir()) },
	}
	defineRecipients(&recipients, c.Flags())
	return c
}

// defineRecipients defines for which keys is encrypted.
func defineRecipients(file *string, f *pflag.FlagSet) {
	f.StringVar(file, "recipients", seal.RecipientsFile, "take the public keys in `FILE`")
	f.Lookup("recipients").DefValue = "" // the text of the commands has it
}

// defineIdentities defines which secret keys are read.
func defineIdentities(files *[]string, f *pflag.FlagSet) {
	f.StringArrayVarP(files, "identity", "i", nil, "`FILE` of a secret key; - types one")
}

func (e environment) conversation() keys.Conversation {
	return keys.Conversation{Ask: e.ask(), Show: terminal.Show, Now: e.now, Tell: func(line string) { fmt.Fprintln(e.stdout, line) }}
}

// prompt gives how secret keys get in.
func (e environment) prompt() seal.Prompt {
	p := seal.Prompt{Ask: e.ask()}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		p.Input = os.Stdin
	}
	return p
}
