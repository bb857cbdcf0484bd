package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// at is a time in the layout of names, without the seconds.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation("20060102-1504", text, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestLevelsAreThoseOfThePolicyAndAllAbove(t *testing.T) {
	for policy, want := range map[string]string{
		"14d 8w 12m": "[year month week day] 11", "24h 7d": "[year month week day hour] 30", "12m": "[year month] 14", "4q 7d": "[year quarter month week day] 12",
		"4q": "[year quarter] 6", "5y": "[year] 2", "8w 4q": "[year quarter month week] 10", "12m 4q": "[year quarter month] 6", "": "[year month week day] 11", "last=30": "[year month week day] 11", "within=2d *y": "[year] 2",
	} {
		p := policyOf(t, policy)
		if got := fmt.Sprint(Levels(p), " ", MostSteps(p)); got != want {
			t.Errorf("%q: %s, want %s", policy, got, want)
		}
	}
}

func TestABackupBuildsOnThatOfTheCalendar(t *testing.T) {
	inZone(t, "Europe/Berlin")
	const hourly, daily = "48h 14d", "14d 8w 12m"
	for _, test := range []struct {
		claim, policy string
		there         string // in this order
		gone          string // at the source
		lost          string // at the destination
		next          string
		want          string // bases
		why           string
	}{
		{"the first of all", daily, "", "", "", "20260314-0100", "", "the first of its year"},
		{"the first of a year", daily, "20260314-0100 20261231-0100", "", "", "20270101-0100", "", "the first of its year"},
		{"of a month", daily, "20260101-0100 20260102-0100 20260131-0100", "", "", "20260201-0100", "20260101-0100", "the first of its month, on the first of its year"},
		{"of a week", daily, "20260101-0100 20260201-0100 20260208-0100", "", "", "20260209-0100", "20260201-0100 20260101-0100", "the first of its week, on the first of its month"},
		{"of a day, on the day before in the week", daily, "20260101-0100 20260201-0100 20260209-0100 20260210-0100", "", "", "20260211-0100",
			"20260210-0100 20260209-0100 20260201-0100 20260101-0100", "the first of its day, on the one before"},
		{"on the first of the day before, which is the one that stays", daily, "20260101-0100 20260209-0100 20260210-0100 20260210-0900", "", "", "20260211-0100",
			"20260210-0100 20260209-0100 20260101-0100", "the first of its day, on the one before"},
		{"when the machine was off, on an earlier day of the week", daily, "20260101-0100 20260209-0100", "", "", "20260213-0100", "20260209-0100 20260101-0100",
			"the first of its day, on the one before"},
		{"one more of a day", daily, "20260101-0100 20260209-0100 20260210-0100 20260210-0900", "", "", "20260210-1000", "20260210-0100 20260209-0100 20260101-0100",
			"one more of its day, on the first of its day"},
		{"the first of a day, where hours are leaves", hourly, "20260101-0000 20260209-0000 20260209-2300", "", "", "20260210-0000", "20260209-0000 20260101-0000",
			"the first of its day, on the first of its week"},
		{"of an hour", hourly, "20260101-0000 20260209-0000 20260209-0100 20260209-0130", "", "", "20260209-0200", "20260209-0100 20260209-0000 20260101-0000",
			"the first of its hour, on the one before"},
		{"the day before is gone at the source: down the tree", daily, "20260101-0100 20260201-0100 20260209-0100 20260210-0100", "20260210-0100", "", "20260211-0100",
			"20260209-0100 20260201-0100 20260101-0100", "the first of its day, on the one before"},
		{"all of the week are", daily, "20260101-0100 20260201-0100 20260209-0100 20260210-0100", "20260209-0100 20260210-0100", "", "20260211-0100",
			"20260201-0100 20260101-0100", "on the first of its month, since nothing of its week can be built on"},
		{"the first of the year is: the oldest stands in", daily, "20260101-0100 20260201-0100", "20260101-0100", "", "20260301-0100",
			"20260201-0100", "the first of its month, on the oldest of its year that the source still has"},
		{"all of the year are", daily, "20260101-0100 20260201-0100", "20260101-0100 20260201-0100", "", "20260301-0100", "", "nothing of its year can be built on"},
		{"what builds on something lost is no parent", daily, "20260101-0100 20260201-0100 20260209-0100", "20260101-0100 20260201-0100 20260209-0100", "20260101-0100", "20260210-0100", "", "the first of its year"},
		{"a parent is no older than 400 days", "3y", "20260101-0100", "", "", "20261231-0100", "20260101-0100", "one more of its year, on the first of its year"},
		{"a new year within a week", daily, "20261228-0100 20261231-0100 20270101-0100", "", "", "20270102-0100", "20270101-0100", "the first of its day, on the one before"},
		{"a new month within a week", hourly, "20260101-0000 20260629-0000 20260701-0000", "", "", "20260702-0000", "20260701-0000 20260101-0000", "the first of its day, on the first of its week"},
		{"weeks from Sunday on", daily + " week-start=sunday", "20260101-0100 20260201-0100 20260209-0100", "", "", "20260208-0100", "20260201-0100 20260101-0100", "the first of its week, on the first of its month"},
		{"days from six on", daily + " day-start=06:00", "20260101-0700 20260202-0700 20260203-0700", "", "", "20260204-0500", "20260203-0700 20260202-0700 20260101-0700",
			"one more of its day, on the first of its day"},
		{"months of btrbk begin with a week", "compat=btrbk " + daily, "20260104-0100 20260131-0100 20260201-0100", "", "", "20260202-0100", "20260201-0100 20260104-0100",
			"the first of its day, on the one before"},
	} {
		t.Run(test.claim, func(t *testing.T) {
			w := newWorld(t, time.Time{}, "", "")
			w.keep = policyOf(t, test.policy)
			kept := w.keep
			for _, when := range strings.Fields(test.there) {
				w.now = at(t, when)
				w.lossy = true // policies are changed
				w.keepAll(kept)
			}
			w.snapshots = slices.DeleteFunc(w.snapshots, func(s btrfs.Subvolume) bool { return slices.Contains(named(test.gone), s.Name) })
			w.drop(named(test.lost))
			w.now = at(t, test.next)
			w.take()
			p := w.planner()
			s := w.snapshots[len(w.snapshots)-1]
			if got := NamesOf(p.Bases(s)); !slices.Equal(got, named(test.want)) {
				t.Errorf("builds on %q, want %q; chains %v", got, named(test.want), w.chains.On)
			}
			made := p.Plan().Transfers
			last := made[len(made)-1]
			if last.Snapshot.Name != s.Name || last.Why != test.why || last.ParentName() != strings.Join(named(test.want)[:min(1, len(named(test.want)))], "") {
				t.Errorf("%s on %s: %q, want %q", last.Snapshot.Name, last.ParentName(), last.Why, test.why)
			}
		})
	}
}

