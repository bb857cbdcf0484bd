package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// onDisk is a configuration with a destination that is always there, and one on a disk, with hooks that tell whether that is mounted.
const onDisk = `[disk.usb]
mount = %q
uuid = %q
when-absent = %q
[job.home]
source = "SOURCE"
destination = ["%[4]s", "%[1]s/home"]
keep-snapshots = "last=1"
keep-backups = "5d"
[[job.home.hook]]
before = ["sh", "-c", "echo $(findmnt %[1]s >/dev/null && echo open || echo shut) >>DIR/diary"]
after = ["sh", "-c", "echo $(findmnt %[1]s >/dev/null && echo open || echo shut) $BTRFS_BACKUP_STATUS >>DIR/diary"]
%[5]s
`

// diskRig is a machine with a disk.
type diskRig struct {
	*machine
	*usb
	near string
}

func newDiskRig(t testing.TB) *diskRig {
	t.Helper()
	d := &diskRig{machine: newMachine(t), usb: newUSB(t), near: filepath.Join(smallFS(t).Dir, "near")}
	d.set("skip", "")
	return d
}

func (d *diskRig) set(whenAbsent, more string) {
	d.machine.Helper()
	d.configure(onDisk, d.mount, d.uuid, whenAbsent, d.near, more)
}

// has fails the test unless there are these backups at both destinations, and the disk is closed.
func (d *diskRig) has(near []string, disk ...string) {
	d.machine.Helper()
	want(d.machine, "near", d.dated(d.near), near...)
	want(d.machine, "on the disk", d.look("home"), disk...)
}

func TestADiskIsOpenedForTheJobsThatNeedItAndClosedAfterwards(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	expect(t, exitDone, d.run())
	d.has(d.snapshots(), d.snapshots()...)
	want(t, "hooks saw", []string{d.wrote()}, "open, open ok")
	expect(t, exitDone, d.run()) // nothing is due
	want(t, "hooks saw", []string{d.wrote()}, "")
	d.is(false)
}

func TestTheTextfileTellsOfADiskBeforeItIsClosed(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	textfile := filepath.Join(d.dir, "btrfs_backup.prom")
	d.set("skip", "")
	configuration, err := os.ReadFile(d.file())
	btrfstest.Check(t, err)
	d.configure("textfile = %q\n%s", textfile, configuration)
	expect(t, exitDone, d.run())
	d.is(false)
	told, err := os.ReadFile(textfile)
	btrfstest.Check(t, err)
	for _, name := range []string{"destination_up", "good", "backups"} {
		if want := fmt.Sprintf("btrfs_backup_%s{job=\"home\",destination=%q} 1\n", name, d.mount+"/home"); !strings.Contains(string(told), want) {
			t.Errorf("%s is missing in\n%s", want, told)
		}
	}
}

func TestADiskThatIsAwayTakesNothingFromTheOtherDestinationAndCatchesUp(t *testing.T) {
	t.Parallel()
	for whenAbsent, status := range map[string]int{"skip": exitDone, "fail": exitPartly} {
		t.Run(whenAbsent, func(t *testing.T) {
			t.Parallel()
			d := newDiskRig(t)
			d.set(whenAbsent, "")
			expect(t, exitDone, d.run())
			first := d.snapshots()[0]
			d.unplug()
			for range 3 {
				d.days(1)
				told := expect(t, status, d.run())
				if missed := "disk usb is absent: there is no device UUID=" + d.uuid; strings.Contains(told.stderr, "error: "+d.mount+"/home: "+missed) != (whenAbsent == "fail") {
					t.Errorf("told: %s", told.stderr)
				}
				d.is(false)
				if left, err := os.ReadDir(d.mount); err != nil || len(left) > 0 {
					t.Fatalf("written where the disk is not: %v, %v", left, err)
				}
			}
			near := d.dated(d.near)
			if len(near) != 4 {
				t.Fatalf("the other destination has %q", near)
			}
			// what the disk needs, and what it lacks
			want(t, "snapshots", d.snapshots(), first, near[3])
			expect(t, exitDiffer, invoke(t, d.environ(), "status", "--config", d.file()), "LATE, away")

			d.plug()
			d.days(1)
			caughtUp := d.ran(expect(t, exitDone, d.run("--json")))
			newest := d.snapshots()
			want(t, "transfers", caughtUp.transfers(d.mount+"/home"), near[3]+"<"+first, newest[0]+"<"+near[3])
			d.has(append(near, newest...), first, near[3], newest[0])
		})
	}
}

