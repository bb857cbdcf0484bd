package picture

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

const (
	pitch    = 12 // of cells, in units of the drawing
	cell     = 10
	height   = 60 // of a chart
	mostRows = 500
	mostLine = 6 // of what is told of a day
)

type pagePlace struct {
	Place
	ID, Name, Mood, Words, Short, Count string
	IsCopy                              bool // of a directory
	Facts                               []string
	Present, Future                     *drawing
	Sent, Room                          *drawing
	Rows                                []row
}

// A drawing is a calendar or a chart.
type drawing struct {
	Title, Label, Path, Before string
	Months                     []month
	Groups                     []group
	Bars                       []bar
}

type month struct{ X, Name string }

// A group is what is drawn alike.
type group struct {
	Class string
	Cells []pageCell
}

type pageCell struct {
	Title string
	X, Y  int
}

type bar struct {
	X, Y, Height int
	Title        string
}

// A row tells of a version.
type row struct {
	Name, Text, Mood string
	Cells            []string
}

// classes are those of cells.
var classes = [...]string{Leaves: "g", Soon: "o", Later: "l", Stays: "y", Recorded: "r", Defective: "x"}

func (p Picture) pagePlace(at Place, id string) pagePlace {
	noun := "backup"
	if at.IsSource() {
		noun = "snapshot"
	}
	one := pagePlace{Place: at, ID: id, Name: at.Name(), Mood: mood(at.State), Facts: append(at.facts(p.Time), at.more(p.Time)...), Count: report.Count(len(at.Versions), noun)}
	one.IsCopy = slices.ContainsFunc(at.Versions, func(v Version) bool { return v.Files > 0 })
	if at.State != "" {
		one.Words, one.Facts = at.Words(), one.Facts[1:]
		one.Short = strings.Join(one.Facts[:min(2, len(one.Facts))], ", ")
	}
	if len(at.Versions) > 0 {
		one.Present = at.drawPresent(p.Time, noun)
	}
	if len(at.Outlook) > 0 {
		one.Future = at.drawFuture(p.OutlookAt(), noun)
	}
	if len(at.Sent) > 0 {
		one.Sent = at.drawSent(p.Time)
	}
	if len(at.Room) > 1 {
		one.Room = at.drawRoom(p.Time)
	}
	for _, v := range at.Versions[:min(mostRows, len(at.Versions))] {
		one.Rows = append(one.Rows, v.row(one.IsCopy))
	}
	return one
}

func (v Version) row(isCopy bool) row {
	r := row{Name: v.Name, Text: strings.Join(append(v.marks(), v.until()), "; ")}
	if v.Damaged || !v.Complete && !v.OnRecord {
		r.Mood = "bad"
	}
	size := func(n *int64) string {
		if n == nil {
			return ""
		}
		return progress.Bytes(*n)
	}
	unsigned := func(n *uint64) string {
		if n == nil {
			return ""
		}
		return progress.Bytes(int64(*n))
	}
	if r.Cells = []string{size(v.Sent), unsigned(v.Freed)}; isCopy {
		r.Cells = []string{fmt.Sprint(v.Files), unsigned(v.Size), size(cmp.Or(v.New, v.Sent)), size(v.Linked)}
	}
	return r
}

func (p Place) drawPresent(now time.Time, noun string) *drawing {
	c := p.Present(now)
	d := &drawing{Title: "There is, from " + c.Begin.Format(time.DateOnly) + " on", Months: monthsOf(c)}
	counts := make(map[Fate]int)
	var cells [len(classes)][]pageCell
	for i, day := range c.Days {
		if day.Fate != Empty {
			cells[day.Fate] = append(cells[day.Fate], pageCell{c.title(i), i / perWeek * pitch, i % perWeek * pitch})
		}
	}
	for fate, all := range cells {
		if len(all) > 0 {
			d.Groups = append(d.Groups, group{classes[fate], all})
		}
	}
	for _, v := range p.Versions {
		counts[v.fate(now)]++
	}
	d.Label = fmt.Sprintf("Calendar of %s: %d stay, %d go later, %d within %d days, %d with the next run, %d are damaged or not complete. All are listed below.",
		report.Count(len(p.Versions), noun), counts[Stays], counts[Later], counts[Soon], soon, counts[Leaves], counts[Defective])
	if n := len(c.Before); n > 0 {
		d.Before = fmt.Sprintf("and %d older: %s", n, datesOf(c.Before))
	}
	return d
}