// named gives the names of times without seconds.
func named(times string) (names []string) {
	for _, when := range strings.Fields(times) {
		names = append(names, when+"00")
	}
	return names
}

// keepAll saves a snapshot by the levels of a policy, and deletes nothing.
func (w *world) keepAll(levels retention.Policy) {
	w.take()
	p := w.planner()
	p.Keep = levels
	bases := p.relation().bases()
	s := w.snapshots[len(w.snapshots)-1]
	transfers := p.transfers(bases, []btrfs.Subvolume{s})
	w.add(&p, transfers[0])
	w.backups, w.chains = p.Backups.InDirectory, p.Chains
}

func TestNoParentIsOlderThanTheMaximum(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, at(t, "20260101-0100"), "14d 8w 12m", "")
	w.chains.MaxParentAge = 100 * 24 * time.Hour
	for _, when := range []string{"20260101-0100", "20260301-0100"} {
		w.now = at(t, when)
		w.keepAll(w.keep)
	}
	for when, want := range map[string]string{"20260401-0100": "20260101-010000", "20260601-0100": "20260301-010000", "20260701-0100": ""} {
		next := w.now
		w.now = at(t, when)
		all, snapshots := w.planner(), w.snapshots
		w.take()
		all = w.planner()
		s := w.snapshots[len(w.snapshots)-1]
		if got := strings.Join(NamesOf(all.Bases(s)), " "); got != want {
			t.Errorf("%s builds on %q, want %q", when, got, want)
		}
		w.snapshots, w.now = snapshots, next
	}
	w.now = at(t, "20260601-0100")
	if got := w.planner().Parents(nil); !slices.Equal(got, []string{"20260301-010000"}) {
		t.Errorf("the source holds %q", got)
	}
}

