package takeover

import "testing"

func TestWhatIsKnownOfPiServerBackupIsTakenOver(t *testing.T) {
	r, err := PiServer("sample-config.toml", []byte(`
destination = "/mnt/backup"
keep = 7

[[sources]]
type = "rsync"
name = "my data"
path = "/srv/data/"

[[sources]]
type = "zfs"
source = "/etc"
exclude = "*.o"

[[backup_hooks]]
name = "disk"
pre = ["mount", "/mnt/backup"]
post = ["umount", "/mnt/backup"]
critical = true

[[snapshot_hooks]]
pre = "systemctl stop mariadb"
post = 'systemctl start mariadb'
timeout = 3

[mail]
to = "root"
`))
	r = mustBeTOML(t, r, err)
	wantLines(t, r.Text, "[job.piserver]", `# line 5 "[[sources]]"`, `# line 10 "[[sources]]"`, `set = { my-data = "/srv/data", etc = "/etc" }`,
		`# line 2 "destination = "/mnt/backup""`, `destination = "/mnt/backup"`, `every = "daily"`, `copy = "inside"`,
		"[[job.piserver.hook]]", `name = "disk"`, `# line 17 "pre = ["mount", "/mnt/backup"]"`, `before = ["mount", "/mnt/backup"]`,
		`after = ["umount", "/mnt/backup"]`, `around = "run"`, "critical = true",
		"[[job.piserver.hook]]", `name = "snapshot-1"`, `before = ["sh", "-c", "systemctl stop mariadb"]`,
		`after = ["sh", "-c", "systemctl start mariadb"]`, `around = "snapshot"`)
	wantRemarks(t, r, `not taken over: line 3 "keep = 7"`, `not taken over: line 11 "type = "zfs""`, `not taken over: line 13 "exclude = "*.o""`,
		`not taken over: line 24 "timeout = 3"`, `not taken over: line 26 "[mail]"`)
	if r.Left != 5 {
		t.Errorf("%d left", r.Left)
	}

	r, err = PiServer("f", []byte("[destination]\ndir = '/b'\n[[sources]]\ntype = 'rsync'\npath = '/'\n"))
	r = mustBeTOML(t, r, err)
	wantLines(t, r.Text, `set = { source-1 = "/" }`, `destination = "/b"`)
}

func TestAllThatIsWrongForPiServerBackupIsToldAtOnce(t *testing.T) {
	_, err := PiServer("f", []byte("destination = 'b'\n[[sources]]\npath = '/a'\nother = '/b'\n[[sources]]\nname = 'x'\n[[backup_hooks]]\npre = [1]\n"))
	wantComplaints(t, err, "f", ":1: there is no destination, or it is no absolute path", ":2: source 1 names 2 directories",
		":5: source 2 names 0 directories", ":8: this is no command")
	_, err = PiServer("f", nil)
	wantComplaints(t, err, "f", ":1: there is no destination, or it is no absolute path", ":1: there are no sources in it")
	_, err = PiServer("f", []byte("a = 1\nb\n"))
	wantComplaints(t, err, "f", ":2: toml: expected '=' after key")
}