// datesOf gives the dates of some, and that there are more.
func datesOf(versions []Version) string {
	const most = 6
	var dates []string
	for _, v := range versions[:min(most, len(versions))] {
		dates = append(dates, v.Time.Local().Format(time.DateOnly))
	}
	if len(versions) > most {
		dates = append(dates, "...")
	}
	return strings.Join(dates, ", ")
}

// title tells what there is of a day.
func (c *Calendar) title(i int) string {
	versions := c.Days[i].Versions
	var lines []string
	for _, v := range versions[:min(mostLine, len(versions))] {
		lines = append(lines, strings.Join(append([]string{v.line()}, v.marks()...), ", "))
	}
	if more := len(versions) - mostLine; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

func (p Place) drawFuture(at time.Time, noun string) *drawing {
	c := p.Future(at)
	d := &drawing{Title: "In a year, if it goes on so: " + report.Count(len(p.Outlook), noun) + " by " + p.Policy, Months: monthsOf(c)}
	d.Label = "Calendar of what the policy will have left on " + at.Local().Format(time.DateOnly)
	var path strings.Builder
	for i := 0; i < len(c.Days); i++ {
		begin := i
		for i < len(c.Days) && c.Days[i].Fate != Empty && i/perWeek == begin/perWeek {
			i++
		}
		if days := i - begin; days > 0 { // a dashed line, which begins with a dash
			fmt.Fprintf(&path, "M%d %dv%d", begin/perWeek*pitch+cell/2, begin%perWeek*pitch, days*pitch-pitch+cell)
			i--
		}
	}
	d.Path = path.String()
	if n := len(c.Before); n > 0 {
		d.Before = fmt.Sprintf("and %d older: %s", n, datesOf(c.Before))
	}
	return d
}

func monthsOf(c *Calendar) (all []month) {
	names := c.months()
	for week := range weeks {
		name := names[week]
		if strings.HasPrefix(name, "2") { // there may be no room for four digits
			name = "Jan"
		}
		if name != "" && week < weeks-1 {
			all = append(all, month{fmt.Sprintf("%.1f", 100*float64(week)/weeks), name})
		}
	}
	return all
}

// drawSent draws what was sent in each week, on a logarithmic scale: a complete copy is a thousand times an increment.
func (p Place) drawSent(now time.Time) *drawing {
	c := yearTo(now)
	var sums [weeks]int64
	var runs [weeks]int
	for _, a := range p.Sent {
		if i := c.index(a.Time); i >= 0 && i < len(c.Days) {
			sums[i/perWeek] += a.Bytes
			runs[i/perWeek]++
		}
	}
	most, least := int64(1), int64(math.MaxInt64)
	for w, n := range sums {
		if most = max(most, n); runs[w] > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return nil
	}
	d := &drawing{Title: fmt.Sprintf("Sent a week, from %s to %s (logarithmic)", progress.Bytes(least), progress.Bytes(most))}
	d.Label = "Chart: " + d.Title
	floor := math.Log(float64(max(least, 2)) / 2)
	for w, n := range sums {
		if runs[w] == 0 {
			continue
		}
		share := (math.Log(float64(max(n, 1))) - floor) / (math.Log(float64(most)) - floor)
		h := max(1, int(share*(height-2)))
		d.Bars = append(d.Bars, bar{w * pitch, height - 1 - h, h,
			fmt.Sprintf("week of %s: %s by %s", c.date(w*perWeek).Format(time.DateOnly), progress.Bytes(n), report.Count(runs[w], "run"))})
	}
	return d
}

// drawRoom draws the free space, as the last run of each week found it.
func (p Place) drawRoom(now time.Time) *drawing {
	c := yearTo(now)
	found := make(map[int]int64)
	least, most := int64(math.MaxInt64), int64(1)
	for _, a := range p.Room {
		if i := c.index(a.Time); i >= 0 && i < len(c.Days) {
			found[i] = a.Bytes
			least, most = min(least, a.Bytes), max(most, a.Bytes)
		}
	}
	if len(found) < 2 {
		return nil
	}
	var points []string
	last := -perWeek
	for i := range c.Days {
		n, ok := found[i]
		if !ok || i < last+perWeek && len(found) > weeks {
			continue
		}
		last = i
		points = append(points, fmt.Sprintf("%d,%d", i*(weeks*pitch-2)/len(c.Days), height-2-int(float64(n)/float64(most)*(height-4))))
	}
	d := &drawing{Title: fmt.Sprintf("Free space, between %s and %s (from 0)", progress.Bytes(least), progress.Bytes(most)), Path: strings.Join(points, " ")}
	d.Label = "Chart: " + d.Title
	return d
}
