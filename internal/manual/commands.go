// Package manual has what the man pages tell beyond the help texts. The program does not hold it; scripts/man writes the pages.
package manual

// A Section is a part of a man page that help does not show.
type Section struct {
	Macro string // SH, which is the default, or SS
	Title string
	Text  string
	Items [][2]string
}

// A Command is what the page of a command has beside its help.
type Command struct {
	Description []Section // below the description
	Sections    []Section // between options and examples
	Examples    string    // below those of the help
	SeeAlso     string
}

// Commands gives what the pages of commands have beyond their help.
var Commands = map[string]Command{
	"btrfs-backup": {
		Description: []Section{
			{Macro: "SS", Title: "Snapshots", Text: `
The snapshots are read-only and are named PREFIXYYYYMMDD-HHMMSS, by local time. The snapshot of a
subvolume does not hold the subvolumes in it: each of them needs a backup of its own, and the log
names them.`},
			{Macro: "SS", Title: "Backups", Text: `
Every DEST is sent the snapshots that it lacks, as increments to the newest snapshot that both sides hold, or as
a complete copy where there is none. UUIDs, not names, tell which backup is the copy of which snapshot, so
snapshots and backups that other programs made count too. A backup gets its name only when it is complete,
verified and on disk.

The destinations are served side by side. A destination that fails stops neither the snapshot nor the others;
the next run sends it the snapshots that it lacks.`},
			{Macro: "SS", Title: "Retention", Text: `
--num-snapshots and --num-backups keep as many of the newest as they say. --keep-snapshots and --keep-backups
keep by the calendar, with a POLICY of terms, with or without blanks between them: 24h 14d 8w 12m 4q 3y keep the
oldest of each of the newest 24 hours, 14 days, 8 weeks, 12 months, 4 quarters and 3 years, *y that of every
year, last=3 the newest 3, and within=2d all of the last 2 days. Only periods that hold a snapshot count, so
nothing is lost while a machine is off. Times are local; a week begins on Monday (week-start=sunday) and a day at
midnight (day-start=06:00). Without any of these options, nothing is deleted.

--compat btrbk, or compat=btrbk in a POLICY, takes the terms as btrbk does: 14d keeps the first of each day up to 14
days back, whether or not there is one of each, weeks are those of the first of the days, and so on; within=2d stands
for its preserve_min, day-start and week-start for preserve_hour_of_day and preserve_day_of_week. Weeks begin on
Sunday there, and a month with the first week that begins in it. The newest is kept nevertheless.

The rest is deleted at the end of a run, on each side only after every
transfer to it succeeded. A run never deletes the newest snapshot, a snapshot that a destination needs as the
parent of its next increment (also a destination that is away today), or a name other than
PREFIXYYYYMMDD-HHMMSS. With --name btrbk-long, btrbk-short or btrbk-long-iso these are btrbk's, of all three kinds:
PREFIX.YYYYMMDDThhmm, PREFIX.YYYYMMDD and PREFIX.YYYYMMDDThhmmss+hhmm, each with _N where it is taken. So a folder in
which btrbk worked is continued with --snapshot-prefix NAME, as it stands before the dot, and its --snapshot-folder;
names without btrbk's time are another series. A run does not send older snapshots that would be deleted at once. --dry-run
shows the verdict on each snapshot, and the reason.`},
			{Macro: "SS", Title: "Subvolumes in a subvolume", Text: `
With --recursive, SOURCE and all subvolumes below it are backed up, at any depth. Their snapshots are taken one after
another under one name, or none of them if one fails. Each is in the snapshot folder of its subvolume or, with an
absolute --snapshot-folder, below that folder as the subvolume is below SOURCE. Their backups mirror the tree, too: DEST
holds those of SOURCE, DEST/home those of the subvolume home in it. In a store, each is a source. The retention decides on all of them as on one:
a name stays everywhere or goes everywhere.

Read-only subvolumes are skipped, and snapshot folders. --exclude PATTERN skips subvolumes, with all below them: a
PATTERN that begins with a slash is a path from SOURCE, any other the end of a path; * and ? stand for parts of
names. A new subvolume begins with a complete copy. When one is gone its backups stay, also from retention; that is
told once. What is mounted in SOURCE from elsewhere needs a backup of its own. To restore, begin with the backup of
SOURCE; a subvolume in it has no place there, and is received, or snapshotted, to its path afterwards.`},
			{Macro: "SS", Title: "Directories that are not btrfs subvolumes", Text: `
rsync copies them, without a snapshot at the source, into backups with the same names and the same retention;
see btrfs-backup-rsync(8). --engine btrfs refuses them, --engine rsync copies a subvolume in this way too.`},
			{Macro: "SS", Title: "Places", Text: `
PATH names a directory of this machine, ssh://[USER@]HOST[:PORT]/PATH and [USER@]HOST:/PATH one of another
machine; an IPv6 address stands in brackets. The path is absolute, and no character in it is special: neither ~,
%, ? nor #. A path of this machine that has a colon in it can be written ./PATH.

Source and destination may both be on other machines; the stream then passes through this one. The program
remembers a destination by the text of DEST: use the same text each time.`},
			{Macro: "SS", Title: "Other machines", Text: `
A machine is reached as ssh(1) would reach it: with the configuration that "ssh -G" tells (aliases,
users, ports, key files, jump hosts), the keys of the agent and those in files, and the host keys in
known_hosts. Where ssh_config(5) asks for something that the built-in client lacks (a ProxyCommand, PKCS#11, a
KnownHostsCommand), ssh(1) or the --ssh-program is run instead, and cannot ask questions. On a terminal the
built-in client asks about an unknown host key; elsewhere it refuses the key.

The program starts "btrfs-backup serve" on the other machine (the agent), which does the work of that side.
Sending, receiving and deleting need root there: log in as root, or use --ssh-sudo, which runs "sudo -n".

If btrfs-backup is not in PATH there, or speaks another protocol, this program sends itself, compressed, over the
open connection, to ~/.cache/btrfs-backup or, where that directory is not writable or not executable, to
XDG_RUNTIME_DIR, /run (as root) or /var/tmp. Later runs use that file again, and remove versions that were not used
for 30 days. The file is run only from a directory that nobody but the user and root can write to, and its SHA-256 is
compared there before each run. The other machine needs a POSIX shell, the usual commands, and sha256sum, shasum or
openssl. A machine with another CPU gets the file btrfs-backup-linux-GOARCH (amd64, arm64, arm for version 7,
riscv64) from /usr/lib/btrfs-backup/agents or the directory that --agents names. Nothing is sent with --agent
installed, with --remote-command, or where a forced command answers.`},
			{Macro: "SS", Title: "Broken transfers", Text: `
When a connection breaks, the program tries for the time of --resume-window to connect again, and resumes the
transfer where it broke. The far side keeps the received part for the same time, unless its
btrfs-backup-serve(8) sets a shorter one, so the next run resumes the transfer of a run that Ctrl-C or a signal
ended, if it starts in time. Later the far side deletes the part, and the snapshot is sent anew. This machine
deletes a part that it received when the run ends.`},
			{Macro: "SS", Title: "Slow networks", Text: `
--compress auto compresses each part of a stream if that makes it arrive sooner; zstd always, none never.
--channels N carries a stream by as many SSH sessions, N - 1 of them from 250 milliseconds on.
--rate-limit is for each DEST, and counts bytes on the network, or of the stream where there is no network; K, M, G and T stand
for powers of 1024.`},
			{Macro: "SS", Title: "How backups are received", Text: `
This program makes them of send streams by itself. From a snapshot on this machine the kernel tells what is to be done, and the data is
taken from the snapshot: compressed extents stay as they are. With --rate-limit, and between machines, the data is in the stream.
auto, the default, is native. --receiver stock runs the program btrfs receive instead, should the native one ever fail. It follows
links that a stream makes, so the source must be on this machine, and a key with limits cannot use it.`},
			{Macro: "SS", Title: "Stores", Text: `
A DEST of s3://[HOST[:PORT]/]BUCKET[/PREFIX], store:/FOLDER or store+ssh://[USER@]HOST[:PORT]/FOLDER is a store of encrypted backups: in a bucket of
an S3-compatible server, of Amazon's if no HOST is named, or in a folder, which may be on any filesystem, here or on another machine. A HOST has a dot or a
colon, or is localhost; without TLS, no other is used. Streams are cut into parts, compressed by zstd, and encrypted by age for the public keys in
/etc/btrfs-backup/recipients; see btrfs-backup-key(8). No secret key is on this machine, and without one nothing can be read.

Parents follow the calendar of the retention: the first backup of a year is complete, that of a month builds on the first of its
year, that of a week on the first of its month, that of a day on the day before. What a kept backup builds on stays, and so do the two newest complete ones. The source
keeps the snapshots of the first of the present year, month and so on, and none that is older than --max-parent-age.

--credentials names a file with the lines "key = ID" and "secret = SECRET", or with sections as in ~/.aws/credentials; only its owner may be able to
read it. --credentials-command prints the same, or the JSON of a credential_process. Without both, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN count. With --object-lock, each object is locked as long as the policy may want it: that
takes a bucket with object lock. --storage-class y=GLACIER_IR,m=STANDARD_IA gives the parts of the first backup of each year and month a class of
their own. --hide-names has names in the store that tell nothing of machines and paths.`},
			{Macro: "SS", Title: "Backups that are sent on", Text: `
With --relay, SOURCE is a folder of backups on btrfs, also of copies by rsync. No snapshot is taken, and nothing is deleted in it: each backup that the policy
wants at DEST is sent on, under its name, and counts as one of the original source. What the next increment builds on is
kept in the folder, also by the job that fills it. The backups, or those of one --snapshot-prefix, must be of one source.`},
			{Macro: "SS", Title: "Commands as destinations", Text: `
With shell://COMMAND, "sh -c COMMAND" is run for each snapshot, with the send stream on its standard
input and variables that are listed under ENVIRONMENT. Status 0 means that it stored all of it. The program cannot look at
the result: the report says "stored, not verified", nothing is deleted there, and --num-backups has no
effect. The record in the source's snapshot folder tells which snapshots were sent. The first stream
is a complete copy of the newest snapshot, each later one an increment to the one before it, and all of
them are needed, in their order, to restore with btrfs-receive(8). With --no-incremental each is complete.
--remove-locks begins anew with a complete copy. The text of COMMAND is the name of the destination: another
text is another destination. Retention keeps the newest snapshot that was sent, as the next parent, until a run with
--remove-locks and the same text.

The status of a pipeline is that of its last command. Put pipelines in a script that fails when any
part of it does ("set -o pipefail" in bash).`},
			{Macro: "SS", Title: "Sleep", Text: `
While backups are made, logind is asked not to let the machine go to sleep when nobody uses it: "systemd-inhibit --list" shows it.
Closing the lid, or "systemctl suspend --ignore-inhibitors", suspends all the same. That costs time only: the run goes on afterwards.`},
			{Macro: "SS", Title: "Without root", Text: `
Snapshots of own subvolumes and listings need no privilege. Deletion needs the mount option
user_subvol_rm_allowed and --convert-rw. To send needs root, or a btrfs-backup of the user's own with a capability:
"setcap cap_sys_admin+ep btrfs-backup". To receive what others own needs root, or more capabilities:
"setcap cap_sys_admin,cap_chown,cap_fowner,cap_dac_override,cap_dac_read_search,cap_fsetid,cap_mknod,cap_setfcap+ep btrfs-backup".
The error names the one that is missing.`},
			{Macro: "SS", Title: "Argument files", Text: `
In a FILE that is named as @FILE every line is one place, or one option with its value behind a space.
Empty lines and lines that begin with # are left out. There are no quotes. A line @OTHER includes
another file, relative to the first. To name a directory that begins with @, write ./@home.`},
		},
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "Everything was done, or there was nothing to do."},
				{"1", "The run failed: nothing was saved."},
				{"2", "The command line is wrong. Nothing was done."},
				{"3", "Something was saved, and something failed: another destination, a deletion, or some files could not be read."},
				{"4", "A verification found a difference, or \"status\" a backup that is too old or missing."},
				{"75", "Another run holds the lock, and --no-wait was given. Nothing else failed."},
				{"129, 130, 143", "A signal ended the run: SIGHUP, SIGINT or SIGTERM."},
			}},
			{Title: "COMPLETION", Text: `
"btrfs-backup completion bash" writes what lets bash complete commands, options, their values and paths; so do zsh and fish. Each
with --help tells where to put it.`},
			{Title: "FILES", Items: [][2]string{
				{"SOURCE/snapshot/", "The snapshots, unless --snapshot-folder names another folder."},
				{"SOURCE/snapshot/.latest", "A symbolic link to the newest snapshot that every destination got; with a prefix, .PREFIX_latest. It is for people and scripts: no run reads it."},
				{"SOURCE/snapshot/.outstanding_transfers", "The snapshots that each destination holds, and those that it lacks."},
				{"DEST/.btrfs-backup/origins.json", "The source of each backup."},
				{"DEST/.btrfs-backup/about.json", "The names of the sources, which of them continues which, and what each backup took to send."},
				{"DEST/.btrfs-backup/manifests/UUID.flags.zst", "What chattr(1) had set of files in the source of a backup; without it, of none."},
				{"DEST/.latest", "A symbolic link to the newest backup that was made by rsync; with a prefix, .PREFIX_latest."},
				{"DEST/.btrfs-backup/", "The records of backups that were made by rsync, see btrfs-backup-rsync(8)."},
				{"/var/lib/btrfs-backup/history.jsonl", "The history of runs, a line of JSON for each: time, source, outcome, and the backups of each destination. Dry runs are left out. At 1 MiB the older half is dropped. For an ordinary user it is in ~/.local/state/btrfs-backup."},
				{"/var/lib/btrfs-backup/sources.json", "The subvolumes that were a source under its name, so that a rollback is told from a clone."},
				{"/var/lib/btrfs-backup/destinations.json", "The identities of the folders that directories were copied to. For an ordinary user it is in ~/.local/state/btrfs-backup."},
				{"/var/lib/btrfs-backup/told.json", "What was said of each source about paths that its backups leave out: it is said again when it changes. For an ordinary user it is in ~/.local/state/btrfs-backup."},
				{"DEST/.NAME.incoming", "A backup that is being received, or that an interrupted run left; the next run resumes or deletes it."},
				{"~/.cache/btrfs-backup/SHA256/btrfs-backup", "This program, on other machines, where it is not installed."},
				{"/usr/lib/btrfs-backup/agents/btrfs-backup-linux-GOARCH", "This program for machines with another CPU, unless --agents names another directory."},
				{"~/.ssh/config, ~/.ssh/known_hosts, /etc/ssh/ssh_config, /etc/ssh/ssh_known_hosts", "The configuration of SSH and the known host keys. An accepted host key is added to the user's file."},
			}},
			{Title: "ENVIRONMENT", Items: [][2]string{
				{"BTRFS_BACKUP_SNAPSHOT", "Set for COMMAND: the name of the snapshot."},
				{"BTRFS_BACKUP_PARENT", "Set for COMMAND: the name of the snapshot that the stream is an increment to; empty for a complete copy."},
				{"BTRFS_BACKUP_UUID", "Set for COMMAND: the UUID of the snapshot, as it stands in the stream."},
				{"BTRFS_BACKUP_BYTES", "Set for COMMAND: the size of the stream in bytes, or an upper bound where extents are sent compressed."},
				{"SSH_AUTH_SOCK", "The socket of ssh-agent(1)."},
				{"RSYNC_PASSWORD", "The password for an rsync daemon."},
				{"XDG_STATE_HOME", "The directory for the history and the identities, in place of /var/lib and ~/.local/state."},
				{"JOURNAL_STREAM", "systemd sets it: lines that go to the journal have a priority, and no clock."},
				{"TERM", "With the value dumb, progress is shown in lines instead of bars."},
				{"TZ", "The time zone of the names, in each form that date(1) knows."},
			}},
		},
		Examples: `
  btrfs-backup ssh://root@nas:2222/home /mnt/usb/nas                pull from a port of its own
  btrfs-backup --ssh-sudo /home me@nas:/backup/home                 log in as me, work as root
  btrfs-backup --rate-limit 2M --compress zstd /home nas:/backup    leave room on a slow line
  btrfs-backup --relay /mnt/usb/etc s3://my-bucket/laptop           send copies by rsync on, encrypted
  btrfs-backup /home 'shell://cat >/mnt/disk/$BTRFS_BACKUP_SNAPSHOT.btrfs'  store streams in files
  btrfs receive -f /mnt/disk/20261121-044803.btrfs /mnt/new         restore one; the complete one first`,
		SeeAlso: "btrfs-backup-rsync(8), btrfs-backup-list(8), btrfs-backup-verify(8), btrfs-backup-serve(8), btrfs-subvolume(8), btrfs-send(8), btrfs-receive(8), ssh_config(5)",
	},
	"run": {
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "All that was due is done, or nothing was."},
				{"1", "Something failed, and nothing was saved."},
				{"2", "The command line or the configuration is wrong; nothing was done."},
				{"3", "Something was saved, and something failed."},
				{"75", "Another run does the jobs that were due."},
				{"130, 143", "Ended by Ctrl-C or SIGTERM. What hooks began was ended, and the disks were closed."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup.toml(5), btrfs-backup-config(8)",
	},
	"config": {
		SeeAlso: "btrfs-backup(8), btrfs-backup.toml(5)",
	},
	"config check": {
		SeeAlso: "btrfs-backup(8), btrfs-backup.toml(5)",
	},
	"config init": {
		Description: []Section{
			{Macro: "SS", Title: "What is proposed", Text: `
Sources are the subvolumes that are mounted, and those in them that are neither snapshots nor received. A btrfs that is mounted
below /mnt, /media or /run/media only, or in a directory with "backup" in its name, is for backups. A folder on the filesystem
of a source, or of the root directory, is refused: most often, a disk is not mounted. Each source becomes a job, and gets a
folder of its own at the destination. If the disk is not always there, its absence is no failure.`},
		},
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The file was written."},
				{"1", "It was not: it exists, there is no terminal, or a question was not answered."},
				{"2", "The command line is wrong."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-config-check(8), btrfs-backup-install(8), btrfs-backup.toml(5)",
	},
	"config show": {
		SeeAlso: "btrfs-backup(8), btrfs-backup.toml(5)",
	},
	"list": {
		Sections: []Section{
			{Title: "COLUMNS", Items: listColumns},
			{Title: "NOTES", Items: listNotes},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "Everything was listed."},
				{"1", "A place could not be listed, or a record in it not be read."},
				{"2", "The command line is wrong."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-subvolume(8), btrfs-quota(8)",
	},
	"adopt": {
		Sections: []Section{
			{Title: "WHEN IT IS NEEDED", Text: `
Not after a rollback, nor after a restore that kept the received copy: a source continues what it descends from. Nor when a machine is
renamed that has an identity (machine-id(5)). It is needed for a source that was made anew from an archive, a directory that was moved, a
machine that was set up anew, and for backups that another program made.`},
			{Title: "WHAT LIVES", Text: `
Two sources that live must not be taken for one: the retention of one would delete the other's backups. SOURCE is refused another one's
history while that is on the same filesystem and can be written to, if a backup of it arrived after SOURCE was made, or if the directory is
there still. What another machine recorded, and what nobody did, is adopted only if --of names it.`},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "It is recorded, or there was nothing to adopt."},
				{"1", "It was refused, or a place could not be read or written."},
				{"2", "The command line is wrong."},
			}},
			{Title: "FILES", Items: [][2]string{
				{"DEST/.btrfs-backup/about.json", "Which subvolume continues which."},
				{"DEST/.btrfs-backup/continued.json", "Which directory continues which."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-explain(8), btrfs-backup-list(8)",
	},
	"diff":     diffPage,
	"versions": versionsPage,
	"usage":    usagePage,
	"explain": {
		Sections: []Section{
			{Title: "COLUMNS", Items: [][2]string{
				{"VERDICT", "What the policy makes of it now. The next run makes one more first."},
				{"GOES", "The day of the run that will delete it, if as many are made as lately: the usual distance of the newest ones, at least an hour. " +
					"A dash: later than --days looks, or while something holds it."},
				{"WHY", "Each term of the policy that keeps it; a destination that still needs it, or what else holds it; or which one is kept in its place."},
			}},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "Everything was explained."},
				{"1", "A place could not be listed, or a record in it not be read."},
				{"2", "The command line is wrong."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-list(8)",
	},
	"status": {
		Description: []Section{
			{Macro: "SS", Title: "What counts", Text: `
A backup counts if it is complete, was not altered since, and is certainly of this source, by the rules by which a run
plans: names alone prove nothing. Whether files of a backup by rsync were altered only btrfs-backup-verify(8) tells. A backup that
is dated in the future is told apart. When the source cannot be looked at, the records tell whose backups there are; where they
do not, there is no answer.

Of several sources that are backed up as one, those backups count of which every source has one; a subvolume that is newer than
the newest of them needs none yet.`},
			{Macro: "SS", Title: "What is on record", Text: `
A destination that does not answer within --timeout, a disk that is away, a command and an rsync daemon are shown with the date
of the last run that saved something there, as the history and the source's ledger tell. That is "away" for a
disk until it is too old, and not good for the others. A disk that is away and of which nothing is on record is NEVER.`},
		},
		Sections: []Section{
			{Title: "COLUMNS", Items: [][2]string{
				{"NEWEST, AGE", "The beginning of the newest backup, and how long ago that was."},
				{"KEPT", "The number of complete backups."},
				{"FREE", "The bytes that can still be written there."},
				{"STATE", "good; away, its disk is not mounted; on record, it cannot be looked at; LATE, older than the maximum age; BAD, older " +
					"than twice that; NEVER, there is none; NO ANSWER; UNKNOWN, all are dated in the future."},
			}},
			{Title: "METRICS", Items: [][2]string{
				{"btrfs_backup_last_success_timestamp_seconds", "The beginning of the newest complete backup of a job at a destination; where destination_up is 0, as it is on record."},
				{"btrfs_backup_oldest_timestamp_seconds, _backups, _destination_free_bytes", "The oldest one, their number, and the bytes free there."},
				{"btrfs_backup_destination_up, _good", "1 if the destination answered; 1 if the newest backup was seen, and is not too old."},
				{"btrfs_backup_last_run_timestamp_seconds, _last_run_status, _last_duration_seconds, _last_bytes", "The last run of a job. Runs of its source by hand are none."},
				{"btrfs_backup_skipped_total", "The runs in the history that were skipped."},
			}},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "Each destination has a backup that is not too old, or is a disk that is away."},
				{"2", "The command line or the configuration is wrong."},
				{"4", "A backup is too old or missing, or a destination gave no answer."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-list(8), btrfs-backup-verify(8)",
	},
	"report": reportPage,
	"rsync": {
		Description: []Section{
			{Macro: "SS", Title: "Backups", Text: `
DEST/PREFIXYYYYMMDD-HHMMSS is a directory that holds everything. On btrfs it is a read-only subvolume: a
snapshot of the backup before it, in which rsync changed the files that differ, in place, so that unchanged blocks
of changed files stay shared. Elsewhere it is a directory whose unchanged files are hard links to those of the
backup before it. A file of which anything changed, also its mode, owner, times, ACL or attributes, is a new
file: no older backup ever changes. A backup gets its name when it is complete and on disk.`},
			{Macro: "SS", Title: "Copied files", Text: `
rsync runs with --archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded
--one-file-system, and compares times to the nanosecond. Mounts and subvolumes in SOURCE are left out and named;
--multi-fs copies them, except FUSE filesystems that only their user may look at. Of "/", the content of /dev, /proc, /sys, /run, /tmp,
/var/tmp, /mnt and /media is not copied. --rsync-options replaces all of this; it is split as a shell would
do it, and no shell is involved. It takes the options that tell how files are compared and sent (-c -I -y -W -z -B
-P -v -h -i --inplace --bwlimit --timeout --info and others), which attributes are kept (-a -r -l -p -t -g -o -D -A -X
-H -U -E -S --numeric-ids --fake-super), what is deleted (--delete and its kinds) and what is left out (-x -f -F -C
--exclude --include --exclude-from --include-from --filter). Others are refused. Patterns are those of rsync(1), FILTER RULES, and the first that matches
counts. Sparse files stay sparse. In a backup on btrfs that builds upon another one, those that are new or
changed take their full size at first: holes of at least 64 KiB are made when all is copied.`},
			{Macro: "SS", Title: "Mirrors", Text: `
With --engine mirror, SOURCE is a btrfs subvolume of which snapshots are taken and kept as usual, and DEST a folder on a
filesystem with hard links, such as ext4 or xfs. Each backup is a copy of a snapshot. The kernel tells what differs between
two snapshots: what was renamed is renamed, what changed is copied by rsync, and all else is linked, if it is still what the manifest
of the backup before says. No directory is read, here or there. All files are looked at by rsync for the first backup; if somebody
changed the backup before, or files are missing in it; if the snapshot that it is a copy of is gone; if more than 100,000 names differ; and
after --full-every, when it compares the backup with the snapshot: there must be no difference, and if there is one it is told and
put right. It needs root on both sides. With --only-changed, a source in which nothing changed gets neither a snapshot nor a backup.
Filters and options of rsync have no place in a mirror. Subvolumes in SOURCE are left out.`},
			{Macro: "SS", Title: "Equal contents", Text: `
A new file whose content is in any earlier backup in the folder takes no space. Where the filesystem can
share blocks (btrfs, xfs), it shares them, and the kernel compares the contents. Elsewhere it becomes a hard
link to the older file, if owner, mode, times, ACL and attributes are the same too, and so is its content, which is
read again from the disk. Two files of one source never become one. This is the default except on btrfs. "btrfs-backup index" takes other trees in the folder into account; they must
not be written to any more, since a link to their files may then be part of a backup.`},
			{Macro: "SS", Title: "Refused runs", Text: `
The run is refused, and nothing is changed: if the source is missing or empty, or does not hold --marker; if more
than --max-delete percent of the files of the backup before are missing, and at least 100; if DEST is on record
and its identity is gone, since its disk is not mounted; if DEST is not on the filesystem mounted at --mount-point;
and if DEST holds backups of a btrfs subvolume, unless --engine rsync is given.

If rsync fails, no backup is made and none deleted. The partial copy stays under a hidden name, and the next run
resumes it. If files could not be read, or DEST cannot store them (a name, a type, an attribute), the backup is made
without them and marked as incomplete, the report names the files, and the exit status is 3. If both ends are on this
machine, an rsync that neither reads nor writes for --stall-timeout is ended, which is a failure.`},
			{Macro: "SS", Title: "Other machines", Text: `
SOURCE or DEST may be on another machine, but not both: rsync cannot do that. rsync must be installed there,
and reaches it through the connection of this program. `},
			{Macro: "SS", Title: "rsync daemons", Text: `
HOST::MODULE[/DIR] and rsync://[USER@]HOST[:PORT]/MODULE[/DIR] are places of an rsync daemon. As a
destination it only takes files; let its machine make backups of them with btrfs-backup-freeze(8). This
program cannot check that: the report says "stored, not verified". --tunnel reaches the daemon by a connection
that is forwarded through SSH, for which an account needs no shell. On xfs a daemon that runs as root loses ACLs.`},
		},
		Sections: []Section{
			{Title: "FILES", Items: [][2]string{
				{"DEST/.btrfs-backup/id", "Identifies the folder."},
				{"DEST/.btrfs-backup/manifests/NAME.json", "Source, times, number and size of files, and the files that are missing in the backup."},
				{"DEST/.btrfs-backup/manifests/NAME.zst", "The content of the backup, as mtree(5), compressed by zstd(1)."},
				{"DEST/.btrfs-backup/index", "The contents known. It is a cache; btrfs-backup-index(8) makes it anew."},
				{"DEST/.NAME.incoming, DEST/.NAME.deleting", "A backup that is being made, or deleted."},
			}},
		},
		Examples: `
  btrfs-backup --marker .backup_valid /mnt/nas/photos /mnt/usb/photos   only if the share is mounted
  btrfs-backup --rsync-options '-rltH --delete' /srv /mnt/usb/srv       other options of rsync
  btrfs-backup --nice 10 --ionice idle / /mnt/usb/root                  leave the machine to others`,
		SeeAlso: "btrfs-backup(8), btrfs-backup-verify(8), btrfs-backup-index(8), btrfs-backup-freeze(8), rsync(1), rsyncd.conf(5)",
	},
	"stores": {
		SeeAlso: "btrfs-backup(8), btrfs-backup-key(8), btrfs-backup-list(8), btrfs-backup-restore(8), age(1)",
	},
	"index": {
		SeeAlso: "btrfs-backup(8), btrfs-backup-rsync(8)",
	},
	"freeze": {
		Description: []Section{
			{Macro: "SS", Title: "The module", Text: `
Give each machine a module, and a directory of its own, such as /backup/laptop, with the module's path in it:
/backup/laptop/current. The backups are beside that, where no client of the daemon can reach them. If current is
a btrfs subvolume, each backup is a snapshot of it. Elsewhere each is a directory with hard links to the
backup before it, and current takes the space of one more copy: a link to its files would let the next
transfer change history. Use "max connections = 1", so that nothing is received while a
backup is made.`},
		},
		Sections: []Section{
			{Title: "CONFIGURATION", Text: `
In /etc/rsyncd.conf:`, Items: [][2]string{
				{"[laptop]", "path = /backup/laptop/current\n.br\nread only = false\n.br\nwrite only = true\n.br\nuid = root\n.br\ngid = root\n.br\nmax connections = 1\n.br\nlock file = /run/rsync-laptop.lock\n.br\nauth users = laptop\n.br\nsecrets file = /etc/rsyncd.secrets\n.br\npost-xfer exec = /usr/local/sbin/btrfs-backup freeze --num-backups 60"},
			}},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "A backup was made."},
				{"1", "No backup was made."},
				{"2", "The command line is wrong."},
				{"3", "A backup was made, but it is incomplete, or an old one could not be deleted."},
			}},
			{Title: "ENVIRONMENT", Items: [][2]string{
				{"RSYNC_MODULE_PATH", "DIR, if none is given."},
				{"RSYNC_EXIT_STATUS", "The exit status of the transfer. 0, 24 or no value: it is complete. 23: the backup is incomplete. Any other: no backup is made."},
			}},
		},
		SeeAlso: "btrfs-backup-rsync(8), rsyncd.conf(5)",
	},
	"serve": {
		Sections: []Section{
			{Title: "RESTRICTED KEYS", Text: `
Whoever breaks into the machine that is backed up has the key that sends its backups. On the receiving
machine, a forced command in front of that key limits its use, whatever the other side asks:`, Items: [][2]string{
				{`restrict,command="/usr/local/sbin/btrfs-backup serve --restrict-to /backup/laptop --append-only --receive-only --keep-backups 14d8w12m" ssh-ed25519 AAAA...`,
					"In ~root/.ssh/authorized_keys. /backup/laptop must exist, be root's, and be closed to others (chmod 700, or mounted with nosuid): a backup can hold set-uid programs. Nothing is received where other users can write."},
			}},
			{Macro: "SS", Title: "Allowed", Text: `
To add backups, until the disk is full, with at most 4 under way or interrupted in a folder and 16 in all, in at most 100 sessions
at a time. To list names, times and UUIDs of the backups below the directory, and
to make folders there. To delete or resume a backup that is not complete yet. To send false backups: backups that
arrive after a break-in prove nothing. With --num-backups 60, sixty new ones in one night push out all that are older
than --min-age; with --keep-backups 14d8w12m they count as one day, of which the first stays. In a folder of stored
backups, to list and add objects, and to replace those below index/, which can be made again.`},
			{Macro: "SS", Title: "Deleting old backups", Text: `
After each backup, the policy of --keep-backups or --num-backups is applied to those of the same series that are
on record as of the same source. They count by the time at which they arrived, by the clock of this machine, whatever their names
say. What came in the same session stays, and so does what is younger than --min-age: 7 days (7d) with --append-only, so
that there is time to notice a break-in, else none. The sender is told the policy, and does not send what would be deleted
at once.`},
			{Macro: "SS", Title: "Not allowed", Text: `
To run another command. To reach anything outside of the directory, by "..", by symbolic links or by the
content of a stream. With --append-only, to delete, replace or change a backup that is complete, or any object of a
stored one. With --receive-only, to read the content of backups, and of stored ones more than their manifests;
restoring needs another key, or the disk. To take a folder for one of stored backups that has something else in it.`},
			{Macro: "SS", Title: "Another user than root", Text: `
The agent needs root. To let the key log in as a user who can do nothing else, put "sudo" in front of the
forced command, and allow that one command line in /etc/sudoers.d:`, Items: [][2]string{
				{`laptop ALL=(root) NOPASSWD: /usr/local/sbin/btrfs-backup serve --restrict-to /backup/laptop --append-only --receive-only --keep-backups 14d8w12m`, "All arguments are compared."},
			}},
			{Macro: "SS", Title: "The other direction", Text: `
A machine that fetches the backups of another one needs a key there that can only fetch. It can take
snapshots in the directory, and delete those with names that end in a date as backups have it, as its --num-snapshots
asks:`, Items: [][2]string{
				{`restrict,command="/usr/local/sbin/btrfs-backup serve --restrict-to /home --send-only" ssh-ed25519 AAAA...`, "In ~root/.ssh/authorized_keys of the machine that is backed up."},
			}},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The other side ended the session."},
				{"1", "It failed."},
				{"2", "The command line is wrong."},
			}},
		},
		SeeAlso: "btrfs-backup(8), sshd(8), sudoers(5)",
	},
}
