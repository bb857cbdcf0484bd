package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// defineStores defines how stores are used as destinations.
func defineStores(s *job.Stores, f *pflag.FlagSet) {
	f.StringVar(&s.Recipients, "recipients", "", "encrypt for the public keys in `FILE`")
	f.BoolVar(&s.OneRecipient, "one-recipient", false, "let a single key be enough")
	f.Var((*arguments.Size)(&s.PartSize), "part-size", "store parts of `SIZE`, such as 64M; 16M")
	f.Var(arguments.Time{Of: &s.MaxParentAge, Least: time.Hour}, "max-parent-age", "build on nothing older than `TIME`; 400d")
	f.StringVar((*string)(&s.Lock), "object-lock", "", "lock by `MODE`: governance or compliance")
	f.StringVar(&s.Classes, "storage-class", "", "`UNIT=CLASS` of the first of a year (y), ...")
	f.BoolVar(&s.HideNames, "hide-names", false, "let names in stores tell nothing of sources")
	defineCredentials(s, f)
}

// newStoresTopic explains the options that the main help leaves out.
func newStoresTopic() *cobra.Command {
	c := &cobra.Command{
		Use:         "stores",
		Short:       "Keep encrypted backups where nobody is trusted",
		Annotations: map[string]string{help.UsageAnnotation: "btrfs-backup [options] SOURCE DEST..."},
		Example: `  btrfs-backup key new -o /media/stick/btrfs-backup.key      first of all
  btrfs-backup /home store:/mnt/nas/laptop                   a folder
  btrfs-backup /home store+ssh://me@friend/srv/laptop        by SSH
  btrfs-backup --credentials s3.key /home s3://nas.example:9000/bucket/laptop
  btrfs-backup restore -i /media/stick/btrfs-backup.key STORE /mnt/new/home`,
		Long: `A DEST that is a store gets what "btrfs send" gives, encrypted for the public
keys in /etc/btrfs-backup/recipients before it leaves. Reading it takes one of
the secret keys, which this machine should not have. s3://BUCKET/PREFIX is at
AWS, s3://HOST[:PORT]/BUCKET/PREFIX at another server; the bucket must be there.
"list STORE" shows the sources in a store, "list STORE/SOURCE" the backups.
Backups that rsync made are sent on from a btrfs: --relay.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused("stores is not a command", "use: btrfs-backup SOURCE store:/FOLDER")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	defineStores(new(job.Stores), c.Flags())
	return c
}

// defineCredentials defines how servers are reached.
func defineCredentials(s *job.Stores, f *pflag.FlagSet) {
	f.StringVar(&s.Credentials, "credentials", "", "`FILE` with the key of a server")
	f.StringVar(&s.CredentialsCommand, "credentials-command", "", "`CMD` prints it, in a shell")
}

// readingOptions tell how stores are looked at.
type readingOptions struct {
	stores     job.Stores
	signers    []string
	identities []string
}

func (o *readingOptions) defineReading(f *pflag.FlagSet) {
	defineCredentials(&o.stores, f)
	f.StringArrayVar(&o.signers, "signer", nil, "let signatures of public `KEY` count")
}

// reading tells how places are looked at. Where nothing is given, stores are reached as the job in the configuration does that has them.
func (o *readingOptions) reading(env environment, config string, places []job.Place) job.Reading {
	r := job.Reading{Stores: o.stores, Signers: o.signers, Of: make(map[string]job.Stores)}
	for _, p := range places {
		if s, ok := p.(job.Store); ok {
			if found, err := lookInto(config); err == nil { // who uses it tells what is wrong with it
				found.ReadStore(s, &r)
			}
		}
	}
	if len(o.identities) > 0 {
		r.Identities = func(ctx context.Context) (seal.Identities, error) {
			return env.prompt().ReadIdentities(ctx, o.identities...)
		}
	}
	return r
}
