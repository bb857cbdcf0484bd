package takeover

import (
	"strings"
	"testing"
)

func mustSystemBackup(t testing.TB, c SystemBackup) Result {
	t.Helper()
	r, err := c.TakeOver()
	return mustBeTOML(t, r, err)
}

func TestACommandLineOfRsyncSystemBackupIsTakenOver(t *testing.T) {
	r := mustSystemBackup(t, SystemBackup{Args: []string{"/mnt/disk/system/latest"}, Mount: "/mnt/disk", Crypto: "backups",
		Exclude: []string{"/swap file", "*.o"}, IONice: "Idle", NoSudo: true, DryRun: true, Force: true, Verbose: 2, Quiet: 1})
	wantLines(t, r.Text, "[job.system]", `source = "/"`, `# "/mnt/disk/system/latest"`, `destination = "/mnt/disk/system"`,
		`# before the first run: btrfs-backup index "/mnt/disk/system"`, `engine = "rsync"`, `every = "daily"`, `keep-backups = "24h 7d 4w *m"`,
		`# "--exclude=/swap file"`, `# "always left out: /home/*/.cache/"`,
		`exclude = ["/swap file", "*.o", "/home/*/.cache/", "/var/cache/", "/var/tmp/"]`, `# "--ionice=Idle"`, `ionice = "idle"`,
		"[disk.disk]", `# "--mount=/mnt/disk"`, `# "--crypto=backups"`, `mount = "/mnt/disk"`, `luks = "backups"`, `when-absent = "skip"`)
	wantRemarks(t, r, `not needed: "--no-sudo"`, `not needed: "--dry-run"`, `not needed: "--force"`, `not needed: "--verbose"`, `not needed: "--quiet"`)
	if r.Left != 0 || strings.Contains(r.Text, "multi-fs") {
		t.Errorf("%d left, in\n%s", r.Left, r.Text)
	}

	r = mustSystemBackup(t, SystemBackup{Args: []string{"/home", "me@nas:/backups/home"}, MultiFS: true, Mount: "/backups", DisableNotifications: true})
	wantLines(t, r.Text, "[job.home]", `source = "/home"`, `destination = "me@nas:/backups"`, `keep-backups = "24h 7d 4w *m"`,
		`exclude = ["/*/.cache/"]`, "multi-fs = true")
	wantRemarks(t, r, `not taken over: "--mount=/backups" (a disk of another machine`, `not needed: "--disable-notifications"`)

	r = mustSystemBackup(t, SystemBackup{Args: []string{"/mnt/disk/latest"}, Mount: "/mnt/disk"})
	if wantLines(t, r.Text, `mount = "/mnt/disk"`); strings.Contains(r.Text, "luks") || strings.Contains(r.Text, "when-absent") {
		t.Errorf("a disk that is not mounted is no failure:\n%s", r.Text)
	}

	r = mustSystemBackup(t, SystemBackup{Args: []string{"/mnt/x", "host::module/latest"}, Tunnel: "me@gate:2222", Backup: true, Crypto: "x"})
	wantLines(t, r.Text, "[job.x]", `destination = "host::module/latest"`,
		`# on the machine of the daemon, in its module: post-xfer exec = btrfs-backup freeze --keep-backups "24h 7d 4w *m"`, `tunnel = "me@gate:2222"`)
	wantRemarks(t, r, `not taken over: "--crypto=x" (a disk of another machine`)
	if strings.Contains(r.Text, "exclude") || strings.Contains(r.Text, "\nkeep-backups") || r.Left != 1 {
		t.Errorf("%d left, in\n%s", r.Left, r.Text)
	}
}

func TestWhatPartsOfRsyncSystemBackupAreAskedForCounts(t *testing.T) {
	for actions, want := range map[string]string{
		"": "keep", "bsr": "keep", "br": "keep", "bs": "never", "b": "never", "s": "no job", "r": "no job", "sr": "no job",
	} {
		given := func(letter string) bool { return strings.Contains(actions, letter) }
		r := mustSystemBackup(t, SystemBackup{Args: []string{"/a/latest"}, Backup: given("b"), Snapshot: given("s"), Rotate: given("r")})
		got := "keep"
		switch {
		case !strings.Contains(r.Text, "[job.system]"):
			got = "no job"
		case strings.Contains(r.Text, "# NOTHING IS EVER DELETED") && !strings.Contains(r.Text, "\nkeep-backups"):
			got = "never"
		}
		isWhole := given("s") == given("b") && actions != "sr" && actions != "s" && actions != "r"
		if got != want || (r.Left == 0) != isWhole {
			t.Errorf("-%s: %s, %d left, want %s\n%s", actions, got, r.Left, want, r.Text)
		}
	}
	r := mustSystemBackup(t, SystemBackup{Args: []string{"/a/latest"}, Crypto: "x"})
	wantRemarks(t, r, `not taken over: "--crypto=x" (a disk is unlocked to be mounted`)
}

