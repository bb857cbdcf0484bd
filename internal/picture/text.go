package picture

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
)

const (
	columns  = 80
	fewRuns  = 3 // of a job
	titleLen = 11
)

// text is what is written for a terminal: no line is wider than it is, and none does anything to it.
type text struct{ strings.Builder }

// line writes one, broken between words where it is too long, with further lines indented.
func (t *text) line(indent int, format string, args ...any) {
	rest, at := progress.Line(fmt.Sprintf(format, args...)), indent
	for {
		room := columns - at
		if utf8.RuneCountInString(rest) <= room {
			t.WriteString(strings.Repeat(" ", at) + rest + "\n")
			return
		}
		runes := []rune(rest)
		end := room
		if blank := strings.LastIndexByte(string(runes[:room+1]), ' '); blank > 0 {
			end = utf8.RuneCountInString(string(runes[:room+1])[:blank])
		}
		t.WriteString(strings.Repeat(" ", at) + string(runes[:end]) + "\n")
		rest, at = strings.TrimPrefix(string(runes[end:]), " "), indent+2
	}
}

// WriteText shows a picture on a terminal of 80 columns, without colours.
func (p Picture) WriteText(w io.Writer) error {
	var t text
	t.line(0, "Backups of %s, %s: %s", cmp.Or(p.Machine, "this machine"), minute(p.Time), p.verdict())
	for _, one := range p.Warnings {
		t.line(0, "! %s", one.line())
		if one.Hint != "" {
			t.line(2, "hint: %s", one.Hint)
		}
	}
	for _, r := range p.Running {
		t.running(r, p.Time)
	}
	for _, j := range p.Jobs {
		t.job(j, p)
	}
	t.WriteString("\nOf each week, the number of days with a backup: '.' none, 'x' a damaged or\nincomplete one. btrfs-backup report --html FILE shows each day, and why.\n")
	_, err := io.WriteString(w, t.String())
	return err
}

// verdict sums up.
func (p Picture) verdict() string {
	places, fine := 0, 0
	for _, j := range p.Jobs {
		for _, at := range j.Places {
			if at.State != "" {
				places++
				if at.State.IsFine() {
					fine++
				}
			}
		}
	}
	switch {
	case places == 0:
		return "there is no job"
	case fine == places:
		return fmt.Sprintf("all is good at %s", report.Count(places, "destination"))
	}
	return fmt.Sprintf("%d of %s not good", places-fine, report.Count(places, "destination"))
}

func (w Warning) line() string {
	if w.about == nil {
		return fmt.Sprintf("%s: %s", w.Job, w.Text)
	}
	return fmt.Sprintf("%s: %s: %s", w.Job, w.about.Name(), w.Text)
}

func (t *text) running(r underway.Run, now time.Time) {
	t.line(0, "> %s, under way for %s (process %d)", runTitle(r), report.Span(max(0, now.Sub(r.Began))), r.PID)
	for _, n := range r.Transfers {
		t.line(2, "%s: %s", n.Title, n.Sentence())
	}
}

// runTitle names a run.
func runTitle(r underway.Run) string {
	if r.Job == "" {
		return r.Source
	}
	return "job " + r.Job
}

func (t *text) job(j Job, p Picture) {
	t.WriteByte('\n')
	title := j.Name + "  " + j.Source
	if j.Every != "" {
		title += ", " + j.Every
	}
	t.line(0, "%s", title)
	for _, at := range j.Places {
		t.place(at, p)
	}
	for _, r := range j.Runs[:min(fewRuns, len(j.Runs))] {
		t.line(2, "%s  %s", minute(r.Time), r.Line())
	}
}

func (t *text) place(at Place, p Picture) {
	t.line(2, "%s", strings.Join(append([]string{at.Name()}, at.facts(p.Time)...), ", "))
	if len(at.Versions) > 0 {
		present := at.Present(p.Time)
		t.months(present)
		t.strip("now", present)
		if n := len(present.Before); n > 0 {
			t.line(titleLen+4, "and %d older, the oldest of %s", n, present.Before[n-1].Time.Local().Format(time.DateOnly))
		}
	}
	if len(at.Outlook) > 0 {
		t.strip("in a year", at.Future(p.OutlookAt()))
	}
	if more := at.more(p.Time); len(more) > 0 {
		t.line(4, "%s", strings.Join(more, "; "))
	}
}

func (t *text) strip(title string, c *Calendar) {
	cells := []byte(strings.Repeat(".", weeks))
	for w := range cells {
		if n := c.daysIn(w); n > 0 {
			cells[w] = '0' + byte(n)
		}
		if slices.ContainsFunc(c.Days[w*perWeek:(w+1)*perWeek], func(d Day) bool { return d.Fate == Defective }) {
			cells[w] = 'x'
		}
	}
	fmt.Fprintf(t, "    %-*s%s\n", titleLen, title, cells)
}

// months writes the months over a strip, but those that have no room behind the one before.
func (t *text) months(c *Calendar) {
	names, line := c.months(), ""
	for week := range weeks {
		if name := names[week]; name != "" && (line == "" || len(line) < week) && week+len(name) <= weeks+2 {
			line += strings.Repeat(" ", week-len(line)) + name
		}
	}
	fmt.Fprintf(t, "    %*s%s\n", titleLen, "", line)
}

// facts tell in a few words how a place stands.
func (p Place) facts(now time.Time) (all []string) {
	if p.State != "" {
		all = append(all, p.Words())
	}
	switch {
	case p.State == "" || p.IsSource():
		all = append(all, report.Count(len(p.Versions), "snapshot"))
	case !p.Newest.IsZero():
		all = append(all, report.Age(p.Newest, now)+" old")
		fallthrough
	default:
		if p.Asked {
			all = append(all, fmt.Sprintf("%d kept", p.Backups))
		}
	}
	if p.Free != nil {
		all = append(all, progress.Bytes(int64(*p.Free))+" free")
	}
	if !p.NextDue.IsZero() {
		all = append(all, "next "+nextDate(p.NextDue, now))
	}
	return all
}

// nextDate tells when something is due.
func nextDate(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return minute(t)
}

// more tells what else there is in words.
func (p Place) more(now time.Time) (all []string) {
	if next := p.NextToGo(); next != nil && next.Keep {
		all = append(all, fmt.Sprintf("goes next: %s on %s", next.Name, next.Goes.Local().Format(time.DateOnly)))
	} else if next != nil {
		all = append(all, "goes with the next run: "+next.Name)
	}
	if bytes, runs := p.SentSince(now.AddDate(0, 0, -soon)); runs > 0 {
		all = append(all, fmt.Sprintf("%s sent by %s in %d days", progress.Bytes(bytes), report.Count(runs, "run"), soon))
	}
	if last := p.Verified(); last != nil {
		all = append(all, fmt.Sprintf("verified %s: %s", last.Verified.Local().Format(time.DateOnly), last.Name))
	}
	if p.State != "" || len(p.Versions) > 0 {
		all = append(all, "policy: "+cmp.Or(p.Policy, "keep all"))
	}
	return all
}
