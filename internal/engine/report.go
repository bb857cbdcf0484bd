package engine

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Report tells what a run did, or with Job.DryRun what it would do.
type Report struct {
	DryRun       bool                `json:"dry_run"`
	Copy         bool                `json:"copy,omitempty"` // of a directory as it stood, without a snapshot
	Source       string              `json:"source"`
	Snapshot     string              `json:"snapshot,omitempty"` // the one taken
	Latest       string              `json:"latest,omitempty"`   // what the link to the newest saved snapshot points to
	Skipped      string              `json:"skipped,omitempty"`  // why a hook did not want a phase
	Within       string              `json:"within,omitempty"`   // the subvolume, if the source is a directory in one
	Omitted      []string            `json:"nested,omitempty"`   // subvolumes and mounts in the source that no version of it holds
	Destinations []DestinationReport `json:"destinations,omitempty"`
	Verdicts     []retention.Verdict `json:"verdicts,omitempty"` // on the snapshots
	Deleted      []string            `json:"deleted,omitempty"`
	Failures     []Failure           `json:"failures,omitempty"` // at the source
	Members      []*Report           `json:"members,omitempty"`  // of a set, which itself has no snapshots and backups

	sends bool // there are destinations, and they were to get what they lack
}

// A DestinationReport tells what a run did at one destination.
type DestinationReport struct {
	Destination string              `json:"destination"`
	Absent      string              `json:"absent,omitempty"`    // why it was not served on purpose
	Leftovers   []string            `json:"leftovers,omitempty"` // unfinished backups of earlier runs, deleted
	Transfers   []TransferReport    `json:"transfers,omitempty"`
	Verdicts    []retention.Verdict `json:"verdicts,omitempty"` // on the backups
	Deleted     []string            `json:"deleted,omitempty"`
	OfSet       bool                `json:"of_set,omitempty"`     // this is about all members of a set
	Free        *uint64             `json:"free_bytes,omitempty"` // that could be written before the run saved anything; nil: unknown
	Sets        []SetReport         `json:"sets,omitempty"`
	Failures    []Failure           `json:"failures,omitempty"` // those of transfers stand with these
}

// A SetReport tells of the backups of one name, of all members of a set.
type SetReport struct {
	Name  string   `json:"name"`
	Lacks []string `json:"lacks,omitempty"` // members; none: this run completed it
}

// A TransferReport tells of one transfer.
type TransferReport struct {
	Snapshot   string        `json:"snapshot"`
	Parent     string        `json:"parent,omitempty"`     // none: a complete copy
	Why        string        `json:"why,omitempty"`        // it builds on that, or is complete
	Bytes      int64         `json:"bytes"`                // of the stream
	Wire       int64         `json:"wire_bytes,omitempty"` // that crossed networks
	Resumed    int           `json:"resumed,omitempty"`    // times that the transfer went on after a break
	KeptFor    time.Duration `json:"-"`                    // as in Result
	Kept       bool          `json:"kept,omitempty"`       // of what failed: the destination keeps a part, and the next run goes on there
	Locked     time.Time     `json:"locked_until,omitzero"`
	Unverified bool          `json:"not_verified,omitempty"` // the destination cannot be listed
	Duration   time.Duration `json:"nanoseconds"`
	Failure    *Failure      `json:"failure,omitempty"`
	unchanged  bool
	// Incomplete names files of the source that could not be read, and Missing more of them. The backup holds all others.
	Incomplete *Failure `json:"incomplete,omitempty"`
	Missing    []string `json:"missing,omitempty"`
}

// A Failure is something that went wrong and did not end the run.
type Failure struct{ Err error }

// MarshalJSON writes the error and its hint.
func (f Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}{f.Err.Error(), hint.Of(f.Err)})
}

// UnmarshalJSON reads what MarshalJSON wrote: texts, in which nothing else is found.
func (f *Failure) UnmarshalJSON(content []byte) error {
	var told struct{ Error, Hint string }
	if err := json.Unmarshal(content, &told); err != nil {
		return err
	}
	f.Err = hint.New(errors.New(told.Error), told.Hint)
	return nil
}

func (r *Report) fail(err error) { r.Failures = append(r.Failures, Failure{err}) }

func (s *DestinationReport) fail(err error) { s.Failures = append(s.Failures, Failure{err}) }

// Failed tells that something went wrong there.
func (s *DestinationReport) Failed() bool {
	return len(s.Failures) > 0 || slices.ContainsFunc(s.Transfers, func(t TransferReport) bool { return t.Failure != nil })
}

// savedSome tells that a version arrived, or that the snapshot was taken which was all there was to save.
func (r *Report) savedSome() bool {
	if len(r.Members) > 0 {
		return slices.ContainsFunc(r.Members, (*Report).savedSome)
	}
	return r.Snapshot != "" && !r.sends || slices.ContainsFunc(r.Destinations, func(s DestinationReport) bool {
		return slices.ContainsFunc(s.Transfers, func(t TransferReport) bool { return t.Failure == nil })
	})
}

// madeSome tells that there is a snapshot or a backup more.
func (r *Report) madeSome() bool { return r.Snapshot != "" || r.savedSome() }

// Parts gives the reports on the members of a set before its own, and of any other run the report itself.
func (r *Report) Parts() []*Report { return append(slices.Clone(r.Members), r) }

// AllDestinations gives what was done at each destination, for each member of a set and then for the set. Where nothing was to be
// done, only the set tells so.
func (r *Report) AllDestinations() (all []DestinationReport) {
	for _, member := range r.Members {
		all = append(all, slices.DeleteFunc(slices.Clone(member.Destinations), func(d DestinationReport) bool { return d.Absent != "" })...)
	}
	return append(all, r.Destinations...)
}

// AllFailures gives every failure of the run.
func (r *Report) AllFailures() []Failure {
	var all []Failure
	for _, part := range r.Parts() {
		all = append(all, part.failures()...)
	}
	return all
}

func (r *Report) failures() []Failure {
	all := slices.Clone(r.Failures)
	for _, d := range r.Destinations {
		for _, t := range d.Transfers {
			for _, f := range []*Failure{t.Failure, t.Incomplete} {
				if f != nil {
					all = append(all, *f)
				}
			}
		}
		all = append(all, d.Failures...)
	}
	return all
}

// Err gives every failure of the run, and a hook.SkipError if it was skipped.
func (r *Report) Err() error {
	var errs []error
	for _, f := range r.AllFailures() {
		errs = append(errs, f.Err)
	}
	if r.Skipped != "" {
		errs = append(errs, &hook.SkipError{Reason: r.Skipped})
	}
	return errors.Join(errs...)
}

// Outcome is how a run ended.
type Outcome string

// The outcomes of a run.
const (
	Done        Outcome = "done"
	Partly      Outcome = "partly"      // something was saved, and something failed
	Failed      Outcome = "failed"      // something failed, and nothing was saved
	Busy        Outcome = "busy"        // nothing failed but that other runs held locks
	Interrupted Outcome = "interrupted" // a signal ended it, which no Report knows
)

// Outcome sums the report up.
func (r *Report) Outcome() Outcome {
	failures := r.AllFailures()
	switch {
	case len(failures) == 0:
		return Done
	case !slices.ContainsFunc(failures, func(f Failure) bool { return !lock.IsHeld(f.Err) }):
		return Busy
	case r.savedSome():
		return Partly
	default:
		return Failed
	}
}
