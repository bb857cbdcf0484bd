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
Every DEST is sent the snapshots that it lacks, as increments to the newest snapshot that both sides hold, or as
a complete copy where there is none. Which backup is the copy of which snapshot is decided by their
UUIDs, whatever their names are, so snapshots and backups that were made by other means count too. A
backup gets its name only when it is complete, verified and on disk.

The destinations are written side by side. One that fails stops neither the snapshot nor the others;
it catches up the next time.`},
			{macro: "SS", title: "Retention", text: `
With --num-snapshots and --num-backups the oldest are deleted at the end of a run, on each side only
when everything was saved to it. Never deleted are the newest snapshot, those that a destination still
needs as the parent of its next increment, also one that is away today, and names other than
PREFIXYYYYMMDD-HHMMSS. Older snapshots that --num-backups would delete at once are not sent. --dry-run shows the verdict on each
snapshot, and the reason.`},
			{macro: "SS", title: "Directories that are not btrfs subvolumes", text: `
They are copied by rsync as they stand, to the same names and with the same retention at each DEST, and
without snapshots at the source; see btrfs-backup-rsync(8). --engine btrfs refuses them, --engine rsync
copies a subvolume in this way too.`},
			{macro: "SS", title: "Places", text: `
PATH is of this machine. ssh://[USER@]HOST[:PORT]/PATH and [USER@]HOST:/PATH are of another one; an
IPv6 address stands in brackets. The path is absolute, and no character in it is special: neither ~,
%, ? nor #. A path of this machine that has a colon in it can be written ./PATH.

Source and destination may both be on other machines; the stream then passes through this one. The
text of a destination is the name under which it is remembered: use the same one each time.`},
			{macro: "SS", title: "Other machines", text: `
A machine is reached as ssh(1) would reach it: with the configuration that "ssh -G" tells (aliases,
users, ports, key files, jump hosts), the keys of the agent and those in files, and the host keys in
known_hosts. Where ssh_config(5) asks for something that the built-in client lacks (a ProxyCommand, PKCS#11, a
KnownHostsCommand), or --ssh-program is given, that program is run instead. It cannot ask questions.
An unknown host key is asked about on a terminal, and refused elsewhere.

There, btrfs-backup is started as "btrfs-backup serve" and does the work of that side. Root is needed there
to send, to receive and to delete: log in as root, or use --ssh-sudo, which runs "sudo -n".

If btrfs-backup is not in PATH there, or speaks another protocol, this program is sent, compressed, over the
connection that is open, and is kept there for later runs; a version that nobody used for 30 days is removed. It goes to
~/.cache/btrfs-backup. Where that cannot be written to or run from, XDG_RUNTIME_DIR, /run (as root) and /var/tmp are
tried. It is run only from a directory that nobody but the user and root can write to, and its SHA-256 is compared there
before each run. Needed are a POSIX shell, the usual commands, and sha256sum, shasum or openssl. To a machine with another CPU
the file btrfs-backup-linux-GOARCH is sent (amd64, arm64, arm for version 7, riscv64), which is looked for in
/usr/lib/btrfs-backup/agents or the directory that --agents names. With --agent installed,
or with --remote-command, nothing is brought. Where a forced command answers, nothing is brought either.`},
			{macro: "SS", title: "Broken transfers", text: `
When a connection breaks, its machine is tried again for the time of --resume-window, and the transfer
goes on where it was. The far side keeps the received part for the same time, unless its btrfs-backup-serve(8)
sets a shorter one. So a run that was ended, by Ctrl-C or by kill, is
continued by the next one that is started in time. This machine does not keep a part that it was receiving
when the run ends. After that time the part is deleted, and the snapshot is
sent again from its beginning.`},
			{macro: "SS", title: "Slow networks", text: `
--compress auto compresses each part of a stream if that makes it arrive sooner; zstd always, none never.
--channels N carries a stream by as many SSH sessions, N - 1 of them from 250 milliseconds on.
--rate-limit is for each DEST, and counts bytes on the network, or of the stream where there is no network; K, M, G and T stand
for powers of 1024.`},
			{macro: "SS", title: "Commands as destinations", text: `
