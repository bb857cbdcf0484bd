//go:build man

package main

import (
	"slices"

	"github.com/spf13/pflag"

	"btrfs-backup/internal/job"
	"btrfs-backup/internal/manual"
)

// configPage is the page of the configuration.
func configPage() string {
	var p page
	p.macro("TH", "BTRFS-BACKUP.TOML", "5", "", "btrfs-backup", "File formats")
	p.macro("SH", "NAME")
	p.text("btrfs-backup.toml - jobs of btrfs-backup, and what surrounds them")
	p.macro("SH", "SYNOPSIS")
	p.text("/etc/btrfs-backup/config.toml\n\n/etc/btrfs-backup/conf.d/*.toml\n\n~/.config/btrfs-backup/config.toml\n\n~/.config/btrfs-backup/conf.d/*.toml")
	p.sections(manual.Config[0])
	o := newJobOptions(new(job.Spec)).(jobOptions)
	names := o.Names()
	o.flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(names, f.Name) {
			p.key(f)
		}
	})
	p.sections(manual.Config[1])
	p.macro("SH", "EXAMPLES")
	p.macro("nf")
	p.lines(manual.ConfigExample)
	p.macro("fi")
	p.macro("SH", "SEE ALSO")
	p.text("btrfs-backup(8), btrfs-backup-run(8), btrfs-backup-config(8), btrfs-backup-status(8), btrfs-backup-install(8)")
	return p.String()
}
