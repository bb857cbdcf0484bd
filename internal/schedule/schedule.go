// Package schedule has the system run this program: by units of systemd and a rule of udev, or by a file of cron. One timer asks
// every 15 minutes for what is due; when that is, the program decides.
//
// Each file begins with a line that tells whose it is, and has a checksum of the rest. Only a file with the right checksum is
// ever replaced or removed: one that was changed, or made by somebody else, is left and named.
package schedule

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// A Setup is what is to be run.
type Setup struct {
	Program string // its path
	Config  string // the path of its configuration; "": the default
	Dir     string // of the units of a user's manager; "": they are the system's
	Disks   []Disk // at whose arrival backups to them are made; not for a user's manager
}

// A Disk is a medium that can be plugged in.
type Disk struct {
	Name string
	UUID string // that udev sees of it; "": not known
	Lack string // how it would become known
}

// A File is one that the system reads.
type File struct {
	Path    string
	Purpose string // in a few words; may be ""
	Content string
}

// The names of the units.
const (
	Timer   = "btrfs-backup.timer"
	Service = "btrfs-backup.service"

	diskService = "btrfs-backup-disk@.service"
)

const (
	systemUnits = "/etc/systemd/system"
	rules       = "/etc/udev/rules.d/90-btrfs-backup.rules"
	crontab     = "/etc/cron.d/btrfs-backup"
)

// Paths are those of all files that a setup may have, whatever it has now.
func (s Setup) Paths() []string {
	units := []string{s.unit(Timer), s.unit(Service)}
	if s.Dir != "" {
		return units
	}
	return append(units, s.unit(diskService), rules, crontab)
}

func (s Setup) unit(name string) string {
	if s.Dir == "" {
		return filepath.Join(systemUnits, name)
	}
	return filepath.Join(s.Dir, name)
}

var (
	// plain are the paths that units and tables of cron hold without quotes.
	plain = regexp.MustCompile(`^/[[:alnum:]/._+-]*$`)
	// nameForm is that of disks whose names units have in theirs, as they are.
	nameForm = regexp.MustCompile(`^[[:alnum:]_][[:alnum:]_.-]*$`)
)

// Units gives the files for systemd and udev.
func (s Setup) Units() []File {
	files := []File{
		{s.unit(Timer), "every 15 minutes, catches up", timer},
		{s.unit(Service), "runs what is due", s.service("Backups that are due", "")},
	}
	var names []string
	var lines strings.Builder
	for _, d := range s.Disks {
		if d.UUID != "" {
			names = append(names, d.Name)
			fmt.Fprintf(&lines, rule, d.UUID, d.Name)
		}
	}
	if s.Dir != "" || len(names) == 0 {
		return files
	}
	return append(files,
		File{s.unit(diskService), "the same, for a disk", s.service("Backups to the disk %i", " --disk %i")},
		File{rules, "starts it for " + strings.Join(names, ", "), lines.String()})
}

const timer = `[Unit]
Description=Backups that are due, every 15 minutes
Documentation=man:btrfs-backup(8)

[Timer]
OnCalendar=*:0/15
Persistent=true
RandomizedDelaySec=2m
AccuracySec=1m

[Install]
WantedBy=timers.target
`

// service is of the type exec: a unit is not started while it is active, and one of the type oneshot would show as activating for
// hours. What gives it mounts of its own is left out, see systemd.exec(5): ProtectClock is, too, as it closes devices.
const service = `[Unit]
Description=%s
Documentation=man:btrfs-backup(8)
%s
[Service]
Type=exec
ExecStart=%s
ExecStopPost=%s
# another run is at work
SuccessExitStatus=75
Nice=10
IOSchedulingClass=idle
# after SIGTERM, hooks clean up and disks are closed
KillMode=mixed
TimeoutStopSec=15m
OOMPolicy=continue
LockPersonality=yes
RestrictRealtime=yes
# Disks that are mounted must be seen by all: no PrivateTmp, ProtectSystem,
# ProtectKernel* or other setting that gives this service mounts of its own.
`

const systemOrder = `Wants=network-online.target
After=network-online.target remote-fs.target
`

func (s Setup) service(description, arguments string) string {
	order := systemOrder
	if s.Dir != "" {
		order = ""
	}
	return fmt.Sprintf(service, description, order, s.run(arguments), s.Program+" hooks finish")
}

// run is the command that runs what is due.
func (s Setup) run(arguments string) string {
	if s.Config != "" {
		arguments += " --config " + s.Config
	}
	return s.Program + " run" + arguments
}

// rule has systemd start a unit: what udev starts itself is killed after seconds.
const rule = `ACTION=="add", SUBSYSTEM=="block", ENV{ID_FS_UUID}=="%s", TAG+="systemd", ENV{SYSTEMD_WANTS}+="btrfs-backup-disk@%s.service"
`

// Cron gives the file for cron.
func (s Setup) Cron() []File {
	return []File{{crontab, "every 15 minutes", fmt.Sprintf(cronLines, s.cronCommand())}}
}

// cronCommand is the command that runs what is due, and is silent when all is well.
func (s Setup) cronCommand() string { return s.run(" --quiet") }

const cronLines = `SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
*/15 * * * * root %s
`
