package manual

// ConfigExample is that of btrfs-backup.toml(5).
const ConfigExample = `[default]
keep-snapshots = "within=2d 7d"
keep-backups   = "14d 8w 12m *y"

[disk.usb]
mount = "/mnt/usb"
when-absent = "skip"

[job.home]
source = "/home"
destination = ["/mnt/usb/home", "root@nas:/backup/home"]
every = "daily"

[job.home.to."root@nas:/backup/home"]
keep-backups = "30d *w"
rate-limit = "2M"

[[job.home.hook]]
name = "db"
before = ["systemctl", "stop", "mariadb"]
after = ["systemctl", "start", "mariadb"]
around = "snapshot"
`

// Config are those of btrfs-backup.toml(5) before the keys that are options, and after them.
var Config = [2][]Section{{
	{Title: "DESCRIPTION", Text: `
The files hold the jobs of "btrfs-backup run". The first one is read, then those in conf.d, in the order of their names; with
--config only the file that it names. Without root, both are those in ~/.config, or in the directory XDG_CONFIG_HOME. "btrfs-backup config init" writes a first one, "config check" tells all that is
wrong, and "config show JOB" tells where each value stands.

They are written in TOML: tables in brackets, and keys with values. Texts stand in quotes, numbers, true and false without
them, lists in brackets. A key that is not known is an error. A file that others than root and the caller can change is not
read: whoever can write it can run programs.

A command line without "run" never reads them.`},
	{Title: "JOBS", Text: `
Each [job.NAME] is a job. The keys of [default] are those of all jobs that do not have them. A list of a job replaces that
of [default]; tables are merged.`, Items: [][2]string{
		{"source", "What is backed up: a place as on the command line, by an absolute path. %h in it stands for the name of this machine."},
		{"set", "In place of source: several ones that are backed up as one, { root = \"/\", etc = \"/etc\" }. DEST/DATE/NAME is the backup of each."},
		{"copy", "\"inside\": members of a set that rsync copies are copied between the hooks around the snapshot. " +
			"\"after\", as without this key: when these hooks have ended."},
		{"destination", "A place, or a list of places. Without one, snapshots alone are taken."},
		{"every", "hourly, daily, weekly, monthly, quarterly or yearly: once in each period of the calendar, which may be followed by " +
			"when it begins: \"weekly week-start=sunday\". Or a time such as 15m, 6h, 2d or 1w. Or a name of [interval]. Without it: daily."},
		{`to."DESTINATION"`, "A table of what differs at one destination: keep-backups, num-backups, rate-limit, mount-point, max-age; " +
			"of a store also recipients, credentials, credentials-command, part-size, object-lock, storage-class."},
		{"max-age", "The age from which on a backup is late, such as 26h or 3d. Without it: twice the time of every."},
		{"auto", "false: it is run only when it is named."},
		{"tags", "A list of words, for \"run --tag\"."},
		{"like", "The name of a job whose keys this one has, too, unless it has them itself."},
		{"online", "It is run only if a machine is there: tcp:HOST:PORT, ping:HOST, ssh:HOST or path:/PATH. That it is not is no failure."},
		{"on-battery, metered", "\"skip\": it is not run on battery, or on a network that NetworkManager calls metered."},
		{"exclude-lists", "Names of [exclude.NAME], whose rules come after those of the job."},
		{"hook", "Programs that run before and after; see HOOKS."},
	}},
	{Macro: "SS", Title: "Options", Text: `
Every other key is an option of btrfs-backup(8), by its long name without the hyphens. One that can be given more than once
may be a list. For filters the order of the keys counts.`},
}, {
	{Title: "WHEN A JOB IS DUE", Text: `
A job is due if one of its destinations has no complete backup that is dated in the current period; the backups themselves are
looked at, no stamp. What already has one is left alone, and if this period's snapshot is there, that one is sent. What was missed
is made up for once. After a failure the next attempt waits 5 minutes, then 15 minutes, an hour, and a quarter of every.`},
	{Title: "DISKS", Text: `
Each [disk.NAME] is a medium, opened before the first job that has its source or a destination on it, and closed at the end. Only
what was opened is closed.`, Items: [][2]string{
		{"mount", "Where it is mounted: a line in /etc/fstab, a unit of systemd, or with a uuid any directory."},
		{"uuid", "Of its filesystem. Another one in its place is refused."},
		{"luks", "The name in /etc/crypttab by which it is unlocked first."},
		{"when-absent", "\"skip\": that it is not there is no failure. \"fail\": it is one, as without this key."},
		{"eject", "true: it is powered off at the end, so that it can be pulled."},
	}},
	{Title: "HOOKS", Text: `
[[hook]] runs around the whole, [[job.NAME.hook]] around the job or a part of it. The befores run in the order of the file, the
afters in reverse: those of all hooks whose befores succeeded, or were killed and may have had an effect, whatever failed since,
also after SIGTERM. What a run could not do that was killed, the next one does, or "btrfs-backup hooks finish": an after must bear
to run twice.

A hook reads nothing, and runs in /, in a process group of its own. What it says is logged. What it leaves running in the background
must have its output elsewhere. Source and destinations are looked at first: what makes them reachable belongs around "run".`, Items: [][2]string{
		{"name", "For messages."},
		{"before, after", "The words of a command; no shell reads them. Status 75 of a before: the job is skipped, which is no failure."},
		{"around", "\"run\", as without this key: the job. \"snapshot\": the taking of the snapshot, or the copying by rsync. " +
			"\"transfer\": the transfers and the retention."},
		{"timeout", "After so long its group gets SIGTERM, and 10 seconds later SIGKILL. Without it: 10m."},
		{"critical", "true: a failure ends the whole run, not only this job."},
		{"optional", "true: a failure is a warning."},
		{"user", "As whom it runs, with that user's groups and HOME, and little else of the environment."},
	}},
	{Macro: "SS", Title: "Environment of hooks", Text: `
BTRFS_BACKUP_JOB, BTRFS_BACKUP_HOOK, BTRFS_BACKUP_PHASE, BTRFS_BACKUP_SOURCE and BTRFS_BACKUP_DESTINATION (one in a line) tell
what it runs for; an after also gets BTRFS_BACKUP_SNAPSHOT, BTRFS_BACKUP_STATUS (ok, failed or skipped) and BTRFS_BACKUP_ERROR.`},
	{Title: "NOTICES", Text: `
[notify] says who is told how a run went. A target that cannot be told stops nothing: that is a warning. Web servers are asked at
the very addresses that are given: redirections are not followed. Where an address is a secret, let nobody else read the file: chmod 600.`, Items: [][2]string{
		{"on", "A list of failure, recovery, stale, success, start. Without it: the first three. Stale is also what has no backup when the first run of its job is older than the maximum age. Of one failure there is one notice a day."},
		{"mail-to, mail-from", "Addresses. The mail goes by smtp, or else by the mail server of this machine."},
		{"sendmail", "true: says the latter."},
		{"smtp", "smtps://USER@HOST[:PORT] uses TLS from the first byte on, at port 465. smtp://[USER@]HOST[:PORT] uses it where it is offered, and " +
			"always for a password to another machine, at port 587, or 25 without USER. A certificate must be valid for HOST."},
		{"password-file, password-command", "Where the password is: a file that only its owner reads, the name of a systemd credential, or " +
			"the words of a command that prints it."},
		{"webhook", "A URL to which the report is posted as JSON."},
		{"ntfy", "The URL of a topic."},
		{"healthchecks", "The URL of a check. It gets /start, success and /fail of each run, whatever on says."},
		{"desktop", "true: who is logged in sees it."},
		{"command", "The words of a command that gets the report on standard input, and BTRFS_BACKUP_EVENT, BTRFS_BACKUP_HOST, BTRFS_BACKUP_JOBS and " +
			"BTRFS_BACKUP_SUBJECT."},
		{"must", "true: if a target cannot be told, the run ends with status 3."},
	}},
	{Title: "OTHER TABLES AND KEYS", Items: [][2]string{
		{"[interval]", "Names for every: NAME = \"6h\"."},
		{"[exclude.NAME]", "Lists of rules for exclude-lists: exclude, exclude-from, include, skip, skip-dir."},
		{"log", "The absolute path of a directory in which info.log gets a line for each outcome, and debug.log everything. They stay small."},
		{"textfile", "The absolute path of a file that Prometheus' node exporter reads, written after each run."},
	}},
	{Title: "FILES", Items: [][2]string{
		{"/etc/btrfs-backup/config.toml, /etc/btrfs-backup/conf.d/*.toml", "The configuration of the machine, which root uses."},
		{"~/.config/btrfs-backup/config.toml, ~/.config/btrfs-backup/conf.d/*.toml", "That of another user, or in XDG_CONFIG_HOME/btrfs-backup."},
		{"/var/lib/btrfs-backup/history.jsonl", "What runs did. If it is lost, nothing is: what is due is seen at the destinations."},
		{"/run/btrfs-backup", "What a killed run left to be done, and locks."},
	}},
}}
