package standing_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

func TestABackupIsGoodUntilItIsTooOld(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"), r.to("later"))
	home.MaxAgeAt = map[string]time.Duration{r.to("later"): 90 * time.Hour}
	r.wants("before the first run", home, "never", "never")
	r.run(home)
	r.days(1)
	r.run(home)
	told := r.wants("after two runs", home, "good 2", "good 2")
	p := told.Places[0]
	if !p.Newest.Equal(r.now) || !p.Oldest.Equal(r.now.AddDate(0, 0, -1)) || p.Free == nil || *p.Free == 0 || told.LastRun == nil || !told.LastRun.Time.Equal(r.now) {
		t.Errorf("%+v", told)
	}
	if want := time.Date(2026, 6, 3, 0, 0, 0, 0, time.Local); !p.NextDue.Equal(want) {
		t.Errorf("the next run is due at %v", p.NextDue)
	}
	r.days(2)
	r.wants("two days later, within the slack", home, "good 2", "good 2")
	r.now = r.now.Add(30 * time.Minute)
	r.wants("after that", home, "late 2", "good 2")
	r.days(2)
	r.wants("four days later", home, "bad 2", "late 2")
	home.Auto, home.MaxAgeAt = false, nil
	r.wants("of a job that runs when somebody wants it", home, "good 2", "good 2")
}

func TestOnlyWhatIsCompleteAndOfThisSourceIsABackup(t *testing.T) {
	r := newRig(t)
	home, other := r.job(r.subvolume("home"), r.to("all")), r.job(r.subvolume("other"), r.to("all"))
	r.run(home)
	r.wants("of another source with the same names in the same folder", other, "never")
	r.days(3)
	other.Spec.Prefix = "other-"
	r.run(other)
	r.wants("of a source whose neighbour has a newer one", home, "late 1")
	r.run(home)
	r.wants("after a run", home, "good 2")
	backup := filepath.Join(r.to("all"), r.now.Format("20060102-150405"))
	r.alter(backup)
	r.wants("when the newest was altered", home, "late 1")
	check(t, os.Rename(backup, filepath.Join(r.to("all"), ".unfinished")))
	r.wants("when only the older one is left", home, "late 1")
}

func TestABackupOfADirectoryCountsIfItIsComplete(t *testing.T) {
	r := newRig(t)
	etc := filepath.Join(r.source, "etc")
	check(t, os.Mkdir(etc, 0o755))
	check(t, os.WriteFile(filepath.Join(etc, "file"), []byte("1"), 0o600))
	j := r.job(etc, r.to("etc"))
	r.run(j)
	r.wants("after a run", j, "good 1")
	if told := r.wants("while the source is away", j, "good 1"); told.Failure != nil {
		t.Errorf("%+v", told)
	}
	check(t, os.Rename(etc, etc+".away"))
	if told := r.wants("while the source is away", j, "good 1"); told.Failure == nil {
		t.Errorf("that it is away is not told: %+v", told)
	}
	check(t, os.Rename(etc+".away", etc))
	record := filepath.Join(r.to("etc"), ".btrfs-backup/manifests", filepath.Base(r.newest(r.to("etc")))+".json")
	content, err := os.ReadFile(record)
	check(t, err)
	check(t, os.WriteFile(record, []byte(strings.Replace(string(content), "{", `{"missing": 1, "incomplete": ["x"],`, 1)), 0o600))
	r.wants("if a file is missing in it", j, "never")
}

func TestASourceThatIsAwayIsKnownByTheRecord(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"))
	r.run(home)
	check(t, os.Rename(filepath.Join(r.source, "home"), filepath.Join(r.source, "away")))
	if told := r.wants("the record is there", home, "good 1"); told.Failure == nil {
		t.Errorf("that it is away is not told: %+v", told)
	}
	sources := filepath.Join(r.given.State, "sources.json")
	check(t, os.WriteFile(sources, []byte("garbage"), 0o600))
	r.wants("the record is garbage", home, "unknown")
	check(t, os.Remove(sources))
	if told := r.wants("the record is lost", home, "unknown"); told.Places[0].Failure == nil {
		t.Errorf("%+v", told)
	}
}

func TestALostStateCostsNothingWhileTheSourceIsThere(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"))
	r.run(home)
	names, err := os.ReadDir(r.given.State)
	check(t, err)
	for _, name := range names {
		check(t, os.WriteFile(filepath.Join(r.given.State, name.Name()), []byte("garbage\n"), 0o600))
	}
	r.runs = nil
	r.wants("garbage", home, "good 1")
	check(t, os.RemoveAll(r.given.State))
	r.wants("lost", home, "good 1")
	if _, err := os.Stat(r.given.State); err == nil {
		t.Error("a look makes a directory")
	}
}

func TestBackupsOfTheFutureDoNotCount(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"))
	r.run(home)
	r.days(-100)
	if told := r.wants("the clock was set back", home, "unknown"); told.Places[0].Ahead != 1 || told.Places[0].Warning == "" {
		t.Errorf("%+v", told)
	}
	r.run(home)
	if told := r.wants("after a run", home, "good 1"); told.Places[0].Ahead != 1 {
		t.Errorf("%+v", told)
	}
}

