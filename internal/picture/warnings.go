package picture

import (
	"fmt"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

// warn adds all that is to be looked at of a job.
func (p *Picture) warn(told standing.Job, j *Job) {
	source := told.Failure
	if source != nil {
		p.add(Warning{Job: j.Name, Text: "its source cannot be looked at: " + source.Err.Error(), Hint: hint.Of(source.Err)})
	}
	for i := range j.Places {
		p.warnOf(j, &j.Places[i], source)
	}
	if last := told.LastRun; last != nil && last.Outcome != engine.Done {
		w := Warning{Job: j.Name, Text: fmt.Sprintf("the last run, %s: %s", minute(last.Time), last.Line())}
		for _, f := range failuresOf(*last) {
			if w.Hint == "" {
				w.Hint = hint.Of(f.Err)
			}
		}
		p.add(w)
	}
}

func (p *Picture) warnOf(j *Job, at *Place, source *engine.Failure) {
	warn := func(severe bool, text, forward string) {
		p.add(Warning{Job: j.Name, Destination: at.Destination, Text: text, Hint: forward, Severe: severe, about: at})
	}
	if at.State != "" && !at.State.IsFine() {
		text, forward := at.Words(), ""
		if !at.Newest.IsZero() {
			text += ": the newest is of " + minute(at.Newest) + ", " + report.Age(at.Newest, p.Time) + " ago"
		}
		if f := at.Failure; f != nil && (source == nil || f.Err.Error() != source.Err.Error()) {
			text, forward = text+"; "+f.Err.Error(), hint.Of(f.Err)
		}
		warn(at.State != standing.OnRecord, text, forward)
	}
	if at.Damage != nil {
		warn(true, at.Damage.Err.Error(), hint.Of(at.Damage.Err))
	}
	if at.Warning != "" {
		warn(false, at.Warning, "")
	}
	if f := at.Unlisted; f != nil && at.State != standing.Never { // of which all was said
		warn(false, "not all that is there is shown: "+f.Err.Error(), hint.Of(f.Err))
	}
	for i, v := range at.Versions {
		switch {
		case v.Damaged:
			warn(true, v.Name+" is damaged, as verified "+v.Verified.Local().Format(time.DateOnly), "btrfs-backup verify tells what, and help verify how to repair it")
		case i == 0 && !v.Complete && !v.OnRecord && !at.IsSource():
			warn(false, "the newest, "+v.Name+", is not complete or not as it was made", "btrfs-backup list "+at.Name())
		}
	}
}

func (p *Picture) add(w Warning) { p.Warnings = append(p.Warnings, w) }

func severity(w Warning) int {
	switch {
	case w.Severe && w.about != nil && (w.about.State == standing.Never || w.about.State == standing.Bad || w.about.State == standing.Damaged):
		return 2
	case w.Severe:
		return 1
	}
	return 0
}

// failuresOf gives those of a run.
func failuresOf(r report.Run) (all []engine.Failure) {
	all = append(all, r.Failures...)
	for _, d := range r.Destinations {
		all = append(all, d.Failures...)
	}
	return all
}

// minute writes a time for people.
func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