func TestWhatRotateBackupsKeepsIsTakenOver(t *testing.T) {
	const ini = `# of all
; directories
[/mnt/other]
hourly = 1

[/mnt/disk/sys*]
hourly = 24 * 2
daily: (3 + 4) * 2 - 10 / 5
weekly=0
Monthly = always
minutely = 60
prefer-recent = no
strict = yes
include-list = a*
exclude-list =
ionice = idle
use-sudo = off
ssh-user = root
removal-command = rmdir
timestamp-pattern = x
[/mnt/disk/system]
yearly = always
`
	c := SystemBackup{Args: []string{"/mnt/disk/system/latest"}, Rotation: []File{{"/etc/rotate-backups.ini", []byte(ini)},
		{"/root/.rotate-backups.ini", []byte("[/mnt/disk/sys*]\ndaily=7\n")}}}
	r := mustSystemBackup(t, c)
	wantLines(t, r.Text, `# "/etc/rotate-backups.ini:7: hourly = 24 * 2"`, `# "/root/.rotate-backups.ini:2: daily=7"`, `keep-backups = "48h 7d *m"`)
	wantRemarks(t, r, `not taken over: "/etc/rotate-backups.ini:11: minutely = 60"`, `not needed: "/etc/rotate-backups.ini:12: prefer-recent = no"`,
		`not needed: "/etc/rotate-backups.ini:13: strict = yes"`, `not taken over: "/etc/rotate-backups.ini:14: include-list = a*"`,
		`not needed: "/etc/rotate-backups.ini:15: exclude-list ="`, `not taken over: "/etc/rotate-backups.ini:16: ionice = idle"`,
		`not needed: "/etc/rotate-backups.ini:17: use-sudo = off"`, `not taken over: "/etc/rotate-backups.ini:18: ssh-user = root"`,
		`not taken over: "/etc/rotate-backups.ini:19: removal-command = rmdir"`, `not taken over: "/etc/rotate-backups.ini:20: timestamp-pattern = x"`)
	if r.Left != 6 {
		t.Errorf("%d left", r.Left)
	}
	for section, want := range map[string]string{"nas:/backups": "3d", "nas:/back*": "3d", "other:/backups": "24h 7d 4w *m", "/backups": "24h 7d 4w *m"} {
		r := mustSystemBackup(t, SystemBackup{Args: []string{"/", "me@nas:/backups/latest"}, Rotation: []File{{"f", []byte("[" + section + "]\ndaily=3\n")}}})
		wantLines(t, r.Text, `keep-backups = "`+want+`"`)
	}
	_, err := SystemBackup{Args: []string{"/a/latest"}, Rotation: []File{{"f", []byte("[/a]\nnothing\ndaily = often\nweekly = 1/0\nmonthly=-1\nhours = 2\n")}}}.TakeOver()
	wantComplaints(t, err, "f", `:2: "nothing" is neither`, `:3: daily: "often" is no number of backups`, `:4: weekly: "1/0" is no number of backups`,
		`:5: monthly: "-1" is no number of backups`, ":6: hours: there is no such key")
}

func TestAllThatIsWrongForRsyncSystemBackupIsToldAtOnce(t *testing.T) {
	_, err := SystemBackup{Args: []string{"a", "b/c"}, IONice: "fast", Mount: "d"}.TakeOver()
	wantComplaints(t, err, "", `"a" is no absolute path`, `"b/c" is no absolute path`, `"d" is no absolute path`, "--ionice=fast: there is no such class")
	_, err = SystemBackup{Args: []string{"/latest"}}.TakeOver()
	wantComplaints(t, err, "", `"/latest": the dated backups would lie in /`)
	for _, args := range [][]string{nil, {"/a", "/b", "/c"}} {
		_, err = SystemBackup{Args: args}.TakeOver()
		wantComplaints(t, err, "", map[int]string{0: "0", 3: "3"}[len(args)]+" places are given, not one or two")
	}
}