With shell://COMMAND, "sh -c COMMAND" is run for each snapshot, with the send stream on its standard
input and variables that are listed under ENVIRONMENT. Status 0 means that it stored all of it. The program cannot look at
the result: the report says "stored, not verified", nothing is deleted there, and --num-backups does
nothing. The record in the source's snapshot folder tells which snapshots were sent. The first stream
is a complete copy of the newest snapshot, each later one an increment to the one before it, and all of
them are needed, in their order, to restore with btrfs-receive(8). With --no-incremental each is complete.
--remove-locks begins anew with a complete copy. The text of COMMAND is the name of the destination: another
text is another one. The newest snapshot that was sent is kept as the next parent, until --remove-locks is
given with that text.

The status of a pipeline is that of its last command. Put pipelines in a script that fails when any
part of it does ("set -o pipefail" in bash).`},
			{macro: "SS", title: "Without root", text: `
Snapshots of own subvolumes and listings need no privilege. Deletion needs the mount option
user_subvol_rm_allowed and --convert-rw. btrfs send and receive need root, or a btrfs of the user's own with
capabilities: "setcap cap_sys_admin,cap_chown,cap_fowner,cap_dac_override,cap_fsetid,cap_mknod,cap_setfcap+ep btrfs".
The error names the one that is missing.`},
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
				{"3", "Some of it was done, and some failed; or files of a directory could not be read."},
				{"75", "Another run holds the lock, and --no-wait was given."},
				{"129, 130, 143", "A signal ended the run: SIGHUP, SIGINT or SIGTERM."},
			}},
			{title: "FILES", items: [][2]string{
				{"SOURCE/snapshot/", "The snapshots, unless --snapshot-folder names another folder."},
				{"SOURCE/snapshot/.latest", "A symbolic link to the newest snapshot that every destination got; with a prefix, .PREFIX_latest. It is for people and scripts: this program does not read it."},
				{"SOURCE/snapshot/.outstanding_transfers", "The snapshots that each destination holds, and those that it lacks."},
				{"DEST/.btrfs-backup/origins.json", "Of which source each backup is."},
				{"DEST/.latest", "A symbolic link to the newest backup that was made by rsync; with a prefix, .PREFIX_latest."},
				{"DEST/.btrfs-backup/", "The records of backups that were made by rsync, see btrfs-backup-rsync(8)."},
				{"/var/lib/btrfs-backup/history.jsonl", "The history of runs, a line of JSON for each: when, from where, how it ended, what each destination got. A dry run is not in it; of 1 MiB, the older half goes. Of an ordinary user, in ~/.local/state/btrfs-backup."},
				{"/var/lib/btrfs-backup/destinations.json", "The identities of the folders that directories were copied to; of an ordinary user, in ~/.local/state/btrfs-backup."},
				{"DEST/.NAME.incoming", "A backup while it is received, or one that was not completed; the next run deletes it, or goes on with it."},
				{"~/.cache/btrfs-backup/SHA256/btrfs-backup", "This program, on other machines, where it is not installed."},
				{"/usr/lib/btrfs-backup/agents/btrfs-backup-linux-GOARCH", "This program for machines with another CPU, unless --agents names another directory."},
				{"~/.ssh/config, ~/.ssh/known_hosts, /etc/ssh/ssh_config, /etc/ssh/ssh_known_hosts", "How machines are reached, and the keys that they have. An accepted host key is added to the user's file."},
			}},
			{title: "ENVIRONMENT", items: [][2]string{
				{"BTRFS_BACKUP_SNAPSHOT", "Set for COMMAND: the name of the snapshot."},
				{"BTRFS_BACKUP_PARENT", "Set for COMMAND: the name of the snapshot that the stream is an increment to; empty for a complete copy."},
				{"BTRFS_BACKUP_UUID", "Set for COMMAND: the UUID of the snapshot, as it stands in the stream."},
				{"BTRFS_BACKUP_BYTES", "Set for COMMAND: how many bytes will come, or an upper bound where extents are sent compressed."},
				{"SSH_AUTH_SOCK", "The socket of ssh-agent(1)."},
				{"RSYNC_PASSWORD", "The password for an rsync daemon."},
				{"XDG_STATE_HOME", "Where this machine remembers runs and folders, in place of /var/lib and ~/.local/state."},
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
		seeAlso: "btrfs-backup-rsync(8), btrfs-backup-list(8), btrfs-backup-verify(8), btrfs-backup-serve(8), btrfs-subvolume(8), btrfs-send(8), btrfs-receive(8), ssh_config(5)",
	},
	"list": {
		sections: []manSection{
			{title: "STATES", items: [][2]string{
				{"snapshot", "Read-only, and made here."},
				{"backup", "Read-only, and received completely; or made by rsync. INCOMPLETE tells how many files could not be read then."},
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
	"rsync": {
		description: []manSection{
			{macro: "SS", title: "Backups", text: `
