package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/retention"
)

// checkLocks fails if anything is not locked that the policy keeps, or something that is kept builds on; and notes how much longer
// locks last than what is deleted was of use.
func (w *world) checkLocks() {
	w.t.Helper()
	var all []retention.Snapshot
	for _, b := range w.backups {
		s, _ := Naming{}.Snapshot(b.Name)
		all = append(all, s)
	}
	needed := make(map[string]bool)
	for _, v := range retention.Decide(w.keep, w.now, all) {
		if v.Keep {
			line, _ := w.chains.Line(v.Name)
			for _, name := range line {
				needed[name] = true
				if !w.until[name].After(w.now) {
					w.t.Fatalf("%s, %s: %s is locked until %s only, and %s is kept, which builds on it", w.keep, w.now, name, w.until[name], v.Name)
				}
			}
		}
	}
	for name, until := range w.until {
		if !needed[name] {
			if idle := until.Sub(w.now); idle > w.idle {
				w.idle, w.idleOf = idle, name
			}
			delete(w.until, name)
		}
	}
}

func TestWhatIsKeptIsLockedForYears(t *testing.T) {
	inZone(t, "Europe/Berlin")
	for keep, days := range policies() {
		w := newWorld(t, time.Date(2026, 3, 14, 1, 0, 0, 0, time.Local), keep, "last=2")
		w.chains.Until = make(map[string]time.Time)
		from := w.now.Year()
		for range days {
			w.run()
			w.checkLocks()
			w.now = w.now.AddDate(0, 0, 1)
		}
		if years := w.now.Year() - from + 1; w.complete != years {
			t.Errorf("%s: %d complete copies in %d years", keep, w.complete, years)
		}
		t.Logf("%s: locks lasted %.0f days too long at most, that of %s", keep, w.idle.Hours()/24, w.idleOf)
		if p := policyOf(t, keep); keep != "" && w.idle > mostIdle(p) {
			t.Errorf("%s: %s was locked %s too long", keep, w.idleOf, w.idle)
		}
	}
}

// mostIdle is for how long something may be locked that is of no use: the margin, and a period of each level in which nothing more came
// to build on it.
func mostIdle(p retention.Policy) time.Duration {
	longest := map[retention.Unit]int{retention.Hour: 1, retention.Day: 1, retention.Week: 7, retention.Month: 31, retention.Quarter: 92, retention.Year: 366}
	days := 30 // where hardly anything is kept, nothing tells how often something is made
	if len(Levels(p)) > 1 {
		days = 0
	}
	for _, u := range Levels(p)[1:] {
		days += longest[u]
	}
	if p.Btrbk { // whose periods are not those of the calendar
		days += 21
	}
	return margin + time.Duration(days)*24*time.Hour
}

func TestWhatIsKeptIsLockedThroughHoursAndPauses(t *testing.T) {
	inZone(t, "Europe/Berlin")
	for _, month := range months() {
		w := newWorld(t, time.Date(2026, month, 25, 0, 30, 0, 0, time.Local), "48h 14d 8w 12m", "24h")
		for i := range 24 * 8 {
			if w.now = w.now.Add(time.Hour); i%50 == 49 {
				w.now = w.now.AddDate(0, 0, 4) // it is off
			}
			w.run()
			w.checkLocks()
		}
		t.Logf("from %s on: that of %s %s too long at most", month, w.idleOf, w.idle)
	}
}

func TestNothingBuildsOnWhatIsLockedForLessThanItIsNeeded(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, time.Date(2026, 3, 14, 1, 0, 0, 0, time.Local), "30d", "last=2")
	w.chains.Until = make(map[string]time.Time)
	runTo := func(year int, month time.Month) (complete int) {
		before := w.complete
		for ; w.now.Before(time.Date(year, month, 2, 0, 0, 0, 0, time.Local)); w.now = w.now.AddDate(0, 0, 1) {
			w.run()
		}
		return w.complete - before
	}
	if n := runTo(2026, 6); n != 1 {
		t.Errorf("%d complete copies under one policy", n)
	}
	w.mayLockLess = true
	w.keep = policyOf(t, "30d 24m") // longer than anything is locked
	if n := runTo(2026, 7); n != 1 {
		t.Errorf("%d complete copies in the month after the policy was changed", n)
	}
	if n := runTo(2026, 12); n != 0 {
		t.Errorf("%d complete copies under one policy again", n)
	}
}

