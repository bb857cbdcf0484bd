//go:build man

package help

import (
	"slices"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/manual"
)

// configPage is the page of the configuration.
func configPage(keys Keys) string {
	var p page
	p.Macro("TH", "BTRFS-BACKUP.TOML", "5", "", "btrfs-backup", "File formats")
	p.Macro("SH", "NAME")
	p.Text("btrfs-backup.toml - jobs of btrfs-backup, and what surrounds them")
	p.Macro("SH", "SYNOPSIS")
	p.Text("/etc/btrfs-backup/config.toml\n\n/etc/btrfs-backup/conf.d/*.toml\n\n~/.config/btrfs-backup/config.toml\n\n~/.config/btrfs-backup/conf.d/*.toml")
	p.Sections(manual.Config[0])
	options, names := keys()
	options.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(names, f.Name) {
			p.key(f)
		}
	})
	p.Sections(manual.Config[1])
	p.Macro("SH", "EXAMPLES")
	p.Macro("nf")
	p.Lines(manual.ConfigExample)
	p.Macro("fi")
	p.Macro("SH", "SEE ALSO")
	p.Text("btrfs-backup(8), btrfs-backup-run(8), btrfs-backup-config(8), btrfs-backup-status(8), btrfs-backup-install(8)")
	return p.String()
}
