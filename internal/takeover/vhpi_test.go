package takeover

import (
	"strings"
	"testing"
)

func mustVeryHungryPi(t testing.TB, text string) Result {
	t.Helper()
	r, err := VeryHungryPi("config.yaml", []byte(text))
	return mustBeTOML(t, r, err)
}

func wantRemarks(t testing.TB, r Result, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(r.Text, "\n# "+line) {
			t.Errorf("no remark %s in\n%s", line, r.Text)
		}
	}
}

// firstVersion has all that its README shows.
const firstVersion = `
app_cfg:
  exclude_lib:
    standard_list: [
      lost+found/*,
      .mozilla/firefox/*/Cache
    ]
    another list:
      - some_dir
  intervals: {
    hourly: 3600,
    six-hourly: 21600,
    daily: 86400,
    weekly: 604800,
    monthly: 2592000,
    yearly: 31536000
  }

jobs_cfg:

  # Source 1:
  - source_ip: '192.168.178.20'             # the computer
    rsync_src: tests/src1/
    rsync_dest: /mnt/dest1/
    rsync_options: '-aAHSvX --delete'
    exclude_lists: [standard_list, another list]
    excludes: [
      downloads
    ]
    snapshots:
      hourly: 0
      six-hourly: 4
      daily: 7
      weekly: 4
      monthly: 6
      yearly: 6
  - source_ip: 127.0.0.1
    rsync_src: /srv/src1
    rsync_dest: /mnt/dest2
    rsync_options: -a -x --exclude *'.o --bwlimit=500 -z -n --link-dest=/x
    exclude_lists: []
    excludes: [/src1/tmp]
    snapshots: {daily: 1}
`

func TestTheFirstVersionOfVeryHungryPiIsTakenOver(t *testing.T) {
	r := mustVeryHungryPi(t, firstVersion)
	wantLines(t, r.Text, "[exclude.standard_list]", `# line 4 "standard_list: ["`, `exclude = ["lost+found/*", ".mozilla/firefox/*/Cache"]`,
		`[exclude."another list"]`, `exclude = ["some_dir"]`,
		"[job.src1]", `# line 23 "rsync_src: tests/src1/"`, `source = "/opt/very_hungry_pi/tests/src1"`, `destination = "/mnt/dest1"`,
		`# before the first run: btrfs-backup index "/mnt/dest1"`, `engine = "rsync"`, `marker = ".backup_valid"`,
		`# line 22 "- source_ip: '192.168.178.20'"`, `online = "ping:192.168.178.20"`, "multi-fs = true", `exclude = ["downloads"]`,
		`exclude-lists = ["standard_list", "another list"]`, `every = "six-hourly"`, `keep-backups = "last=4 7d 4w 6m 6y"`,
		"[interval]", `six-hourly = "6h"`,
		"[job.src1-2]", `source = "/srv/src1"`, `destination = "/mnt/dest2"`,
		`rsync-options = "--archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded --one-file-system -z"`,
		`rate-limit = "500K"`, `exclude = ["*'.o", "/src1/tmp"]`,
		`# the slash that rsync_src lacks: "src1" is a directory in the backups of Very Hungry Pi, and is not in those made here`,
		`every = "daily"`, `keep-backups = "1d"`)
	wantRemarks(t, r, `not taken over: line 23 "rsync_src: tests/src1/" (a relative path, taken for one in /opt/very_hungry_pi`,
		`not taken over: line 40 "-n" (rsync's -n cannot be used: nothing would be copied; leave it out; --dry-run of btrfs-backup`,
		`not taken over: line 40 "--link-dest=/x" (rsync's --link-dest cannot be used: files would be missing`,
		`not taken over: line 38 "rsync_src: /srv/src1" (patterns begin one directory lower here: /src1/tmp is /tmp)`,
		`not needed: line 37 "- source_ip: 127.0.0.1"`)
	if r.Left != 4 {
		t.Errorf("%d left", r.Left)
	}
}