DEST/PREFIXYYYYMMDD-HHMMSS is a directory that holds everything. On btrfs it is a read-only subvolume: a
snapshot of the backup before it, in which rsync changed the files that differ, in place, so that unchanged blocks
of changed files stay shared. Elsewhere it is a directory whose unchanged files are hard links to those of the
backup before it. A file of which anything changed, also its mode, owner, times, ACL or attributes, is a new
file: no older backup ever changes. A backup gets its name when it is complete and on disk.`},
			{macro: "SS", title: "Copied files", text: `
rsync runs with --archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded
--one-file-system, and compares times to the nanosecond. Of "/", the content of /dev, /proc, /sys, /run, /tmp,
/var/tmp, /mnt and /media is not copied. --rsync-options replaces all of this; it is split as a shell would
do it, and no shell is involved. Patterns are those of rsync(1), FILTER RULES, and the first that matches
counts. Sparse files stay sparse. In a backup on btrfs that builds upon another one, those that are new or
changed take their full size at first: holes of at least 64 KiB are made when all is copied.`},
			{macro: "SS", title: "Equal contents", text: `
A new file whose content is in any earlier backup in the folder takes no space. Where the filesystem can
share blocks (btrfs, xfs), it shares them, and the kernel compares the contents. Elsewhere it becomes a hard
link to the older file, if owner, mode, times, ACL and attributes are the same too, the older file has the
size and time on record, and its content was read within a month or is read now. Two files of one source never become
one. This is the default except on btrfs. "btrfs-backup index" takes other trees in the folder into account; they must
not be written to any more, since a link to their files is part of a backup then.`},
			{macro: "SS", title: "Refused runs", text: `
A source that is missing or empty, or does not hold --marker; a copy in which more than --max-delete percent
of the files of the backup before are missing, and at least 100; a DEST on record whose identity is gone, since
its disk is not mounted; one that is not on the filesystem mounted at --mount-point; a folder of
backups of a btrfs subvolume, unless --engine rsync is given. Nothing is changed then.

If rsync fails, no backup is made and none deleted. The copied files are kept under a hidden name, and the next run goes
on with them. If files could not be read, the backup is made without them and called incomplete, the files
are named, and the exit status is 3.`},
			{macro: "SS", title: "Other machines", text: `
SOURCE or DEST may be on another machine, but not both: rsync cannot do that. rsync must be installed there,
and reaches it through the connection of this program. `},
			{macro: "SS", title: "rsync daemons", text: `
HOST::MODULE[/DIR] and rsync://[USER@]HOST[:PORT]/MODULE[/DIR] are places of an rsync daemon. As a
destination it only takes files; let its machine make backups of them with btrfs-backup-freeze(8). This
program cannot check that: the report says "stored, not verified". --tunnel reaches the daemon by a connection
that is forwarded through SSH, for which an account needs no shell. On xfs a daemon that runs as root loses ACLs.`},
		},
		sections: []manSection{
			{title: "FILES", items: [][2]string{
				{"DEST/.btrfs-backup/id", "Identifies the folder."},
				{"DEST/.btrfs-backup/manifests/NAME.json", "Source, times, number and size of files, and the files that are missing in the backup."},
				{"DEST/.btrfs-backup/manifests/NAME.zst", "The content of the backup, as mtree(5), compressed by zstd(1)."},
				{"DEST/.btrfs-backup/index", "The contents known. It is a cache; btrfs-backup-index(8) makes it anew."},
				{"DEST/.NAME.incoming, DEST/.NAME.deleting", "A backup that is being made, or deleted."},
			}},
		},
		examples: `
  btrfs-backup --marker .backup_valid /mnt/nas/photos /mnt/usb/photos   only if the share is mounted
  btrfs-backup --rsync-options '-rltH --delete' /srv /mnt/usb/srv       other options of rsync
  btrfs-backup --nice 10 --ionice idle / /mnt/usb/root                  leave the machine to others`,
		seeAlso: "btrfs-backup(8), btrfs-backup-verify(8), btrfs-backup-index(8), btrfs-backup-freeze(8), rsync(1), rsyncd.conf(5)",
	},
	"verify": {
		sections: []manSection{
			{title: "OUTPUT", text: `