func TestADryRunLeavesADiskClosedAndTellsWhatItDidNotLookAt(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	d.set("fail", fmt.Sprintf("[job.back]\nsource = \"%s/x\"\ndestination = \"DIR/y\"\n[job.copy]\nsource = \"DIR\"\ndestination = \"%[1]s/copy\"\n", d.mount))
	expect(t, exitDone, d.run("home"))
	for _, jobs := range [][]string{nil, {"home", "back", "copy"}} {
		d.days(1)
		run := d.command(append(jobs, "--dry-run")...)
		before := append(allIn(t, d.source), allIn(t, d.dir)...)
		told := expect(t, exitDone, invokeCmd(t, run))
		const closed = ": disk usb is closed: what is on it was not looked at\n"
		for _, line := range []string{d.source + ": would take snapshot ", d.near + ": would send ", "\n" + d.mount + "/home" + closed, "\nback" + closed, "copy" + closed} {
			if !strings.Contains(told.stdout, line) {
				t.Errorf("%q: %s\nlacks %s", jobs, told.stdout, line)
			}
		}
		d.is(false)
		want(t, "files", append(allIn(t, d.source), allIn(t, d.dir)...), before...)
	}
}

func TestAnotherDiskInItsPlaceIsRefused(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	other := newUSB(t)
	btrfstest.Run(t, "mount", other.device, d.mount)
	before := allIn(t, d.mount)
	told := expect(t, exitPartly, d.run())
	if want := fmt.Sprintf("error: %s/home: disk usb: %[1]s has the filesystem %s, not %s\n", d.mount, other.uuid, d.uuid); !strings.Contains(told.stderr, want) {
		t.Errorf("%s\nlacks %s", told.stderr, want)
	}
	want(t, "the other disk", allIn(t, d.mount), before...)
	d.is(true) // by somebody else
	want(t, "near", d.dated(d.near), d.snapshots()...)
	btrfstest.Unmount(t, d.mount)

	d.now = d.now.Add(time.Hour) // it is not tried at once
	expect(t, exitDone, d.run())
	d.has(d.snapshots(), d.snapshots()...)
}

func TestADiskInUseStaysOpenAndTheNextRunClosesIt(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	d.set("skip", fmt.Sprintf(`[[job.home.hook]]
around = "transfer"
after = ["sh", "-c", "cd %s && exec sleep 1000000 >/dev/null 2>&1 & echo $! >DIR/pid"]
`, d.mount))
	holder := func() string {
		content, err := os.ReadFile(filepath.Join(d.dir, "pid"))
		btrfstest.Check(t, err)
		return strings.TrimSpace(string(content))
	}
	t.Cleanup(func() { _ = exec.Command("kill", holder()).Run() })
	told := expect(t, exitPartly, d.run())
	if want := fmt.Sprintf("error: disk usb: unmounting %s: in use by process %s (sleep) at %[1]s\n", d.mount, holder()); !strings.Contains(told.stderr, want) {
		t.Errorf("%s\nlacks %s", told.stderr, want)
	}
	d.is(true)
	btrfstest.Run(t, "kill", holder())
	expect(t, exitDone, d.run())
	d.has(d.snapshots(), d.snapshots()...)
}

