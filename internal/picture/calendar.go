package picture

import (
	"fmt"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

const (
	weeks   = 53 // of a calendar, which is a year at least
	perWeek = 7
)

// A Fate is what becomes of a version, as far as is foreseen. The worst of a day comes last.
type Fate int

// The fates. Soon is within 30 days.
const (
	Empty     Fate = iota // nothing is there
	Leaves                // the next run deletes it
	Soon                  // it goes soon
	Later                 // it goes later
	Stays                 // it stays
	Recorded              // it is on record
	Defective             // it is not complete, altered, or damaged
)

const soon = 30 // days

// fate tells what becomes of a version.
func (v Version) fate(now time.Time) Fate {
	switch {
	case v.OnRecord:
		return Recorded
	case v.Damaged || !v.Complete:
		return Defective
	case !v.Keep:
		return Leaves
	case v.Goes.IsZero():
		return Stays
	case v.Goes.Before(now.AddDate(0, 0, soon)):
		return Soon
	}
	return Later
}

// A Calendar has a row for each day of the week, from Monday on, and a column for each week.
type Calendar struct {
	Begin  time.Time // a Monday, at noon
	Days   [weeks * perWeek]Day
	Before []Version // those that are older, newest first
	Beyond int       // how many are dated after its end
}

// A Day is what there is of a day.
type Day struct {
	Fate     Fate
	Versions []Version
}

// monday gives the noon of the Monday of a week: noon is on the same day, whatever the clocks are set to.
func monday(t time.Time) time.Time {
	noon := time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, t.Location())
	return noon.AddDate(0, 0, -(int(noon.Weekday())+perWeek-1)%perWeek)
}

// yearTo gives the calendar of the year that ends with the week of a time, and has no versions.
func yearTo(t time.Time) *Calendar {
	return &Calendar{Begin: monday(t.Local()).AddDate(0, 0, -(weeks-1)*perWeek)}
}

// index gives the number of a day; it is negative before the first one.
func (c *Calendar) index(t time.Time) int {
	t = t.Local()
	noon := time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, time.UTC)
	begin := time.Date(c.Begin.Year(), c.Begin.Month(), c.Begin.Day(), 12, 0, 0, 0, time.UTC)
	return int(noon.Sub(begin) / (24 * time.Hour))
}

// date gives the date of a day.
func (c *Calendar) date(i int) time.Time { return c.Begin.AddDate(0, 0, i) }

func (c *Calendar) add(v Version, f Fate) {
	switch i := c.index(v.Time); {
	case i < 0:
		c.Before = append(c.Before, v)
	case i >= len(c.Days):
		c.Beyond++
	default:
		c.Days[i].Fate = max(c.Days[i].Fate, f)
		c.Days[i].Versions = append(c.Days[i].Versions, v)
	}
}

// Present gives the calendar of what there is.
func (p Place) Present(now time.Time) *Calendar {
	c := yearTo(now)
	for _, v := range p.Versions {
		c.add(v, v.fate(now))
	}
	return c
}

// Future gives the calendar of what the policy will have left at a time.
func (p Place) Future(at time.Time) *Calendar {
	c := yearTo(at)
	for _, t := range p.Outlook {
		c.add(Version{Time: t}, Stays)
	}
	return c
}

// daysIn counts the days of a week that have something.
func (c *Calendar) daysIn(week int) (n int) {
	for _, d := range c.Days[week*perWeek : (week+1)*perWeek] {
		if d.Fate != Empty {
			n++
		}
	}
	return n
}

// months gives the weeks in which months begin, with their names; years stand for January.
func (c *Calendar) months() map[int]string {
	names := make(map[int]string)
	for i := range c.Days {
		if date := c.date(i); date.Day() == 1 {
			name := date.Format("Jan")
			if date.Month() == time.January {
				name = date.Format("2006")
			}
			names[i/perWeek] = name
		}
	}
	return names
}

// line tells a version: name, size, until when, and why.
func (v Version) line() string {
	parts := []string{v.Name}
	if v.Sent != nil {
		parts = append(parts, progress.Bytes(*v.Sent))
	}
	return strings.Join(append(parts, v.until()), ", ")
}

// until tells until when it stays, and why.
func (v Version) until() string {
	why := strings.Join(v.Why, ", ")
	switch {
	case v.OnRecord:
		return "on record"
	case !v.Keep:
		return "goes with the next run: " + why
	case v.Goes.IsZero():
		return "stays: " + why
	}
	return fmt.Sprintf("until %s: %s", v.Goes.Local().Format(time.DateOnly), why)
}

// marks tell what is to be known besides.
func (v Version) marks() (all []string) {
	if v.Damaged {
		return append(all, "DAMAGED, as verified "+v.Verified.Local().Format(time.DateOnly))
	}
	if !v.Complete && !v.OnRecord {
		all = append(all, "NOT COMPLETE, or altered")
	}
	if !v.Verified.IsZero() {
		all = append(all, "verified "+v.Verified.Local().Format(time.DateOnly))
	}
	return all
}
