package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// noticed is a daily job whose notices a program writes into the diary.
const noticed = `[notify]
%s
[job.home]
source = "SOURCE"
destination = %q
max-age = "60h"
%s
`

const intoDiary = `command = ["sh", "-c", "echo $BTRFS_BACKUP_EVENT $BTRFS_BACKUP_JOBS >>DIR/diary"]`

func TestFailureRecoveryAndStaleBackupsAreToldOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	backups := filepath.Join(smallFS(t).Dir, "backups")
	tells := func(status int, notices string) {
		t.Helper()
		expect(t, status, m.run())
		want(t, "told", []string{m.wrote()}, notices)
	}
	m.configure(noticed, intoDiary, backups, "")
	tells(exitDone, "")
	m.days(1)
	btrfstest.Check(t, os.Rename(backups, backups+".away"))
	tells(exitFailed, "failure home")
	m.now = m.now.Add(20 * 60e9)
	tells(exitFailed, "") // the same on the same day
	m.days(2)
	tells(exitFailed, "failure home, stale home")
	m.now = m.now.Add(2 * 3600e9)
	btrfstest.Check(t, os.Rename(backups+".away", backups))
	tells(exitDone, "recovery home")
	tells(exitDone, "")
	m.days(1)
	tells(exitDone, "")

	m.configure(noticed, intoDiary, backups, `online = "path:DIR/nas"`)
	m.days(2)
	tells(exitDone, "")
	m.days(1)
	tells(exitDone, "stale home")
	tells(exitDone, "")
	btrfstest.Check(t, os.Mkdir(filepath.Join(m.dir, "nas"), 0o700))
	tells(exitDone, "")
	want(t, "newest", m.dated(backups)[4:], m.now.Format("20060102-150405"))
}

func TestABackupThatWasNeverMadeIsStale(t *testing.T) {
	t.Parallel()
	m, usb := newMachine(t), newUSB(t)
	usb.unplug()
	for name, configuration := range map[string]string{
		"a disk":                        "[disk.usb]\nmount = %q\nuuid = %q\nwhen-absent = \"skip\"\n[job.home]\nsource = \"SOURCE\"\n",
		"the only disk of a directory":  "[disk.usb]\nmount = %q\nuuid = %q\nwhen-absent = \"skip\"\n[job.home]\nsource = \"SOURCE\"\nengine = \"rsync\"\n",
		"a machine that is never there": "[disk.usb]\nmount = %q\nuuid = %q\n[job.home]\nsource = \"SOURCE\"\nonline = \"path:DIR/nas\"\n",
	} {
		btrfstest.Check(t, os.RemoveAll(m.state()))
		m.configure(configuration+"destination = %[1]q\nmax-age = \"60h\"\n[notify]\n"+intoDiary, usb.mount, usb.uuid)
		for day, notices := range []string{"", "", "", "stale home", "stale home"} {
			expect(t, exitDone, m.run())
			want(t, fmt.Sprintf("%s: told on day %d", name, day), []string{m.wrote()}, notices)
			m.days(1)
		}
	}
}

func TestTargetOfNoticesThatIsDownIsAWarningUnlessTheyMustArrive(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	backups := filepath.Join(smallFS(t).Dir, "backups")
	const down = "on = [\"start\", \"success\", \"failure\"]\ncommand = [\"sh\", \"-c\", \"exit 1\"]\nwebhook = \"http://127.0.0.1:1/\"\n"
	m.configure(noticed, down, backups, "")
	told := expect(t, exitDone, m.run(), "telling of the run: ", "webhook http://127.0.0.1:1", "command: ")
	if strings.Count(told.stderr, "[WARNING]  telling of the run: ") != 2 || strings.Contains(told.stderr, "error: ") {
		t.Errorf("told of the start and the end: %s", told.stderr)
	}
	m.days(1)
	m.configure(noticed, down+"must = true", backups, "")
	expect(t, exitPartly, m.run("--json"), "telling of the run: ", `"outcome": "partly"`, `"exit_status": 3`)
	if got := m.dated(backups); len(got) != 2 {
		t.Errorf("saved: %q", got)
	}
	expect(t, exitDone, m.run()) // nothing is due, nothing to be told
}

func TestHealthchecksHearOfNoStartWithoutAnEnd(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	var lock sync.Mutex
	var heard []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		heard = append(heard, r.URL.Path)
	}))
	defer server.Close()
	d.set("skip", fmt.Sprintf("[notify]\nhealthchecks = \"%s/ping\"\n[[hook]]\nbefore = [\"sh\", \"-c\", \"echo all >>DIR/diary\"]\n", server.URL))
	d.unplug()
	expect(t, exitDone, d.run())
	want(t, "pings", heard, "/ping/start", "/ping")
	d.wrote()
	expect(t, exitDone, d.run()) // the disk lacks what was saved
	want(t, "pings", heard, "/ping/start", "/ping")
	want(t, "hooks", []string{d.wrote()}, "")
	d.plug()
	expect(t, exitDone, d.run())
	want(t, "pings", heard, "/ping/start", "/ping", "/ping/start", "/ping")
	d.has(d.snapshots(), d.snapshots()...)
}

func TestNoticeOfAFailureBesideTheJobsHasASubject(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.configure("[[hook]]\nafter = [\"false\"]\n"+noticed, `command = ["sh", "-c", "echo $BTRFS_BACKUP_EVENT: $BTRFS_BACKUP_SUBJECT >>DIR/diary"]`,
		filepath.Join(smallFS(t).Dir, "backups"), "")
	expect(t, exitPartly, m.run())
	if told := m.wrote(); !strings.Contains(told, "failure: [") || !strings.HasSuffix(told, "] backup: failed") {
		t.Errorf("told %q", told)
	}
}
