package inventory

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

const (
	usageDays = 30 // that a usage looks back, and ahead
	day       = 24 * time.Hour
	farAhead  = 50 * 365 // days: who can tell?
)

// A Usage tells what a place is used for.
type Usage struct {
	Place   string        `json:"place"`
	Free    uint64        `json:"free"`
	Stored  bool          `json:"stored,omitempty"` // in a store, which is never full
	Sources []SourceUsage `json:"sources"`
	Growth  *int64        `json:"growth_per_day,omitempty"` // bytes that came, of the last 30 days
	Frees   *int64        `json:"frees_per_day,omitempty"`  // bytes that go by policy, of the next 30 days
	Full    time.Time     `json:"full,omitzero"`            // about then, at this rate
	Why     string        `json:"unknown,omitempty"`        // why it is not known when that is; "" also if it never is
}

// A SourceUsage tells what the snapshots or backups of one source in a folder take.
type SourceUsage struct {
	Folder    string    `json:"folder"`
	Source    string    `json:"source"` // "?": it is not on record
	Kind      Kind      `json:"kind"`
	Count     int       `json:"count"`
	Oldest    time.Time `json:"oldest,omitzero"`
	Newest    time.Time `json:"newest,omitzero"`
	Exclusive *uint64   `json:"exclusive,omitempty"` // bytes of data that deleting all of them would free
	Goes      *int      `json:"goes,omitempty"`      // how many the policy gives up in the next 30 days
	Frees     *uint64   `json:"frees,omitempty"`     // what that frees
	Growth    *int64    `json:"growth_per_day,omitempty"`

	names, going, young []string
	span                time.Duration // in which the young ones came
	sent                int64         // bytes, of them
}

// Usage tells what the place and the folders of backups in it are used for. policyOf gives the policy for a folder, and none where it is
// not known.
func (p Place) Usage(ctx context.Context, policyOf func(Place) Policy, now time.Time) (Usage, error) {
	u := Usage{Place: p.Folder, Free: p.Free, Sources: []SourceUsage{}}
	for _, folder := range append([]Place{p}, p.Below...) {
		of := folder
		if p.IsMember(folder) {
			of = p
		}
		sources, err := folder.sourceUsages(policyOf, of, now)
		if err != nil {
			return u, err
		}
		for i := range sources {
			if err := folder.measure(ctx, &sources[i]); err != nil {
				return u, err
			}
		}
		u.Sources = append(u.Sources, sources...)
	}
	if u.Stored = p.Stored; !u.Stored {
		u.foresee(now)
	}
	return u, nil
}

// sourceUsages sorts the entries of a folder by their sources. What goes is decided in a place that may be the folder of the sets that
// it is a member of.
func (p Place) sourceUsages(policyOf func(Place) Policy, decideIn Place, now time.Time) (all []SourceUsage, err error) {
	policy := policyOf(decideIn)
	policy.Days = usageDays
	goes := make(map[string]bool)
	decided, err := decideIn.Decide(policy, now)
	if err != nil {
		return nil, err
	}
	for _, d := range decided {
		goes[d.Name] = !d.Keep || !d.Goes.IsZero() && d.Goes.Before(now.AddDate(0, 0, usageDays))
	}
	entries, _ := p.Noted(policy.Prefix) // what cannot be read, Decide told
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	bySource := make(map[string]int)
	nameOf := p.sourceNames()
	for _, e := range entries {
		if e.Kind != Snapshot && e.Kind != Backup {
			continue
		}
		source := nameOf(e)
		i, ok := bySource[string(e.Kind)+source]
		if !ok {
			i = len(all)
			bySource[string(e.Kind)+source] = i
			all = append(all, SourceUsage{Folder: p.Folder, Source: source, Kind: e.Kind, Oldest: e.Time})
		}
		s := &all[i]
		s.Count++
		s.Newest = e.Time
		s.names = append(s.names, e.Name)
		if goes[e.Name] {
			s.going = append(s.going, e.Name)
		}
	}
	for i := range all {
		s := &all[i]
		keep := policy.Backups
		if s.Kind == Snapshot {
			keep = policy.Snapshots
		}
		if keep != (retention.Policy{}) {
			n := len(s.going)
			s.Goes = &n
		}
		s.lately(entries, now)
	}
	return all, nil
}

// lately sets what came since the newest that is older than some days, or else since the first one.
func (s *SourceUsage) lately(entries []Entry, now time.Time) {
	begin := s.Oldest
	for _, e := range entries {
		if slices.Contains(s.names, e.Name) && !e.Time.After(now.AddDate(0, 0, -usageDays)) {
			begin = e.Time
		}
	}
	sentAll := true
	for _, e := range entries {
		if !slices.Contains(s.names, e.Name) || !e.Time.After(begin) {
			continue
		}
		s.young = append(s.young, e.Name)
		sentAll = sentAll && e.Sent != nil
		if e.Sent != nil {
			s.sent += *e.Sent
		}
	}
	s.span = s.Newest.Sub(begin)
	if !sentAll {
		s.sent = -1
	}
}

