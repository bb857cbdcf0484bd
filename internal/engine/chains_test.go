package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// chainDestination keeps streams in memory.
type chainDestination struct {
	*fakeDestination
	chains *plan.Chains
	made   uint64
	errs   map[string]error // by what is sent
}

func (d *chainDestination) List(context.Context) (Contents, error) {
	c := Contents{Listing: inFolder(Naming{}, d.here).Listing, Identity: d.name, Chains: d.chains, Origins: make(map[btrfs.UUID]btrfs.UUID)}
	for _, b := range d.here {
		c.Origins[b.ReceivedUUID] = home.UUID
	}
	return c, nil
}

func (d *chainDestination) Save(_ context.Context, t Transfer) (Result, error) {
	d.note("%s", sending(t))
	if err := d.errs[d.entries[len(d.entries)-1]]; err != nil {
		return Result{}, err
	}
	made := backup(t.Snapshot)
	on := ""
	for _, b := range d.here {
		if t.Parent != nil && b.ReceivedUUID == t.Parent.UUID {
			made.ParentUUID, on = b.UUID, b.Name
		}
	}
	d.made++
	made.UUID, made.CreatedIn, made.ReceivedIn, made.ChangedIn = uuid(7000+d.made), 100+d.made, 100+d.made, 100+d.made
	d.here, d.chains.On[made.Name] = append(slices.Clone(d.here), made), on
	return Result{Bytes: 100, Backup: made}, nil
}

func (d *chainDestination) Delete(_ context.Context, names []string) ([]string, error) {
	d.note("delete %s", strings.Join(names, " "))
	d.here = slices.DeleteFunc(slices.Clone(d.here), func(b btrfs.Subvolume) bool { return slices.Contains(names, b.Name) })
	for _, name := range names {
		delete(d.chains.On, name)
	}
	return names, nil
}

func newChains(snapshots ...btrfs.Subvolume) (*fakeSource, *chainDestination) {
	s, d := newFakes(snapshots...)
	return s, &chainDestination{fakeDestination: d, chains: &plan.Chains{On: make(map[string]string), MaxParentAge: 400 * 24 * time.Hour}}
}

// onWednesday runs on the 14th of January 2026. The first was a Thursday.
func onWednesday(keep retention.Policy, changes ...func(*Job)) []func(*Job) {
	return append([]func(*Job){func(j *Job) {
		j.KeepBackups, j.KeepSnapshots = keep, retention.Policy{Last: 1}
		j.Now = func() time.Time { return time.Date(2026, 1, 14, 12, 0, 0, 0, time.Local) }
	}}, changes...)
}

func rehearsed(j *Job) { j.DryRun = true }

// held gives the days whose snapshots the ledger holds for the destination.
func held(t *testing.T, s *fakeSource, d Destination) string {
	var days []string
	for n := range uint64(32) {
		if ledger(t, s.ledger).IsCommon(d.String(), day(n)) {
			days = append(days, fmt.Sprint(n))
		}
	}
	return strings.Join(days, " ")
}

func TestARunBuildsChainsAndHoldsTheirParents(t *testing.T) {
	days := func(n ...uint64) (all []btrfs.Subvolume) {
		for _, n := range n {
			all = append(all, snap(n))
		}
		return all
	}
	s, d := newChains(days(1, 5, 6, 12, 13, 14)...)
	keep := retention.Policy{}
	keep.Of[retention.Day] = 3
	for _, rehearse := range []bool{true, false} {
		report, err := Run(t.Context(), jobOf(s, d, onWednesday(keep, func(j *Job) { j.DryRun = rehearse })...))
		if err != nil {
			t.Fatal(err)
		}
		var why, sent []string
		for _, sending := range report.Destinations[0].Transfers {
			why = append(why, sending.Why)
			sent = append(sent, strings.TrimSuffix(fmt.Sprintf("%s from %s", sending.Snapshot, sending.Parent), " from "))
		}
		if got := fmt.Sprint(sent); got != fmt.Sprintf("[%s %s from %s %s from %s]", day(12), day(13), day(12), day(14), day(13)) {
			t.Errorf("rehearsed %t: sent %s", rehearse, got)
		}
		if got := strings.Join(why, "; "); got != "the first of its year; the first of its day, on the one before; the first of its day, on the one before" {
			t.Errorf("rehearsed %t: %s", rehearse, got)
		}
		if got := fmt.Sprint(report.Deleted); got != fmt.Sprintf("[%s %s %s %s]", day(1), day(5), day(6), day(13)) {
			t.Errorf("rehearsed %t: at the source, %s go", rehearse, got)
		}
	}
	if got := held(t, s, d); got != "12 14" {
		t.Errorf("the ledger holds %s", got)
	}
	d.want(t, "send 12", "send 13 from 12", "send 14 from 13", "delete 1 5 6 13")
}

func TestARunPrunesNoParent(t *testing.T) {
	s, d := newChains()
	keep := retention.Policy{Last: 1}
	for n := uint64(1); n <= 14; n++ {
		s.here = append(s.here, snap(n))
		save(t, jobOf(s, d, onWednesday(keep, func(j *Job) { j.KeepSnapshots = retention.Policy{} })...))
	}
	var there []string
	for _, b := range d.here {
		there = append(there, strings.TrimLeft(b.Name[6:8], "0"))
	}
	if got := strings.Join(there, " "); got != "1 12 13 14" || held(t, s, d) != "1 12 14" {
		t.Errorf("left are %s, and the ledger holds %s", got, held(t, s, d))
	}
}

func TestTheReasonOfAParentIsTakenBackWithIt(t *testing.T) {
	s, d := newChains(snap(1), snap(5), snap(6))
	save(t, jobOf(s, d, onWednesday(retention.Policy{}, func(j *Job) { j.KeepSnapshots = retention.Policy{} })...))
	s.here = append(s.here, snap(7))
	d.errs = map[string]error{"send 7 from 6": fmt.Errorf("no: %w", copies.ErrWrongParent)}
	sent := save(t, jobOf(s, d, onWednesday(retention.Policy{})...)).Transfers[0]
	if sent.Parent != day(5) || sent.Why != "" || sent.Failure != nil {
		t.Errorf("%+v", sent)
	}
	if on := d.chains.On[day(7)]; on != day(5) {
		t.Errorf("it builds on %s", on)
	}
}

func TestWhatABackupWasReallyBuiltOnStays(t *testing.T) {
	s, d := newChains(snap(1), snap(5), snap(12))
	all := func(j *Job) { j.KeepSnapshots = retention.Policy{} }
	save(t, jobOf(s, d, onWednesday(retention.Policy{}, all, func(j *Job) { j.NoIncremental = true })...))
	s.here = append(s.here, snap(13))
	d.errs = map[string]error{"send 13 from 12": fmt.Errorf("no: %w", copies.ErrWrongParent)}
	save(t, jobOf(s, d, onWednesday(retention.Policy{Last: 1}, all)...)) // by the plan, the first one may go
	d.want(t, "send 12", "send 5", "send 1", "send 13 from 12", "send 13 from 1")
	if line, lost := d.chains.Line(day(13)); len(line) != 2 || lost != "" {
		t.Errorf("it cannot be restored: %q, %q", line, lost)
	}
}
