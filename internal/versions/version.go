package versions

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/past"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// Versions are those of a file.
type Versions struct {
	File     string        `json:"file"`
	Looked   int           `json:"places"` // how many were looked into
	Versions []Version     `json:"versions"`
	Called   []Call        `json:"called,omitempty"`          // the names that it had, the last one first
	Closed   []string      `json:"not_looked_into,omitempty"` // places on record that nobody can look into
	Took     time.Duration `json:"nanoseconds"`
}

// A Call is a name that a file had.
type Call struct {
	Path  string    `json:"path"`
	Until time.Time `json:"until"` // of the newest snapshot or backup in which it had it
}

// A Version is a content that the file had, the newest first.
type Version struct {
	Modified time.Time     `json:"modified"`
	Size     int64         `json:"size"`
	Type     manifest.Type `json:"type"`
	SHA256   string        `json:"sha256,omitempty"` // if it was needed
	In       []Occurrence  `json:"in"`               // the newest first

	sha     manifest.Digest
	modTime manifest.Time
	classes map[*side]int
}

// An Occurrence is a snapshot or backup with the version.
type Occurrence struct {
	Place string    `json:"place"`
	Name  string    `json:"name"`
	Path  string    `json:"path"`
	Time  time.Time `json:"time"`
}

// add adds what a side has, and gives what could not be looked into.
func (v *Versions) add(o *side) (failures []error) {
	last := ""
	for _, f := range o.found {
		if f.Failure != "" {
			failures = append(failures, fmt.Errorf("%s/%s: %s", o.name, f.Name, f.Failure))
			continue
		}
		if last != "" && f.Path != last {
			v.called(f.Path, o.times[f.Name])
		}
		last = f.Path
		i := slices.IndexFunc(v.Versions, func(one Version) bool { return one.is(o, f) })
		if i < 0 {
			i = len(v.Versions)
			v.Versions = append(v.Versions, Version{Modified: time.Unix(f.ModTime.Sec, int64(f.ModTime.Nsec)), Size: f.Size, Type: f.Type,
				modTime: f.ModTime, classes: make(map[*side]int)})
		}
		one := &v.Versions[i]
		if f.SHA256 != (manifest.Digest{}) {
			one.sha, one.SHA256 = f.SHA256, fmt.Sprintf("%x", f.SHA256)
		}
		one.classes[o] = f.Content
		one.In = append(one.In, Occurrence{o.name, f.Name, f.Path, o.times[f.Name]})
	}
	return failures
}

// called notes a name.
func (v *Versions) called(name string, until time.Time) {
	i := slices.IndexFunc(v.Called, func(c Call) bool { return c.Path == name })
	switch {
	case i < 0:
		v.Called = append(v.Called, Call{name, until})
	case until.After(v.Called[i].Until):
		v.Called[i].Until = until
	}
}

// is tells that what a side has is this version: as the side numbers contents, or by size, and digest or time.
func (v *Version) is(o *side, f past.Version) bool {
	if class, ok := v.classes[o]; ok {
		return class == f.Content
	}
	if v.Size != f.Size || v.Type != f.Type {
		return false
	}
	if v.sha != (manifest.Digest{}) && f.SHA256 != (manifest.Digest{}) {
		return v.sha == f.SHA256
	}
	return v.modTime == f.ModTime
}

func (v *Versions) sort() {
	for _, one := range v.Versions {
		slices.SortStableFunc(one.In, func(a, b Occurrence) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Name, a.Name)) })
	}
	slices.SortStableFunc(v.Versions, func(a, b Version) int {
		return cmp.Or(b.In[0].Time.Compare(a.In[0].Time), b.Modified.Compare(a.Modified))
	})
}

// Print writes a line for each version: when it was modified, its size, in which snapshots and backups it is, how many these are, and
// where; then the names that the file had, and how to get the newest version back.
func (v Versions) Print(w io.Writer) error {
	if len(v.Versions) == 0 {
		_, err := fmt.Fprintf(w, "%s: in none of %s\n%s", progress.Line(v.File), report.Count(v.Looked, "place"), v.closed())
		return err
	}
	places := v.places()
	var text strings.Builder
	for i, p := range places {
		fmt.Fprintf(&text, "%c  %s\n", mark(i), progress.Line(p))
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	rows := [][]string{{"MODIFIED", "SIZE", "IN", "COUNT", "AT"}}
	for _, one := range v.Versions {
		marks := ""
		for i, p := range places {
			if slices.ContainsFunc(one.In, func(o Occurrence) bool { return o.Place == p }) {
				marks += string(mark(i))
			}
		}
		rows = append(rows, []string{one.Modified.Format("2006-01-02 15:04"), progress.Bytes(one.Size), one.span(), fmt.Sprint(len(one.In)), marks})
	}
	if err := report.WriteColumns(w, rows); err != nil {
		return err
	}
	text.Reset()
	for _, c := range v.Called {
		fmt.Fprintf(&text, "It was called %s until %s.\n", progress.Name(c.Path), c.Until.Format("2006-01-02 15:04"))
	}
	text.WriteString(v.closed())
	text.WriteString(v.wayBack())
	_, err := io.WriteString(w, text.String())
	return err
}

// closed names the places that may hold more versions.
func (v Versions) closed() (text string) {
	for _, p := range v.Closed {
		text += "Not looked into: " + progress.Line(p) + "\n"
	}
	return text
}

// mark stands for a place in the table.
func mark(i int) rune { return 'a' + rune(i%26) }

// places gives those that have a version, in the order in which they are met.
func (v Versions) places() (all []string) {
	for _, one := range v.Versions {
		for _, o := range one.In {
			if !slices.Contains(all, o.Place) {
				all = append(all, o.Place)
			}
		}
	}
	slices.Sort(all)
	return all
}

// span names the oldest and the newest that have it.
func (v Version) span() string {
	newest, oldest := v.In[0].Name, v.In[len(v.In)-1].Name
	if newest == oldest {
		return progress.Name(newest)
	}
	return progress.Name(oldest) + " ... " + progress.Name(newest)
}

// wayBack tells the command that restores the newest version.
func (v Versions) wayBack() string {
	newest := v.Versions[0].In[0]
	return "To get the newest back: " + progress.Line(transport.Quote("btrfs-backup", "restore", newest.Place+"/"+newest.Name, "--path", newest.Path)) + "\n"
}