// measure asks what the backups of a source take, those that go, and those that came lately.
func (p Place) measure(ctx context.Context, s *SourceUsage) error {
	freed, err := p.Freed(ctx, [][]string{s.names, s.going, s.young}, 0)
	if err != nil {
		return err
	}
	known := func(bytes int64) *uint64 {
		if bytes == host.UnknownSpace {
			return nil
		}
		n := uint64(bytes)
		return &n
	}
	s.Exclusive = known(freed[0])
	if s.Goes != nil {
		s.Frees = known(freed[1])
	}
	came := cmp.Or(freed[2], 0)
	if came == host.UnknownSpace {
		came = s.sent
	}
	if s.span >= day && came >= 0 {
		perDay := int64(float64(came) / (float64(s.span) / float64(day)))
		s.Growth = &perDay
	}
	return nil
}

// foresee tells when the place is full.
func (u *Usage) foresee(now time.Time) {
	growth, frees, freesKnown := int64(0), int64(0), false
	for _, s := range u.Sources {
		if s.Growth == nil {
			u.Why = fmt.Sprintf("what %s of %s grew by is not known", s.Folder, s.Source)
			if s.span < day {
				u.Why = fmt.Sprintf("%s has backups of %s of less than a day", s.Folder, s.Source)
			}
			continue
		}
		growth += *s.Growth
		if s.Frees != nil {
			freesKnown = true
			frees += int64(*s.Frees) / usageDays
		}
	}
	if len(u.Sources) == 0 {
		u.Why = "there are no backups"
	}
	if u.Why != "" {
		return
	}
	u.Growth = &growth
	if freesKnown {
		u.Frees = &frees
	}
	if net := growth - frees; net > 0 {
		if days := int64(u.Free) / net; days < farAhead {
			u.Full = now.AddDate(0, 0, int(days))
		}
	}
}

// Write tells people of it.
func (u Usage) Write(w io.Writer) error {
	room, exclusive := progress.Bytes(int64(u.Free))+" free", "EXCLUSIVE"
	if u.Stored {
		room, exclusive = progress.Bytes(int64(u.taken()))+" stored", "STORED"
	}
	fmt.Fprintf(w, "%s: %s\n", progress.Line(u.Place), room)
	rows := [][]string{{"FOLDER", "OF", "KEPT", exclusive, fmt.Sprintf("GO IN %d DAYS", usageDays), "WHICH FREES"}}
	for _, s := range u.Sources {
		name := cmp.Or(strings.TrimPrefix(strings.TrimPrefix(s.Folder, u.Place), "/"), ".")
		goes := "unknown"
		if s.Goes != nil {
			goes = fmt.Sprint(*s.Goes)
		}
		rows = append(rows, []string{progress.Name(name), progress.Line(s.Source), fmt.Sprint(s.Count), bytesOrUnknown(s.Exclusive), goes,
			orDash(bytesOrUnknown(s.Frees), s.Goes == nil)})
	}
	if len(u.Sources) > 0 {
		if err := report.WriteColumns(w, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, progress.Line(u.outlook()))
	return err
}

// taken sums up what all sources take.
func (u Usage) taken() (bytes uint64) {
	for _, s := range u.Sources {
		if s.Exclusive != nil {
			bytes += *s.Exclusive
		}
	}
	return bytes
}

func bytesOrUnknown(n *uint64) string {
	if n == nil {
		return "unknown"
	}
	return progress.Bytes(int64(*n))
}

// outlook tells when the place is full.
func (u Usage) outlook() string {
	switch {
	case u.Stored:
		return u.outlookOfStore()
	case u.Why != "":
		return "When it is full is unknown: " + u.Why
	}
	text := fmt.Sprintf("%s came a day lately", progress.Bytes(*u.Growth))
	if u.Frees != nil {
		text += fmt.Sprintf(", %s will go: ", progress.Bytes(*u.Frees))
	} else {
		text += ", and no policy is known: "
	}
	if u.Full.IsZero() {
		return text + "not full in 50 years"
	}
	return text + "full about " + u.Full.Format(time.DateOnly)
}

// outlookOfStore tells what came lately, as far as that is known.
func (u Usage) outlookOfStore() string {
	var growth int64
	for _, s := range u.Sources {
		if s.Growth == nil {
			return "What comes a day is known when there are backups of more than a day"
		}
		growth += *s.Growth
	}
	return progress.Bytes(growth) + " came a day lately"
}
