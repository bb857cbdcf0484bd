//go:build man

package main

// manSection is a part of a man page that help does not show.
type manSection struct {
	macro string // SH, which is the default, or SS
	title string
	text  string
	items [][2]string
}

type manExtra struct {
	description []manSection // below the description
	sections    []manSection // between options and examples
	examples    string       // below those of the help
	seeAlso     string
}

// manSections gives what the pages of commands have beyond their help.
var manSections = map[string]manExtra{
	"btrfs-backup": {
		description: []manSection{
			{macro: "SS", title: "Snapshots", text: `
The snapshots are read-only and are named PREFIXYYYYMMDD-HHMMSS, by local time. The snapshot of a
subvolume does not hold the subvolumes in it: each of them needs a backup of its own, and the log
names them.`},
			{macro: "SS", title: "Backups", text: `
Every DEST is sent what it lacks, as an increment to the newest snapshot that both sides hold, and as
a complete copy where there is none. Which backup is the copy of which snapshot is decided by their
UUIDs, whatever their names are, so snapshots and backups that were made by other means count too. A
backup gets its name only when it is complete, verified and on disk.

The destinations are served side by side. One that fails stops neither the snapshot nor the others;
what it lacks is sent the next time.`},
			{macro: "SS", title: "Retention", text: `
With --num-snapshots and --num-backups the oldest are deleted at the end of a run, on each side only
when everything was saved to it. Never deleted are the newest snapshot, those that a destination still
needs as the parent of its next increment, also one that is away today, and what has another name than
PREFIXYYYYMMDD-HHMMSS. --dry-run tells the verdict on each snapshot, and the reason.`},
			{macro: "SS", title: "Places", text: `
PATH is of this machine. ssh://[USER@]HOST[:PORT]/PATH and [USER@]HOST:/PATH are of another one; an
IPv6 address stands in brackets. The path is absolute, and no character in it is special: neither ~,
%, ? nor #. A path of this machine that has a colon in it can be written ./PATH.

Source and destination may both be on other machines; the stream then passes through this one. The
text of a destination is the name under which it is remembered: use the same one each time.`},
			{macro: "SS", title: "Other machines", text: `
A machine is reached as ssh(1) would reach it: with the configuration that "ssh -G" tells (aliases,
users, ports, key files, jump hosts), the keys of the agent and those in files, and the host keys in
known_hosts. Where ssh_config(5) asks for what the built-in client lacks (a ProxyCommand, PKCS#11, a
KnownHostsCommand), or --ssh-program is given, that program is run instead. It cannot ask questions.
An unknown host key is asked about on a terminal, and refused elsewhere.

If btrfs-backup is installed there, in PATH or as --remote-command tells, it is started as "btrfs-backup
serve" and does the work of that side. If not, a POSIX shell, the usual commands and btrfs-progs do;
without compression, without --channels, and a transfer that breaks begins again. Root is needed there
to send, to receive and to delete: log in as root, or use --ssh-sudo, which runs "sudo -n".`},
			{macro: "SS", title: "Broken transfers", text: `
When a connection breaks, its machine is tried again for the time of --resume-window, and the transfer
goes on where it was. The far side keeps what it has for the same time, unless its btrfs-backup-serve(8)
sets a shorter one. So a run that was ended, by Ctrl-C or by kill, is
continued by the next one that is started in time. What was being received on this machine is not kept
when the run ends. After the time, what is unfinished is deleted, and the snapshot is
sent again from its beginning.`},
			{macro: "SS", title: "Slow networks", text: `
--compress auto compresses each part of a stream if that makes it arrive sooner; zstd always, none never.
--channels N carries a stream by as many SSH sessions, N - 1 of them from 250 milliseconds on.
--rate-limit is for each DEST, and counts bytes on the network, or of the stream where there is no network; K, M, G and T stand
for powers of 1024.`},
			{macro: "SS", title: "Commands as destinations", text: `
With shell://COMMAND, "sh -c COMMAND" is run for each snapshot, with the send stream on its standard
input and variables that are listed under ENVIRONMENT. Status 0 tells that it stored all of it. Nobody can look at
what it stored: it is told as "stored, not verified", nothing is deleted there, and --num-backups does
nothing. What was sent is known from the record in the source's snapshot folder alone. The first stream
is a complete copy of the newest snapshot, each later one an increment to the one before it, and all of
them are needed, in their order, to restore with btrfs-receive(8). With --no-incremental each is complete.
--remove-locks begins anew with a complete copy. The text of COMMAND is the name of the destination: another
text is another one. The newest snapshot that was sent is kept as the next parent, until --remove-locks is
given with that text.

The status of a pipeline is that of its last command. Put pipelines in a script that fails when any
part of it does ("set -o pipefail" in bash).`},
			{macro: "SS", title: "Argument files", text: `
In a FILE that is named as @FILE every line is one place, or one option with its value behind a space.
Empty lines and lines that begin with # are left out. There are no quotes. A line @OTHER includes
another file, relative to the first. To name a directory that begins with @, write ./@home.`},
		},
		sections: []manSection{
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "Everything was done, or there was nothing to do."},
				{"1", "The run failed."},
				{"2", "The command line is wrong. Nothing was done."},
				{"3", "Some of it was done, and some failed."},
				{"75", "Another run holds the lock, and --no-wait was given."},
				{"129, 130, 143", "A signal ended the run: SIGHUP, SIGINT or SIGTERM."},
			}},
			{title: "FILES", items: [][2]string{
				{"SOURCE/snapshot/", "The snapshots, unless --snapshot-folder names another folder."},
				{"SOURCE/snapshot/.latest", "A symbolic link to the newest snapshot that every destination got; with a prefix, .PREFIX_latest. It is for people and scripts: this program does not read it."},
				{"SOURCE/snapshot/.outstanding_transfers", "What each destination holds and still lacks."},
				{"DEST/.btrfs-backup/origins.json", "Of which source each backup is."},
				{"DEST/.NAME.incoming", "A backup while it is received, or one that was not completed; the next run deletes it, or goes on with it."},
				{"~/.ssh/config, ~/.ssh/known_hosts, /etc/ssh/ssh_config, /etc/ssh/ssh_known_hosts", "How machines are reached, and the keys that they have. An accepted host key is added to the user's file."},
			}},
			{title: "ENVIRONMENT", items: [][2]string{
				{"BTRFS_BACKUP_SNAPSHOT", "Set for COMMAND: the name of the snapshot."},
				{"BTRFS_BACKUP_PARENT", "Set for COMMAND: the name of the snapshot that the stream is an increment to; empty for a complete copy."},
				{"BTRFS_BACKUP_UUID", "Set for COMMAND: the UUID of the snapshot, as it stands in the stream."},
				{"BTRFS_BACKUP_BYTES", "Set for COMMAND: how many bytes will come, or an upper bound where extents are sent compressed."},
				{"SSH_AUTH_SOCK", "The socket of ssh-agent(1)."},
				{"TERM", "With the value dumb, progress is told in lines instead of bars."},
				{"TZ", "The time zone of the names."},
			}},
		},
		examples: `
  btrfs-backup ssh://root@nas:2222/home /mnt/usb/nas                pull from a port of its own
  btrfs-backup --ssh-sudo /home me@nas:/backup/home                 log in as me, work as root
  btrfs-backup --rate-limit 2M --compress zstd /home nas:/backup    leave room on a slow line
  btrfs-backup /home 'shell://cat >/mnt/disk/$BTRFS_BACKUP_SNAPSHOT.btrfs'  store streams in files
  btrfs receive -f /mnt/disk/20261121-044803.btrfs /mnt/new         restore one; the complete one first`,
		seeAlso: "btrfs-backup-list(8), btrfs-backup-serve(8), btrfs-subvolume(8), btrfs-send(8), btrfs-receive(8), ssh_config(5)",
	},
	"list": {
		sections: []manSection{
			{title: "STATES", items: [][2]string{
				{"snapshot", "Read-only, and made here."},
				{"backup", "Read-only, and received completely."},
				{"unfinished", "Being received, or left behind by a run that was ended."},
				{"writable", "Not a snapshot; or left half received by another program."},
			}},
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "Everything was listed."},
				{"1", "A place could not be listed."},
				{"2", "The command line is wrong."},
			}},
		},
		seeAlso: "btrfs-backup(8), btrfs-subvolume(8), btrfs-quota(8)",
	},
	"serve": {
		sections: []manSection{
			{title: "RESTRICTED KEYS", text: `
The machine that is backed up may be broken into, and with it the key that brings its backups. On the
machine that keeps them, a forced command in front of that key limits what it can be used for, whatever
the other side asks:`, items: [][2]string{
				{`restrict,command="/usr/local/sbin/btrfs-backup serve --restrict-to /backup/laptop --append-only --receive-only --num-backups 60" ssh-ed25519 AAAA...`,
					"In ~root/.ssh/authorized_keys. /backup/laptop must exist."},
			}},
			{macro: "SS", title: "What the key can still be used for", text: `
To add backups, until the disk is full. To list names, times and UUIDs of what is below the directory, and
to make folders there. To delete or continue a backup that is not complete yet. To bring false backups: what
arrives after a break-in proves nothing, and with --num-backups 60, sixty that are brought in one night push
out all older ones. Take a large number and watch how many arrive, or leave --num-backups out and delete old
backups on the receiving machine yourself.`},
			{macro: "SS", title: "Other copies", text: `
The same snapshots should not be backed up to another directory of that filesystem: btrfs receive takes any
copy of a parent, so increments are refused when there is one outside of --restrict-to.`},
			{macro: "SS", title: "What it cannot be used for", text: `
To run another command. To reach anything outside of the directory, by "..", by symbolic links or by the
content of a stream. With --append-only, to delete, replace or change a backup that is complete. With
--receive-only, to read what backups contain; restoring needs another key, or the disk.`},
			{macro: "SS", title: "Another user than root", text: `
The agent needs root. To let the key log in as a user who can do nothing else, put "sudo" in front of the
forced command, and allow that one command line in /etc/sudoers.d:`, items: [][2]string{
				{`laptop ALL=(root) NOPASSWD: /usr/local/sbin/btrfs-backup serve --restrict-to /backup/laptop --append-only --receive-only --num-backups 60`, "All arguments are compared."},
			}},
			{macro: "SS", title: "The other direction", text: `
A machine that fetches the backups of another one needs a key there that can only fetch. It can take
snapshots in the directory, and delete those with names that end in YYYYMMDD-HHMMSS, as its --num-snapshots
asks:`, items: [][2]string{
				{`restrict,command="/usr/local/sbin/btrfs-backup serve --restrict-to /home --send-only" ssh-ed25519 AAAA...`, "In ~root/.ssh/authorized_keys of the machine that is backed up."},
			}},
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "The other side ended the session."},
				{"1", "It failed."},
				{"2", "The command line is wrong."},
			}},
		},
		seeAlso: "btrfs-backup(8), sshd(8), sudoers(5)",
	},
}
