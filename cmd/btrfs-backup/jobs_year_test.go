package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// sampleJobs is the configuration that the README explains, with a second folder in place of another machine.
const sampleJobs = `[default]
keep-snapshots = "within=2d 7d"
keep-backups   = "14d 8w 12m *y"
[disk.usb]
mount = %q
uuid = %q
when-absent = "skip"
[job.home]
source = "SOURCE"
destination = ["%[1]s/home", %[3]q]
every = "daily"
[job.home.to.%[3]q]
keep-backups = "30d *w"
rate-limit = "2M"
[[job.home.hook]]
name = "db"
before = ["sh", "-c", "echo stop >>DIR/diary"]
after = ["sh", "-c", "echo start >>DIR/diary"]
around = "snapshot"
`

// aYear is a machine for which time passes.
type aYear struct {
	*machine
	places map[string]retention.Policy
	held   map[string][]string // what each place should have
	runs   int
}

// decide takes from a list what a policy gives up. A run begins at now, and what it took last may be dated a while later.
func decide(t testing.TB, p retention.Policy, now time.Time, dated []string) (kept []string) {
	t.Helper()
	var all []retention.Snapshot
	for _, name := range dated {
		s, ok := plan.Naming{}.Snapshot(name)
		if !ok {
			t.Fatalf("%s has no date", name)
		}
		all = append(all, s)
		if s.Time.After(now) {
			now = s.Time
		}
	}
	for _, v := range retention.Decide(p, now, all) {
		if v.Keep {
			kept = append(kept, v.Name)
		}
	}
	return kept
}

// pass lets half a day pass, and a minute. Each run of a new day makes one backup for each place, an increment but for the first.
func (y *aYear) pass() {
	y.Helper()
	y.now = y.now.Add(12 * time.Hour)
	r := expect(y, exitDone, y.run("--json"))
	taken := y.snapshots()
	newest := taken[len(taken)-1]
	isNew := false
	for place, policy := range y.places {
		held := y.held[place]
		sent := y.ran(r).transfers(place)
		if len(held) > 0 && held[len(held)-1][:8] == y.now.Format("20060102") {
			want(y, "sent to "+place, sent)
			continue
		}
		isNew = true
		if len(held) > 0 {
			want(y, "sent to "+place, sent, newest+"<"+held[len(held)-1])
		} else {
			want(y, "sent to "+place, sent, newest)
		}
		y.held[place] = decide(y, policy, y.now, append(held, newest))
	}
	if isNew {
		y.runs++
		want(y, "hooks", []string{y.wrote()}, "stop, start")
	}
	if newest[:8] != y.now.Format("20060102") {
		y.Fatalf("%s has no snapshot, the newest is %s", y.now, newest)
	}
}

func TestJobOfTheSampleConfigurationMissesNoDayAndKeepsWhatItsPoliciesSay(t *testing.T) {
	t.Parallel()
	days := 18
	if os.Getenv("BTRFS_BACKUP_TEST_ALL") != "" {
		days = 400
	}
	m, disk := newMachine(t), newUSB(t)
	far := filepath.Join(smallFS(t).Dir, "far")
	m.configure(sampleJobs, disk.mount, disk.uuid, far)
	y := &aYear{machine: m, held: make(map[string][]string), places: make(map[string]retention.Policy)}
	for place, text := range map[string]string{disk.mount + "/home": "14d 8w 12m *y", far: "30d *w"} {
		policy, err := retention.Parse(text)
		btrfstest.Check(t, err)
		y.places[place] = policy
	}
	var kept []string
	atHome, err := retention.Parse("within=2d 7d")
	btrfstest.Check(t, err)
	for range 2 * days {
		y.pass()
		if taken := y.snapshots(); !slices.Contains(kept, taken[len(taken)-1]) {
			kept = decide(t, atHome, y.now, append(kept, taken[len(taken)-1]))
		}
		want(t, "snapshots", y.snapshots(), kept...)
		want(t, "far", y.dated(far), y.held[far]...)
	}
	want(t, "on the disk", disk.look("home"), y.held[disk.mount+"/home"]...)
	if y.runs < days || y.runs > days+2 {
		t.Errorf("%d runs did something in %d days", y.runs, days)
	}
	for place, most := range map[string]int{disk.mount + "/home": 14 + 8 + 12 + 2, far: 30 + days/7 + 1} {
		if n := len(y.held[place]); n > most || n < min(days, 14) {
			t.Errorf("%s has %d", place, n)
		}
	}
}