func TestADiskThatAKilledRunLeftOpenIsClosedByTheNextRunOrHooksFinish(t *testing.T) {
	t.Parallel()
	for by, command := range map[string]func(*diskRig) result{
		"a run that does not need it": func(d *diskRig) result { return d.run("--tag", "none") },
		"hooks finish":                func(d *diskRig) result { return invoke(d.machine, d.environ(), "hooks", "finish") },
	} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			d := newDiskRig(t)
			d.set("skip", `[[job.home.hook]]
name = "net"
around = "transfer"
before = ["sh", "-c", "test -e DIR/go || kill -9 $PPID; true"]
after = ["sh", "-c", "echo after $BTRFS_BACKUP_STATUS >>DIR/diary"]
[job.none]
source = "/"
online = "path:DIR/missing"
tags = ["none"]
`)
			if killed := d.run(); killed.status != 128+int(syscall.SIGKILL) {
				t.Fatalf("exit status %d\n%s", killed.status, killed.stderr)
			}
			d.is(true)
			want(t, "hooks", []string{d.wrote()}, "open")

			expect(t, exitDone, command(d), "hook net of job home: process ", "was killed in the transfer: its after runs now",
				"disk usb was left open by a run that was killed: closing it")
			d.is(false)
			want(t, "hooks", []string{d.wrote()}, "after failed, open failed") // before the disk is closed

			write(t, filepath.Join(d.dir, "go"), "")
			taken := d.snapshots()
			expect(t, exitDone, d.run())
			want(t, "snapshots", d.snapshots(), taken...) // that of the killed run was sent
			d.has(taken, taken...)
		})
	}
}

func TestASignalClosesTheDiskInAnyPhase(t *testing.T) {
	t.Parallel()
	const ends = `before = ["sh", "-c", "kill -TERM $PPID; exec sleep 1000"]`
	for name, more := range map[string]string{
		"before the jobs":     "[[hook]]\n" + ends,
		"before the snapshot": "[[job.home.hook]]\naround = \"snapshot\"\n" + ends,
		"before the transfer": "[[job.home.hook]]\naround = \"transfer\"\n" + ends,
		"in a later job":      "[job.later]\nsource = \"SOURCE\"\nsnapshot-folder = \"later\"\n[[job.later.hook]]\n" + ends,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiskRig(t)
			d.set("skip", more)
			expect(t, 128+int(syscall.SIGTERM), d.run())
			d.is(false)
			saved := d.look("home")
			if ran := d.wrote(); (ran != "open, open failed") != (name == "before the jobs" || name == "in a later job") {
				t.Errorf("hooks saw %q", ran)
			}
			if (len(saved) == 1) != (name == "in a later job") {
				t.Errorf("saved: %q", saved)
			}
			d.set("skip", "")
			expect(t, exitDone, d.run())
			taken := d.snapshots()
			if d.has(taken, taken...); len(taken) != 1 { // that of the ended run was sent
				t.Errorf("snapshots: %q", taken)
			}
			left, err := filepath.Glob(filepath.Join(d.dir, "run", "disks", "*", "opened.json"))
			if err != nil || len(left) > 0 {
				t.Errorf("on record as open: %q", left)
			}
		})
	}
}

func TestSecondRunOfAJobEndsWithoutDoingIt(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	d.set("skip", "[[job.home.hook]]\naround = \"transfer\"\nbefore = [\"sh\", \"-c\", \"echo waits >>DIR/diary; read line <DIR/gate\"]\n")
	gate := filepath.Join(d.dir, "gate")
	btrfstest.Check(t, syscall.Mkfifo(gate, 0o600))
	first := start(t, d.command())
	diary := filepath.Join(d.dir, "diary")
	eventually(t, func() bool {
		content, _ := os.ReadFile(diary)
		return strings.Contains(string(content), "waits")
	}, first.said)
	for _, args := range [][]string{{"home"}, nil} {
		expect(t, exitBusy, d.run(args...), fmt.Sprintf("job home is run by process %d", first.cmd.Process.Pid))
		d.is(true) // the first one uses it
	}
	btrfstest.Check(t, os.WriteFile(gate, []byte("go\n"), 0o600))
	expect(t, exitDone, first.wait())
	want(t, "hooks", []string{d.wrote()}, "open, waits, open ok")
	d.has(d.snapshots(), d.snapshots()...)
	told, err := os.ReadFile(filepath.Join(d.state(), "btrfs-backup", "history.jsonl"))
	if err != nil || strings.Count(string(told), "\n") != 1 {
		t.Errorf("the history has a run that did nothing: %v\n%s", err, told)
	}
}
