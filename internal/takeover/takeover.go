// Package takeover makes a configuration for this program of one for another: btrbk, Very Hungry Pi, rsync-system-backup, PiServer
// Backup. It reads text and gives text, and for what is only known here (subvolumes that match a pattern) looks at directories; it
// runs and writes nothing.
//
// Each line that it read is in the text: above the key that it became, or in a remark. What has no counterpart is never left out
// in silence ("not taken over"), and input that the other program would refuse is an error with its line.
package takeover

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// A Result is a configuration in TOML.
type Result struct {
	Text string
	Left int // how many lines were not taken over
}

// origin is what a key or a remark is made of: a line of a file, or a word of a command line, which has no number.
type origin struct {
	line int
	text string
}

func (o origin) String() string {
	if o.line == 0 {
		return quoted(o.text)
	}
	return fmt.Sprintf("line %d %s", o.line, quoted(o.text))
}

// quoted puts a text on one line of printable characters, in quotes of the kind that shows it as it is.
func quoted(text string) string {
	return `"` + strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)), " ") + `"`
}

// A verdict is what becomes of a line that is no key.
type verdict struct {
	left bool // not taken over; else it is not needed
	why  string
}

func left(why string) verdict { return verdict{true, why} }
func idle(why string) verdict { return verdict{false, why} }

type remark struct {
	of origin
	verdict
}

// document is a configuration in the making.
type document struct {
	program string
	name    string // of the file that is read
	remarks []remark
	tables  []*table

	complaints job.Complaints
}

// table is one of TOML: "job.home", or "[job.home.hook]" for one of several of that name; the one without a name comes first.
type table struct {
	name    string
	entries []entry
}

// entry is a key with what it is made of; without a key it is a comment.
type entry struct {
	key, value string
	of         []origin
	note       string
}

// complain refuses what is at a line.
func (d *document) complain(line int, forward, format string, args ...any) {
	d.complaints.Add("", forward, "%s:%d: "+format, append([]any{d.name, line}, args...)...)
}

// lines gives the lines of a file that people can read.
func (d *document) lines(content []byte) []string {
	lines := strings.Split(string(content), "\n")
	for i, line := range lines {
		if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
			d.complain(i+1, "is it the file that is meant?", "this is no text in UTF-8")
			line = ""
		}
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

func (d *document) remark(of origin, v verdict) {
	if r := (remark{of, v}); !slices.Contains(d.remarks, r) {
		d.remarks = append(d.remarks, r)
	}
}

// mentions tells that a line is above a key, or in a remark.
func (d *document) mentions(of origin) bool {
	for _, t := range d.tables {
		for _, e := range t.entries {
			if slices.Contains(e.of, of) {
				return true
			}
		}
	}
	return slices.ContainsFunc(d.remarks, func(r remark) bool { return r.of == of })
}

// table adds a table; parts become its name, quoted where they must be.
func (d *document) table(parts ...string) *table {
	for i, part := range parts {
		parts[i] = key(part)
	}
	t := &table{name: strings.Join(parts, ".")}
	d.tables = append(d.tables, t)
	return t
}

// set adds a key, unless its value is the zero value of its kind.
func (t *table) set(key string, value any, of ...origin) {
	text := written(value)
	if slices.Contains([]string{`""`, "[]", "false"}, text) && key != "auto" {
		return
	}
	t.entries = append(t.entries, entry{key: key, value: text, of: of})
}

// note adds a comment.
func (t *table) note(format string, args ...any) {
	t.entries = append(t.entries, entry{note: fmt.Sprintf(format, args...)})
}

// result writes the document, with how to go on.
func (d *document) result() (Result, error) {
	if err := d.complaints.Err(); err != nil {
		return Result{}, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Made from %s by btrfs-backup import %s.\n", quoted(d.name), d.program)
	b.WriteString("# Read it, put it into /etc/btrfs-backup/conf.d, and look: btrfs-backup config check;\n" +
		"# btrfs-backup run --dry-run. Then stop what starts the other program.\n")
	r := Result{}
	slices.SortStableFunc(d.remarks, func(a, b remark) int { return a.of.line - b.of.line })
	for _, one := range d.remarks {
		how := "not needed"
		if one.left {
			how = "not taken over"
			r.Left++
		}
		fmt.Fprintf(&b, "# %s: %s (%s)\n", how, one.of, one.why)
	}
	for _, t := range d.tables {
		t.write(&b)
	}
	r.Text = b.String()
	return r, nil
}

func (t *table) write(b *bytes.Buffer) {
	if b.WriteByte('\n'); t.name != "" {
		fmt.Fprintf(b, "[%s]\n", t.name)
	}
	for _, e := range t.entries {
		for _, of := range e.of {
			fmt.Fprintf(b, "# %s\n", of)
		}
		if e.note != "" {
			fmt.Fprintf(b, "# %s\n", e.note)
		}
		if e.key != "" {
			fmt.Fprintf(b, "%s = %s\n", key(e.key), e.value)
		}
	}
}

// written gives a text, a list of texts, a table of texts, or a truth value as in TOML.
func written(value any) string {
	switch value := value.(type) {
	case string:
		var b bytes.Buffer
		e := json.NewEncoder(&b) // the escapes of JSON are some of TOML's
		e.SetEscapeHTML(false)
		_ = e.Encode(value) // a text can be encoded
		return strings.ReplaceAll(strings.TrimSpace(b.String()), "\x7f", `\u007f`)
	case []string:
		texts := make([]string, len(value))
		for i, text := range value {
			texts[i] = written(text)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case [][2]string:
		texts := make([]string, len(value))
		for i, pair := range value {
			texts[i] = key(pair[0]) + " = " + written(pair[1])
		}
		return "{ " + strings.Join(texts, ", ") + " }"
	}
	return fmt.Sprint(value)
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func key(text string) string {
	if bare.MatchString(text) {
		return text
	}
	return written(text)
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// jobName makes the name of a job of the first text that gives one, and a new one if it is taken.
func (d *document) jobName(texts ...string) string {
	name := "job"
	for _, text := range texts {
		if plain := strings.Trim(notInName.ReplaceAllString(text, "-"), "-"); plain != "" {
			const longest = 60 // and room for a number
			name = plain[:min(len(plain), longest)]
			break
		}
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(d.tables, func(t *table) bool { return t.name == "job."+name })
	}
	free := name
	for n := 2; taken(free); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}