func TestLaterVersionsOfVeryHungryPiAreTakenOver(t *testing.T) {
	r := mustVeryHungryPi(t, `
app_cfg:
  intervals: {hourly: 3600, quarter_daily: 21600, daily: 43200, fortnightly: 1209600, often: 90}
  mail_to: root
logs: here
jobs:
  - name: 'Photos of the NAS'
    source_ip: nas
    rsync_src: felix@nas:/srv/my photos/
    rsync_dst: /mnt/photos
    rsync_options: '-aX --delete --filter="-x security.selinux" --include=keep.o --exclude=''*.o'' --chmod=600'
    snapshots: {hourly: 6, quarter_daily: 4, fortnightly: 2}
    priority: 3
  - name: twice as long as a name may be, which is sixty-four characters
    rsync_src: /a/
    rsync_dst: /b
    snapshots: {daily: 3}
  - rsync_src: /often/
    rsync_dst: /c
    snapshots: {hourly: 2, often: 5}
  - rsync_src: /never/
    rsync_dst: /d
    snapshots: {hourly: 0}
`)
	wantLines(t, r.Text, "[job.Photos-of-the-NAS]", `source = "felix@nas:/srv/my photos"`, `destination = "/mnt/photos"`,
		`# refuse a source that lacks a file, such as an empty mount point: marker = ".backup_valid"`, `online = "ping:nas"`,
		`rsync-options = "--archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded '--filter=-x security.selinux'"`,
		`include = ["keep.o"]`, `exclude = ["*.o"]`, `every = "hourly"`, `keep-backups = "24h 4w"`,
		"[job.twice-as-long-as-a-name-may-be-which-is-sixty-four-character]", `every = "12h"`, `keep-backups = "last=3"`,
		"[job.often]", `every = "often"`, `keep-backups = "last=5 2h"`, "[interval]", `often = "90s"`,
		"[job.never]", "auto = false")
	if strings.Contains(r.Text, "\nmarker") {
		t.Error("a marker that later versions did not look for")
	}
	wantRemarks(t, r, `not taken over: line 4 "mail_to: root"`, `not taken over: line 5 "logs: here"`, `not taken over: line 13 "priority: 3"`,
		`not taken over: line 11 "--chmod=600" (rsync's --chmod cannot be used`, `not needed: line 9 "rsync_src: felix@nas:/srv/my photos/"`,
		`not taken over: line 23 "snapshots: {hourly: 0}" (no snapshots are kept`)
}

func TestOptionsOfRsyncStandTogetherOrApart(t *testing.T) {
	for text, want := range map[string][]string{
		"-avxB 700 --bwlimit 2M":           {"--one-file-system -B 700\"", `rate-limit = "2M"`},
		"-avB700 --timeout=5":              {"--delete-excluded -B700 --timeout=5\""},
		"--exclude a --bwlimit=0 -f '- b'": {"--delete-excluded -f '- b'\"", `exclude = ["a"]`},
	} {
		r := mustVeryHungryPi(t, "jobs: [{rsync_src: /a/, rsync_dst: /b, snapshots: {}, rsync_options: \""+text+"\"}]")
		for _, part := range want {
			if !strings.Contains(r.Text, part+"\n") {
				t.Errorf("%s: no %s in\n%s", text, part, r.Text)
			}
		}
	}
}

func TestAllThatIsWrongForVeryHungryPiIsToldAtOnce(t *testing.T) {
	for text, want := range map[string][]string{
		"app_cfg: {intervals: {daily: x, odd: -1}, exclude_lib: {a: {b: c}}}\njobs:\n- rsync_src: a\n  rsync_dst: /b\n  snapshots: {weekly: 1, daily: many}\n" +
			"- rsync_src: /a\n  rsync_dst: /b\n  snapshots: {}\n  exclude_lists: [gone]\n  rsync_options: \"'\"\n- name: x\n- 7\n": {
			`:1: "x" cannot be the interval daily`, `:1: "-1" cannot be the interval odd`,
			`:1: "app_cfg: {intervals: {daily: x, odd: -1}, exclude_lib: {a: {b: c}}}" is no list of texts`,
			`:3: rsync_src is "a", which is no absolute path`, `:5: there is no interval weekly`, `:5: "many" cannot be how many of daily are kept`,
			`:9: there is no list "gone"`, `:10: rsync_options "'": Unterminated single-quoted string`, `:11: rsync_src is missing`, `:12: "7" is no mapping`,
			`:12: rsync_src is missing`},
		"jobs: []": {":1: there are no jobs in it"},
		"":         {":1: there are no jobs in it"},
		"a: [":     {":1: yaml: line 1: did not find expected node content"},
	} {
		_, err := VeryHungryPi("f", []byte(text))
		wantComplaints(t, err, "f", want...)
	}
}
