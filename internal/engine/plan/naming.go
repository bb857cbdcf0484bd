package plan

import (
	"regexp"
	"strings"
	"time"
)

// Naming is how the snapshots of one series are named: the prefix, then the local time as YYYYMMDD-HHMMSS.
type Naming struct{ Prefix string }

const timeLayout = "20060102-150405"

var timePattern = regexp.MustCompile(`^\d{8}-\d{6}$`)

// Name gives the name of a snapshot taken at t.
func (n Naming) Name(t time.Time) string { return n.Prefix + t.Local().Format(timeLayout) }

// Time gives the time in a name, and false for a name that is not exactly one of this series.
func (n Naming) Time(name string) (time.Time, bool) {
	digits, ok := strings.CutPrefix(name, n.Prefix)
	if !ok || !timePattern.MatchString(digits) {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation(timeLayout, digits, time.Local)
	return t, err == nil
}

// Ours tells whether name is one of this series.
func (n Naming) Ours(name string) bool {
	_, ok := n.Time(name)
	return ok
}

// NamingOf gives the series that a name belongs to.
func NamingOf(name string) (Naming, bool) {
	n := Naming{Prefix: name[:max(len(name)-len(timeLayout), 0)]}
	return n, n.Ours(name)
}

// Latest is the name of the link to the newest saved snapshot.
func (n Naming) Latest() string {
	if n.Prefix == "" {
		return ".latest"
	}
	return "." + n.Prefix + "_latest"
}