func TestWhatIsNotMountedIsShownAsItIsOnRecord(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"))
	r.run(home)
	ran := r.now
	check(t, os.Rename(r.to("home"), r.to("gone")))
	told := r.wants("its folder is gone", home, "unknown")
	if p := told.Places[0]; !p.Newest.Equal(ran) || p.Asked || p.Failure == nil {
		t.Errorf("%+v", p)
	}
	home.Spec.To = map[string]job.To{r.to("home"): {Absent: "its disk is away"}}
	told = r.wants("it is away on purpose", home, "away")
	if p := told.Places[0]; !p.Newest.Equal(ran) || p.Asked || p.Failure != nil || !standing.AreFine([]standing.Job{told}) {
		t.Errorf("%+v", p)
	}
	r.days(3)
	r.wants("it is away for too long", home, "late")
	r.days(3)
	r.wants("it is away for much too long", home, "bad")
	r.runs = nil
	check(t, os.RemoveAll(r.given.State))
	r.wants("as the ledger at the source tells", home, "bad")
	check(t, os.Remove(filepath.Join(r.source, "home/snapshot/.outstanding_transfers")))
	if told := r.wants("nothing is on record", home, "never"); standing.AreFine([]standing.Job{told}) {
		t.Error("that is fine")
	}
}

func TestADiskThatIsClosedIsAway(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"))
	r.run(home)
	r.disks = []disk.Disk{{Name: "usb", Mount: r.destination}}
	r.wants("while the disk is mounted", home, "good 1")
	r.disks = []disk.Disk{{Name: "other", Mount: r.to("other")}, {Name: "closed", Mount: r.to("home")}}
	if told := r.wants("while nothing is mounted in its place", home, "away"); told.Places[0].Away != "disk closed is not mounted" {
		t.Errorf("%+v", told)
	}
	if len(home.Spec.To) > 0 {
		t.Error("the job is changed")
	}
}

func TestACommandIsNeverGoodByTheRecordAlone(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), "shell://cat >/dev/null")
	r.run(home)
	told := r.wants("after a run", home, "on record")
	if p := told.Places[0]; !p.Newest.Equal(r.now) || standing.AreFine([]standing.Job{told}) {
		t.Errorf("%+v", p)
	}
	r.days(3)
	r.wants("after days", home, "late")
}

func TestSnapshotsAreAllThatAJobWithoutDestinationsHas(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"))
	r.run(home)
	r.wants("after a run", home, "good 1")
	r.days(3)
	r.wants("after days", home, "late 1")
}

func TestABackupIsAsGoodAsTheSnapshotSinceWhichNothingChangedOnlyIfItIsOfThat(t *testing.T) {
	r := newRig(t)
	home := r.job(r.subvolume("home"), r.to("home"))
	home.Spec.Subvolume.OnlyChanged = true
	r.run(home)
	check(t, os.WriteFile(filepath.Join(r.source, "home/new"), nil, 0o600))
	time.Sleep(200 * time.Millisecond) // so much does the clock of inodes count
	snapshots := r.job(filepath.Join(r.source, "home"))
	snapshots.Spec.Subvolume.OnlyChanged = true
	r.days(10)
	r.run(snapshots) // while the clock is ahead
	r.days(-7)
	if told := r.wants("of an older one", home, "late 1"); !told.Unchanged {
		t.Error("a change is seen")
	}
	r.run(home)
	r.days(10)
	r.wants("of that one", home, "good 2")
	r.wants("the snapshots", snapshots, "good 2")
}

func TestASetIsAsOldAsWhatAllMembersHave(t *testing.T) {
	r := newRig(t)
	server := r.job(r.subvolume("root"), r.to("server"))
	server.Spec.Members = []job.Member{{Name: "root", Source: server.Spec.Source}, {Name: "data", Source: job.Local{Path: r.subvolume("data")}}}
	server.Spec.Source = nil
	r.wants("before the first run", server, "never")
	r.run(server)
	r.days(3)
	r.run(server)
	told := r.wants("after two runs", server, "good 2")
	if p := told.Places[0]; !p.Newest.Equal(r.now) || p.Destination != r.to("server") {
		t.Errorf("%+v", p)
	}
	r.alter(r.newest(r.to("server/data")))
	r.wants("when that of a member was altered", server, "late 1")
	server.Spec.Members = append(server.Spec.Members, job.Member{Name: "more", Source: job.Local{Path: r.subvolume("more")}})
	r.wants("with a member that is newer than they are", server, "late 1")
}

func TestTheSubvolumesBelowASourceThatIsAwayAreThoseOfTheLastRun(t *testing.T) {
	r := newRig(t)
	j := r.job(r.subvolume("root"), r.to("root"))
	r.subvolume("root/below")
	j.Spec.Recursive = true
	r.wants("before the first run", j, "never")
	r.run(j)
	r.wants("after a run", j, "good 1")
	root := filepath.Join(r.source, "root")
	check(t, os.Rename(root, root+".away"))
	if told := r.wants("while it is away", j, "good 1"); told.Failure == nil {
		t.Errorf("%+v", told)
	}
	r.alter(r.newest(r.to("root/below")))
	r.wants("when that of one was altered", j, "never")
	check(t, os.RemoveAll(r.given.State))
	r.wants("without a record", j, "unknown")
}

func TestAMachineThatHangsKeepsNoOtherFromAnswering(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts what the kernel does
	check(t, err)
	defer silent.Close()
	r := newRig(t)
	far := fmt.Sprintf("ssh://root@%s/backups", silent.Addr())
	home := r.job(r.subvolume("home"), r.to("home"))
	r.run(home)
	home.Spec.Destinations = r.job("home", r.to("home"), far).Spec.Destinations
	all := standing.Question{Environment: r.given, Patience: 3 * time.Second}.Survey(t.Context(), []*config.Job{home})
	here, there := all[0].Places[0], all[0].Places[1]
	if here.State != standing.Good || there.State != standing.Unknown || there.Failure == nil || !strings.Contains(there.Failure.Err.Error(), "no answer within 3s") {
		t.Errorf("%+v", all)
	}
}