func TestWhatOthersBuildOnStays(t *testing.T) {
	verdicts := func(kept string, names ...string) (all []retention.Verdict) {
		for _, name := range names {
			all = append(all, retention.Verdict{Name: name, Keep: strings.Contains(kept, name), Reasons: []string{"the policy"}})
		}
		return all
	}
	for _, test := range []struct {
		claim      string
		on         map[string]string
		unfinished []string
		kept, want string
	}{
		{"a line", map[string]string{"a": "", "b": "a", "c": "b", "d": "b"}, nil, "d", "a: parent of b; b: parent of d; d: the policy"},
		{"of several children, the newest is named", map[string]string{"a": "", "b": "a", "c": "a"}, nil, "bc", "a: parent of c; b: the policy; c: the policy"},
		{"two complete ones", map[string]string{"a": "", "b": "", "c": "", "d": "c"}, nil, "d",
			"b: one of the two newest complete copies; c: one of the two newest complete copies; d: the policy"},
		{"a single one may go with all that builds on it", map[string]string{"a": "", "b": "a", "c": "", "d": "c"}, nil, "d",
			"a: one of the two newest complete copies; c: one of the two newest complete copies; d: the policy"},
		{"uploads under way", map[string]string{"a": "", "b": "a", "c": "b", "d": ""}, []string{"b", "x"}, "d",
			"a: one of the two newest complete copies; b: an upload under way builds on it; d: the policy"},
		{"what cannot be restored", map[string]string{"b": "a", "c": "b", "d": ""}, nil, "d",
			"b: cannot be restored: a is missing, on which it builds; c: cannot be restored: a is missing, on which it builds; d: the policy"},
		{"circles", map[string]string{"a": "b", "b": "a", "c": "c", "d": ""}, nil, "d",
			"a: cannot be restored: b is missing, on which it builds; b: cannot be restored: a is missing, on which it builds; " +
				"c: cannot be restored: c is missing, on which it builds; d: the policy"},
	} {
		var got []string
		c := &Chains{On: test.on, Unfinished: test.unfinished}
		names := slices.Sorted(maps.Keys(test.on))
		given := verdicts(test.kept, names...)
		held := HoldChains(given, c)
		for _, v := range held {
			if v.Keep {
				got = append(got, v.Name+": "+strings.Join(v.Reasons, ", "))
			}
			if v.Held != (v.Keep && !strings.Contains(test.kept, v.Name)) {
				t.Errorf("%s: %s held: %t", test.claim, v.Name, v.Held)
			}
		}
		if strings.Join(got, "; ") != test.want {
			t.Errorf("%s: %s\nwant %s", test.claim, strings.Join(got, "; "), test.want)
		}
		if again := HoldChains(held, c); fmt.Sprint(again) != fmt.Sprint(held) {
			t.Errorf("%s: again %v", test.claim, again)
		}
		if fmt.Sprint(given) != fmt.Sprint(verdicts(test.kept, names...)) {
			t.Errorf("%s: what was given is changed", test.claim)
		}
	}
	if given := verdicts("a", "a", "b"); fmt.Sprint(HoldChains(given, nil)) != fmt.Sprint(given) {
		t.Error("without chains something is held")
	}
}

func TestWhatCannotBeRestoredPushesNothingOut(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, at(t, "20260101-0100"), "12m", "")
	for _, when := range []string{"20260101-0100", "20260301-0100", "20260302-0100", "20260401-0100"} {
		w.now = at(t, when)
		w.keepAll(w.keep)
	}
	lost := w.snapshots[1]
	w.snapshots = slices.Delete(w.snapshots, 1, 2)
	w.chains.On["20260301-010000"] = "20260102-010000" // which is lost
	w.chains.On["20260302-010000"], w.chains.On["20260401-010000"] = "20260101-010000", "20260101-010000"
	got := make(map[string]string)
	made := w.planner().Plan()
	for _, v := range made.Verdicts {
		got[v.Name] = v.String()
	}
	if len(made.Delete) > 0 || !strings.Contains(got["20260302-010000"], "month 2 of 12") || !strings.Contains(got["20260301-010000"], "20260102-010000 is missing") {
		t.Errorf("%v", made.Verdicts)
	}
	newest := w.snapshots[2]
	w.snapshots = w.snapshots[:2]
	w.chains.On["20260401-010000"] = "20260315-010000" // lost, too
	if told := fmt.Sprint(w.planner().Plan().Verdicts); !strings.Contains(told, "keep 20260302-010000: newest common with the source") {
		t.Errorf("of those that can be restored, the newest common one: %s", told)
	}
	w.snapshots = append(w.snapshots[:1:1], lost, w.snapshots[1], newest)
	made = w.planner().Plan()
	var again []string
	for _, t := range made.Transfers {
		again = append(again, t.Snapshot.Name+" on "+t.ParentName())
	}
	if want := []string{"20260301-010000 on 20260101-010000", "20260401-010000 on 20260301-010000"}; !slices.Equal(again, want) || len(made.Foreign) > 0 {
		t.Errorf("what the source has is saved again: %q, want %q; %v", again, want, made.Foreign)
	}
	w.snapshots = slices.Insert(w.snapshots, 1, w.snapshots[0])
	w.snapshots[1].Name, w.snapshots[1].UUID = "20260102-010000", btrfs.UUID{77}
	for _, t2 := range w.planner().Plan().Transfers {
		if t2.Snapshot.Name == "20260301-010000" {
			t.Error("what is whole as soon as its parent is saved is saved once more")
		}
	}
	w.snapshots = slices.Delete(w.snapshots, 1, 2)
	w.chains.On["20260401-010000"] = "20260101-010000"
	var candidates []retention.Snapshot
	for _, b := range w.backups {
		s, _ := Naming{}.Snapshot(b.Name)
		candidates = append(candidates, s)
	}
	whole, broken := w.chains.Apart(candidates)
	if len(whole) != 3 || len(broken) != 1 || broken[0].Name != "20260301-010000" || !broken[0].Keep || !broken[0].Held {
		t.Errorf("apart: %v, %v", whole, broken)
	}
	if complete := w.planner().Complete(); slices.Contains(complete, "20260301-010000") || len(complete) != 3 {
		t.Errorf("complete: %q", complete)
	}
}

