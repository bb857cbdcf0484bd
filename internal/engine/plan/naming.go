package plan

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Naming is how the snapshots of one series are named: the prefix, then the local time.
type Naming struct {
	Prefix string
	Scheme Scheme
}

// A Scheme says how the time stands in a name.
type Scheme string

// The schemes. Btrbk's have a dot before the time, and _N after it where that name is taken. They differ in the names that are given:
// those of all three are read as one series, as btrbk does.
const (
	Seconds      Scheme = "" // YYYYMMDD-HHMMSS
	BtrbkShort   Scheme = "btrbk-short"
	BtrbkLong    Scheme = "btrbk-long"
	BtrbkLongISO Scheme = "btrbk-long-iso"
)

var layouts = map[Scheme]string{
	Seconds: "20060102-150405", BtrbkShort: "20060102", BtrbkLong: "20060102T1504", BtrbkLongISO: "20060102T150405-0700",
}

var btrbkTime = regexp.MustCompile(`^(\d{8}(?:T\d{4}(?:\d\d(?:Z|[+-]\d{4}))?)?)(?:_(\d{1,9}))?$`)

// Known tells that there is such a scheme.
func (s Scheme) Known() bool { return layouts[s] != "" }

// Name gives the name of a snapshot taken at t, the first one of that time.
func (n Naming) Name(t time.Time) string {
	if n.Scheme != Seconds {
		return n.Prefix + "." + t.Local().Format(layouts[n.Scheme])
	}
	return n.Prefix + t.Local().Format(layouts[Seconds])
}

// Next gives the name of a snapshot taken at t. Of a numbered series it is one behind those that are taken: what was deleted here
// may have left the name of a backup elsewhere.
func (n Naming) Next(t time.Time, taken []string) string {
	name := n.Name(t)
	if !n.Numbered() {
		return name
	}
	next := 0
	for _, other := range taken {
		number, numbered := strings.CutPrefix(other, name+"_")
		switch i, err := strconv.Atoi(number); {
		case other == name:
			next = max(next, 1)
		case numbered && err == nil && n.Ours(other):
			next = max(next, i+1)
		}
	}
	if next == 0 {
		return name
	}
	return fmt.Sprintf("%s_%d", name, next)
}

// Numbered tells that several snapshots of the same time get different names.
func (n Naming) Numbered() bool { return n.Scheme != Seconds }

// Time gives the time in a name, and false for a name that is not exactly one of this series.
func (n Naming) Time(name string) (time.Time, bool) {
	s, ok := n.Snapshot(name)
	return s.Time, ok
}

// Snapshot gives what a name of this series tells.
func (n Naming) Snapshot(name string) (s retention.Snapshot, ok bool) {
	s.Name = name
	if n.Scheme != Seconds {
		return n.btrbkSnapshot(s)
	}
	digits, ok := strings.CutPrefix(name, n.Prefix)
	if !ok {
		return s, false
	}
	s.Time, ok = secondsOf(digits)
	return s, ok
}

// secondsOf reads a time in the layout of Seconds. time.ParseInLocation also takes fractions, and ten times as long: a run reads all
// names several times.
func secondsOf(text string) (time.Time, bool) {
	if len(text) != len(layouts[Seconds]) || text[8] != '-' {
		return time.Time{}, false
	}
	number := func(from, to int) (n int) {
		for _, c := range []byte(text[from:to]) {
			if c < '0' || c > '9' {
				return -1
			}
			n = 10*n + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(4, 6), number(6, 8)
	hour, minute, second := number(9, 11), number(11, 13), number(13, 15)
	if min(year, hour, minute, second) < 0 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	if y, m, d := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Date(); y != year || int(m) != month || d != day {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, 0, time.Local), true
}

func (n Naming) btrbkSnapshot(s retention.Snapshot) (retention.Snapshot, bool) {
	rest, ours := strings.CutPrefix(s.Name, n.Prefix+".")
	if !ours || n.Prefix == "" {
		return s, false
	}
	found := btrbkTime.FindStringSubmatch(rest)
	if found == nil {
		return s, false
	}
	var err error
	s.Number, _ = strconv.Atoi(found[2]) // 0 if there is none
	switch text := found[1]; {
	case len(text) == len(layouts[BtrbkShort]):
		s.DateOnly = true
		s.Time, err = time.ParseInLocation(layouts[BtrbkShort], text, time.Local)
	case len(text) == len(layouts[BtrbkLong]):
		s.Time, err = time.ParseInLocation(layouts[BtrbkLong], text, time.Local)
	default:
		s.Time, err = time.Parse("20060102T150405Z0700", text)
		s.Time = s.Time.Local()
	}
	return s, err == nil
}

// Ours tells whether name is one of this series.
func (n Naming) Ours(name string) bool {
	_, ok := n.Time(name)
	return ok
}

// NamingOf gives the series that a name belongs to.
func NamingOf(name string) (Naming, bool) {
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && btrbkTime.MatchString(name[dot+1:]) {
		n := Naming{Prefix: name[:dot], Scheme: BtrbkLong}
		return n, n.Ours(name)
	}
	n := Naming{Prefix: name[:max(len(name)-len(layouts[Seconds]), 0)]}
	return n, n.Ours(name)
}

// Longest gives a name of the series that is as long as any.
func (n Naming) Longest() string {
	if n.Numbered() {
		return n.Prefix + ".20060102T150405+0000_999999999"
	}
	return n.Prefix + layouts[Seconds]
}

// Latest is the name of the link to the newest saved snapshot.
func (n Naming) Latest() string {
	if n.Prefix == "" {
		return ".latest"
	}
	return "." + n.Prefix + "_latest"
}