func TestALockLastsAsLongAsWhatBuildsOnIt(t *testing.T) {
	inZone(t, "Europe/Berlin")
	p, day, all := policyOf(t, "14d 8w 12m"), 24*time.Hour, []retention.Unit{retention.Year, retention.Month, retention.Week, retention.Day}
	for _, test := range []struct {
		policy, when string
		level        int
		want         string
	}{
		{"14d 8w 12m", "20260101-0100", 0, "20271209"}, // December of that year, eleven months, a run and seven days
		{"14d 8w 12m", "20260201-0100", 1, "20270209"}, // it is the first of its month
		{"8w", "20260201-0100", 1, "20260428"},         // the week of 23 February, seven weeks, a run and seven days
		{"14d 8w 12m", "20260202-0100", 2, "20260407"},
		{"14d 8w 12m", "20260203-0100", 3, "20260302"},
		{"14d", "20260203-0100", 3, "20260302"}, // as Sunday may build on Tuesday
		{"14d", "20260203-0200", 4, "20260211"},
		{"last=3", "20260203-0200", 4, "20260213"},
		{"within=2w", "20260203-0200", 4, "20260224"},
		{"*y", "20260101-0100", 0, "20360108"},
		{"1000000y last=1000000 within=1000000d", "20260101-0100", 0, "20370107"},
	} {
		p = policyOf(t, test.policy)
		if got := LockUntil(p, all, test.level, all[test.level:], at(t, test.when), day).Format("20060102"); got != test.want {
			t.Errorf("%s, %s: until %s, not %s", test.policy, test.when, got, test.want)
		}
	}
}

func TestRolesAreTold(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, time.Time{}, "14d 8w 12m", "")
	for _, step := range []struct{ when, first string }{
		{"20260101-0100", "y"}, {"20260201-0100", "m"}, {"20260202-0100", "w"}, {"20260203-0100", "d"}, {"20260203-0200", ""},
	} {
		w.now = at(t, step.when)
		w.take()
		p := w.planner()
		transfers := p.transfers(p.relation().bases(), w.snapshots[len(w.snapshots)-1:])
		w.add(&p, transfers[0])
		w.backups, w.chains = p.Backups.InDirectory, p.Chains
		if r := transfers[0].Role; r.First != step.first || r.Until.Before(w.now.Add(margin)) {
			t.Errorf("%s: %q until %s, want %q", step.when, r.First, r.Until, step.first)
		}
	}
	w.now = w.now.AddDate(3, 0, 0) // what was not sent for long is locked for a while nevertheless
	if p := w.planner(); p.transfers(p.relation().bases(), w.snapshots[:1])[0].Role.Until.Before(w.now.Add(margin)) {
		t.Error("a lock that is over when it begins")
	}
}

func TestWhatIsLockedStays(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, at(t, "20260101-0100"), "last=1", "")
	for _, when := range []string{"20260101-0100", "20260105-0100", "20260106-0100", "20260112-0100"} {
		w.now = at(t, when)
		w.keepAll(w.keep)
	}
	gone := w.planner().Plan().Delete
	if !slices.Contains(gone, "20260106-010000") {
		t.Fatalf("%q go", gone)
	}
	w.chains.Locked = map[string]time.Time{"20260106-010000": at(t, "20260301-0100")}
	made := w.planner().Plan()
	if slices.Contains(made.Delete, "20260106-010000") {
		t.Error("what is locked is to be deleted")
	}
	for _, v := range made.Verdicts {
		if v.Name == "20260106-010000" && v.String() != "keep 20260106-010000: locked until 2026-03-01" {
			t.Error(v)
		}
	}
}
