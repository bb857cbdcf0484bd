// Package picture shows what there is of backups: of each job, at each destination, what is there and until when, what a policy will
// leave, what was sent, what runs told, and first of all what is wrong.
//
// A Picture is a value, made in one place from what others know: package standing judges, package inventory decides what stays. Three
// views show that value: a page for browsers, text for terminals, and JSON. Nothing is locked or changed. What comes from other
// machines is escaped by each view.
package picture

import (
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
)

// A Picture is what was seen at a time.
type Picture struct {
	Time     time.Time      `json:"time"`
	Machine  string         `json:"machine"`  // this one
	Warnings []Warning      `json:"warnings"` // the worst first
	Running  []underway.Run `json:"running"`  // by this user
	Jobs     []Job          `json:"jobs"`
}

// A Warning is something that is to be looked at.
type Warning struct {
	Job         string `json:"job"`
	Destination string `json:"destination,omitempty"`
	Text        string `json:"text"`
	Hint        string `json:"hint,omitempty"`
	Severe      bool   `json:"severe"` // there is no good backup

	about *Place // nil: the job
}

// A Job is one of the configuration.
type Job struct {
	Name   string       `json:"job"`
	Source string       `json:"source"`
	Every  string       `json:"every,omitempty"` // "": when somebody wants it
	Places []Place      `json:"places"`
	Runs   []report.Run `json:"runs"` // the last ones, newest first, also those by hand
}

// A Place is a destination, or the source with its snapshots, which has no Destination.
type Place struct {
	standing.Place
	Folder   string          `json:"folder,omitempty"`          // that was listed
	Policy   string          `json:"policy,omitempty"`          // "": all are kept
	Versions []Version       `json:"versions"`                  // newest first
	Outlook  []time.Time     `json:"outlook,omitempty"`         // what the policy will have left OutlookAt, oldest first
	Sent     []Amount        `json:"sent"`                      // by runs on record, oldest first
	Room     []Amount        `json:"free"`                      // bytes that runs found free, oldest first
	Unlisted *engine.Failure `json:"listing_failure,omitempty"` // why the versions are not known, or not all of them
}

// IsSource tells that the snapshots at the source are meant.
func (p Place) IsSource() bool { return p.Destination == "" }

// OutlookAt is when a picture foresees what the policy will have left.
func (p Picture) OutlookAt() time.Time { return p.Time.AddDate(1, 0, 0) }

// An Amount is a number of bytes at a time.
type Amount struct {
	Time  time.Time `json:"time"`
	Bytes int64     `json:"bytes"`
}

// A Version is a snapshot, a backup, or a set of backups.
type Version struct {
	Name     string    `json:"name"`
	Time     time.Time `json:"time"`
	Complete bool      `json:"complete"`
	OnRecord bool      `json:"on_record,omitempty"` // nobody looked; what follows is not known, but for what was sent
	Keep     bool      `json:"keep"`                // the next run does not delete it
	Why      []string  `json:"reasons,omitempty"`
	Goes     time.Time `json:"goes,omitzero"` // when a run will delete it; zero: it stays as far as is foreseen
	Sent     *int64    `json:"sent_bytes,omitempty"`
	Freed    *uint64   `json:"freed_bytes,omitempty"` // by deleting it alone
	Size     *uint64   `json:"size_bytes,omitempty"`
	Files    int64     `json:"files,omitempty"` // of a directory
	New      *int64    `json:"new_bytes,omitempty"`
	Linked   *int64    `json:"linked_bytes,omitempty"` // of its files that were there already, and take no space once more
	Verified time.Time `json:"verified,omitzero"`
	Damaged  bool      `json:"damaged,omitempty"`
	Notes    []string  `json:"notes,omitempty"`
}

// Verified gives the version that was verified last; nil if none was.
func (p Place) Verified() (last *Version) {
	for i, v := range p.Versions {
		if !v.Verified.IsZero() && (last == nil || v.Verified.After(last.Verified)) {
			last = &p.Versions[i]
		}
	}
	return last
}

// NextToGo gives the version that a run will delete next; nil if none is.
func (p Place) NextToGo() (next *Version) {
	for i, v := range p.Versions {
		switch {
		case v.OnRecord || v.Keep && v.Goes.IsZero():
		case next == nil, !v.Keep, next.Keep && !v.Goes.After(next.Goes):
			next = &p.Versions[i]
		}
	}
	return next
}

// SentSince sums up what was sent since a time.
func (p Place) SentSince(t time.Time) (bytes int64, runs int) {
	for _, a := range p.Sent {
		if !a.Time.Before(t) {
			bytes, runs = bytes+a.Bytes, runs+1
		}
	}
	return bytes, runs
}