func TestWhatDecidesTogetherLearnsOfParents(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, at(t, "20260101-0100"), "last=1", "")
	for _, when := range []string{"20260101-0100", "20260105-0100", "20260106-0100", "20260112-0100"} {
		w.now = at(t, when)
		w.keepAll(w.keep)
	}
	w.now = at(t, "20260113-0100")
	w.take()
	p := w.planner()
	got := make(map[string]string)
	for _, c := range p.Candidates() {
		got[c.Name] = strings.Join(c.Holds, ", ")
	}
	want := map[string]string{"20260101-010000": "", "20260105-010000": "", "20260106-010000": "", "20260112-010000": "", "20260113-010000": "newest common with the source"}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if made := p.Plan(); !slices.Equal(made.Delete, named("20260105-0100 20260106-0100")) {
		t.Errorf("what the next one builds on is not kept: %q go", made.Delete)
	}
	w.keepAll(w.keep) // it is sent
	p = w.planner()
	got = make(map[string]string)
	for _, c := range p.Candidates() {
		got[c.Name] = strings.Join(c.Holds, ", ")
	}
	want["20260112-010000"], want["20260101-010000"] = "parent of 20260113-010000", "parent of 20260112-010000"
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	p.Peers = []retention.Snapshot{{Name: "20260106-010000", Time: at(t, "20260106-0100"), Holds: []string{"in use"}}}
	if made := p.Plan(); len(made.Delete) > 0 {
		t.Errorf("with what a peer holds, %q go", made.Delete)
	}
}

func TestAParentIsOfOneKin(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, at(t, "20260101-0100"), "", "")
	for _, when := range []string{"20260101-0100", "20260105-0100"} {
		w.now = at(t, when)
		w.keepAll(w.keep)
	}
	w.snapshots[1].ParentUUID = btrfs.UUID{77} // of another subvolume
	w.now = at(t, "20260106-0100")
	w.take()
	if got := NamesOf(w.planner().Bases(w.snapshots[2])); !slices.Equal(got, named("20260101-0100")) {
		t.Errorf("builds on %q", got)
	}
	if got := w.planner().Parents(nil); !slices.Equal(got, named("20260101-0100")) {
		t.Errorf("the source holds %q", got)
	}
}

func TestTheSourceHoldsWhatTheNextCanBuildOn(t *testing.T) {
	inZone(t, "Europe/Berlin")
	w := newWorld(t, at(t, "20260101-0100"), "14d 8w 12m", "")
	for _, when := range []string{"20260101-0100", "20260201-0100", "20260202-0100", "20260209-0100", "20260210-0100", "20260210-0900"} {
		w.now = at(t, when)
		w.keepAll(w.keep)
	}
	for now, want := range map[string]string{
		"20260210-1000": "20260210-0900 20260101-0100 20260201-0100 20260209-0100 20260210-0100",
		"20260211-0050": "20260210-0900 20260210-0100 20260101-0100 20260201-0100 20260209-0100", // a day begins with that of the day before
		"20260216-0050": "20260210-0900 20260101-0100 20260201-0100",
		"20260301-0050": "20260210-0900 20260101-0100",
		"20270101-0050": "20260210-0900",
	} {
		w.now = at(t, now)
		if got := w.planner().Parents(nil); !slices.Equal(got, named(want)) {
			t.Errorf("at %s: %q, want %q", now, got, named(want))
		}
	}
}