A line for each difference, and one that sums up:`, items: [][2]string{
				{"missing, unexpected", "The file is gone, or was added."},
				{"type, size, time, mode, owner, target, device, xattrs, content", "The property that differs. If the size differs, the content is not read."},
				{"not readable", "It could not be compared, which counts as a difference."},
			}},
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "All is as it was when the backup was made."},
				{"1", "A backup could not be verified."},
				{"2", "The command line is wrong."},
				{"4", "Something differs."},
			}},
		},
		seeAlso: "btrfs-backup(8), btrfs-backup-rsync(8), sha256sum(1), mtree(5)",
	},
	"index": {
		seeAlso: "btrfs-backup(8), btrfs-backup-rsync(8)",
	},
	"freeze": {
		description: []manSection{
			{macro: "SS", title: "The module", text: `
Give each machine a module, and a directory of its own, such as /backup/laptop, with the module's path in it:
/backup/laptop/current. The backups are beside that, where no client of the daemon can reach them. If current is
a btrfs subvolume, each backup is a snapshot of it. Elsewhere each is a directory with hard links to the
backup before it, and current takes the space of one more copy: a link to its files would let the next
transfer change history. Use "max connections = 1", so that nothing is received while a
backup is made.`},
		},
		sections: []manSection{
			{title: "CONFIGURATION", text: `
In /etc/rsyncd.conf:`, items: [][2]string{
				{"[laptop]", "path = /backup/laptop/current\n.br\nread only = false\n.br\nwrite only = true\n.br\nuid = root\n.br\ngid = root\n.br\nmax connections = 1\n.br\nlock file = /run/rsync-laptop.lock\n.br\nauth users = laptop\n.br\nsecrets file = /etc/rsyncd.secrets\n.br\npost-xfer exec = /usr/local/sbin/btrfs-backup freeze --num-backups 60"},
			}},
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "A backup was made."},
				{"1", "None was made."},
				{"2", "The command line is wrong."},
				{"3", "One was made, and is incomplete, or not all that should be was deleted."},
			}},
			{title: "ENVIRONMENT", items: [][2]string{
				{"RSYNC_MODULE_PATH", "DIR, if none is given."},
				{"RSYNC_EXIT_STATUS", "How the transfer ended. 0, 24 and none at all are good, 23 makes an incomplete backup, all others none."},
			}},
		},
		seeAlso: "btrfs-backup-rsync(8), rsyncd.conf(5)",
	},
	"serve": {
		sections: []manSection{
			{title: "RESTRICTED KEYS", text: `
The machine that is backed up may be broken into, and with it the key that brings its backups. On the
machine that keeps them, a forced command in front of that key limits its use, whatever
the other side asks:`, items: [][2]string{
				{`restrict,command="/usr/local/sbin/btrfs-backup serve --restrict-to /backup/laptop --append-only --receive-only --num-backups 60" ssh-ed25519 AAAA...`,
					"In ~root/.ssh/authorized_keys. /backup/laptop must exist."},
			}},
			{macro: "SS", title: "Allowed", text: `
To add backups, until the disk is full. To list names, times and UUIDs of the backups below the directory, and
to make folders there. To delete or continue a backup that is not complete yet. To bring false backups: what
arrives after a break-in proves nothing, and with --num-backups 60, sixty that are brought in one night push
out all older ones. Take a large number and watch how many arrive, or leave --num-backups out and delete old
backups on the receiving machine yourself.`},
			{macro: "SS", title: "Other copies", text: `
The same snapshots should not be backed up to another directory of that filesystem: btrfs receive takes any
copy of a parent, so increments are refused when there is one outside of --restrict-to.`},
			{macro: "SS", title: "Not allowed", text: `
To run another command. To reach anything outside of the directory, by "..", by symbolic links or by the
content of a stream. With --append-only, to delete, replace or change a backup that is complete. With
--receive-only, to read the content of backups; restoring needs another key, or the disk.`},
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
