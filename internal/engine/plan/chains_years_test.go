package plan

import (
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// slack is how many backups there may be beyond those that the policy wants: the leaves of one period, one of each level, and two that
// are complete.
func (w *world) slack() int { return MostSteps(w.keep) + 2 }

// policies gives some for each kind, with for how many days they are tried; all of them, for longer, with --all.
func policies() map[string]int {
	if !btrfstest.All() {
		return map[string]int{"14d 8w 12m 3y": 420, "24h 7d": 320, "last=30": 320}
	}
	return map[string]int{
		"14d 8w 12m 3y": 3 * 366, "24h 7d": 500, "12m": 700, "30d": 500, "last=30": 400, "": 320, "14d 8w 12m": 500, "8w": 400, "4q 7d": 500,
		"3y": 320, "within=3w": 320, "compat=btrbk 14d 8w 12m": 500, "7d week-start=sunday day-start=04:00": 400, "compat=btrbk within=3w 4w 2y": 1100,
	}
}

func TestChainsKeepTheirPromisesForYears(t *testing.T) {
	inZone(t, "Europe/Berlin")
	for keep, days := range policies() {
		w := newWorld(t, time.Date(2026, 3, 14, 1, 0, 0, 0, time.Local), keep, "last=2")
		from := w.now
		for range days {
			w.run()
			w.now = w.now.AddDate(0, 0, 1)
		}
		t.Logf("%s: %s", keep, w)
		if years := w.now.Year() - from.Year() + 1; w.complete != years || w.extra > w.slack() || !w.twoRoots {
			t.Errorf("%s, %d years: more complete copies, or than %d beyond the wanted: %s", keep, years, w.slack(), w)
		}
	}
}

func TestAWholeHistoryIsSentAtOnceAsDayByDay(t *testing.T) {
	inZone(t, "Europe/Berlin")
	for _, maxAge := range []int{400, 20} {
		var on []map[string]string
		for _, atOnce := range []bool{false, true} {
			w := newWorld(t, time.Date(2026, 3, 14, 1, 0, 0, 0, time.Local), "", "")
			w.chains.MaxParentAge = time.Duration(maxAge) * 24 * time.Hour
			for range 330 {
				if w.take(); !atOnce {
					w.keepAll(w.keep)
				}
				w.now = w.now.AddDate(0, 0, 1)
			}
			w.run()
			on = append(on, w.chains.On)
		}
		if !maps.Equal(on[0], on[1]) {
			t.Errorf("no older than %d days: day by day %v\nat once %v", maxAge, on[0], on[1])
		}
	}
}

// months gives those in which the clock is changed, or the year ends.
func months() []time.Month {
	if !btrfstest.All() {
		return []time.Month{10}
	}
	return []time.Month{3, 10, 12}
}

func TestChainsOfHoursKeepTheirPromises(t *testing.T) {
	inZone(t, "Europe/Berlin")
	for _, month := range months() {
		w := newWorld(t, time.Date(2026, month, 25, 0, 30, 0, 0, time.Local), "48h 14d 8w 12m", "24h")
		for range 24 * 8 {
			w.run()
			w.now = w.now.Add(time.Hour)
		}
		t.Logf("from %s on: %s", month, w)
		if w.complete != 1+int(month)/12 || w.extra > w.slack() {
			t.Errorf("from %s on: %s", month, w)
		}
	}
}

func TestChainsKeepTheirPromisesThroughTrouble(t *testing.T) { chainsSurvive(t, 0, 2, 60) }

func TestChainsKeepTheirPromisesThroughMuchTrouble(t *testing.T) {
	btrfstest.OnlyInAll(t)
	chainsSurvive(t, 2, 30, 300)
}

func chainsSurvive(t *testing.T, from, to uint64, runs int) {
	inZone(t, "Europe/Berlin")
	for seed := from; seed < to; seed++ {
		for _, keep := range []string{"14d 8w 12m 3y", "24h 7d", "30d", "12m", "last=30", ""} {
			w := newWorld(t, time.Date(2026, 3, 14, 1, 0, 0, 0, time.Local), keep, "last=3")
			w.Rand = rand.New(rand.NewPCG(seed, 7))
			w.lossy = seed%2 == 1
			if seed%3 == 0 {
				w.chains.MaxParentAge = 100 * 24 * time.Hour
			}
			for range runs {
				w.trouble()
				w.run()
			}
			// A parent that was deleted at the source has stand-ins, each of which stays while something builds on it.
			if w.extra > 2*w.slack() {
				t.Errorf("seed %d, %s: more than %d: %s", seed, keep, 2*w.slack(), w)
			}
		}
	}
}

// trouble lets time pass, and things happen.
func (w *world) trouble() {
	switch w.now = w.now.Add(time.Duration(1+w.IntN(40)) * time.Hour); w.IntN(40) {
	case 0: // the machine is off
		w.now = w.now.AddDate(0, 0, w.IntN(90))
	case 1: // the clock is set back
		w.now = w.now.AddDate(0, 0, -1)
	case 2: // somebody deletes snapshots
		w.snapshots = w.snapshots[w.IntN(len(w.snapshots)+1):]
	case 3: // the destination is away
		for range w.IntN(20) {
			w.now = w.now.Add(10 * time.Hour)
			w.take()
		}
	case 4:
		if n := len(w.backups); w.lossy && n > 3 {
			w.drop([]string{w.backups[w.IntN(n-1)].Name})
		}
	case 5: // somebody deletes all snapshots but one
		w.snapshots = append([]btrfs.Subvolume(nil), w.snapshots[:min(1, len(w.snapshots))]...)
	}
}
