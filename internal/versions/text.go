package versions

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// A Difference is what differs between two snapshots or backups.
type Difference struct {
	Member    string        `json:"member,omitempty"` // of the sets that they are of
	From      string        `json:"from"`
	To        string        `json:"to"`
	Backwards bool          `json:"backwards,omitempty"` // From is newer
	Changes   []Change      `json:"changes"`
	Count     changes.Count `json:"count"`
	// LookSame are files that were made anew with the size and time that they had. They are not among the Changes.
	LookSame int           `json:"look_same,omitempty"`
	Took     time.Duration `json:"nanoseconds"`
}

// A Change is one of them.
type Change changes.Change

// MarshalJSON gives paths that are no text as bytes, too.
func (c Change) MarshalJSON() ([]byte, error) {
	type text struct {
		Kind     changes.Kind  `json:"kind"`
		Path     string        `json:"path"`
		RawPath  []byte        `json:"path_base64,omitempty"`
		From     string        `json:"from,omitempty"`
		RawFrom  []byte        `json:"from_base64,omitempty"`
		Type     manifest.Type `json:"type"`
		Content  bool          `json:"content,omitempty"`
		Metadata bool          `json:"metadata,omitempty"`
		Times    bool          `json:"times,omitempty"`
		Was      *int64        `json:"old_size,omitempty"`
		Is       *int64        `json:"size,omitempty"`
	}
	t := text{Kind: c.Kind, Path: c.Path, From: c.From, Type: c.Type, Content: c.Content, Metadata: c.Metadata, Times: c.Times,
		RawPath: raw(c.Path), RawFrom: raw(c.From)}
	if c.Type == manifest.Regular && c.Kind != changes.Created {
		t.Was = &c.Was
	}
	if c.Type == manifest.Regular && c.Kind != changes.Deleted {
		t.Is = &c.Is
	}
	return json.Marshal(t)
}

// raw gives a path if it is no text.
func raw(path string) []byte {
	if utf8.ValidString(path) {
		return nil
	}
	return []byte(path)
}

// Legend explains the letters of Print, for help.
const Legend = `A added, D deleted, R renamed, M content changed, P only mode, owner or
attributes, T only the time`

// letters are those of Legend that say what became of it.
func (c Change) letters() string {
	modified := "T"
	switch {
	case c.Content:
		modified = "M"
	case c.Metadata:
		modified = "P"
	}
	switch c.Kind {
	case changes.Created:
		return "A"
	case changes.Deleted:
		return "D"
	case changes.Renamed:
		if c.Content || c.Metadata {
			return "R" + modified
		}
		return "R"
	}
	return modified
}

// name shows a path. That of a directory ends in a slash.
func (c Change) name(path string) string {
	if c.Type == manifest.Directory {
		path += "/"
	}
	return progress.Name(path)
}

// size tells what became of the size.
func (c Change) size() string {
	switch {
	case c.Type != manifest.Regular:
		return ""
	case c.Kind == changes.Created:
		return progress.Bytes(c.Is)
	case c.Kind == changes.Deleted:
		return progress.Bytes(c.Was)
	case !c.Content:
		return ""
	case progress.Bytes(c.Was) == progress.Bytes(c.Is):
		return progress.Bytes(c.Is)
	}
	return progress.Bytes(c.Was) + " -> " + progress.Bytes(c.Is)
}

const width = 80

// Print writes a line for each change, and how many there are; with stat, the sums alone.
func (d Difference) Print(w io.Writer, stat bool) error {
	var text strings.Builder
	if d.Member != "" {
		fmt.Fprintf(&text, "%s:\n", progress.Name(d.Member))
	}
	if stat {
		d.writeSums(&text)
	} else {
		d.writeChanges(&text)
	}
	if d.LookSame > 0 {
		fmt.Fprintf(&text, "%s made anew with the same size and time: not shown\n", report.Count(d.LookSame, "file"))
	}
	fmt.Fprintf(&text, "%s%s in %s\n", report.Count(d.Count.Changes(), "change"), d.direction(), seconds(d.Took))
	_, err := io.WriteString(w, text.String())
	return err
}

func (d Difference) direction() string {
	if d.Backwards {
		return ", from the newer one back to the older,"
	}
	return ""
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// writeChanges puts sizes below each other, unless names are too long for that.
func (d Difference) writeChanges(text *strings.Builder) {
	const letters = 3
	column := 0
	for _, c := range d.Changes {
		if n := utf8.RuneCountInString(c.name(c.first())); letters+n+2+utf8.RuneCountInString(c.target()) <= width {
			column = max(column, n)
		}
	}
	for _, c := range d.Changes {
		line := fmt.Sprintf("%-*s%-*s  %s", letters, c.letters(), column, c.name(c.first()), c.target())
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// first is the path that a line begins with.
func (c Change) first() string {
	if c.Kind == changes.Renamed {
		return c.From
	}
	return c.Path
}

// target is what stands behind the name.
func (c Change) target() string {
	if c.Kind == changes.Renamed {
		return strings.TrimRight("-> "+c.name(c.Path)+"  "+c.size(), " ")
	}
	return c.size()
}

func (d Difference) writeSums(text *strings.Builder) {
	for _, l := range []struct {
		what  string
		n     int
		bytes string
	}{
		{"added", d.Count.Created, progress.Bytes(d.Count.BytesCreated)},
		{"deleted", d.Count.Deleted, progress.Bytes(d.Count.BytesDeleted)},
		{"renamed", d.Count.Renamed, ""},
		{"changed", d.Count.Modified, grown(d.Count.BytesGrown)},
	} {
		if l.n > 0 {
			text.WriteString(strings.TrimRight(fmt.Sprintf("%-8s %8d  %s", l.what, l.n, l.bytes), " ") + "\n")
		}
	}
}

// grown tells by how much files grew or shrank.
func grown(n int64) string {
	switch {
	case n > 0:
		return progress.Bytes(n) + " more"
	case n < 0:
		return progress.Bytes(-n) + " less"
	}
	return "of the same size"
}
