package standing

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// The statuses of a plugin of Nagios (monitoring-plugins.org/doc/guidelines.html).
const (
	nagiosOK       = 0
	nagiosWarning  = 1
	nagiosCritical = 2
	nagiosUnknown  = 3
)

var (
	nagiosStatus = map[State]int{Good: nagiosOK, Away: nagiosOK, Late: nagiosWarning, Bad: nagiosCritical, Never: nagiosCritical, Damaged: nagiosCritical,
		Unknown: nagiosUnknown, OnRecord: nagiosUnknown}
	nagiosWords = [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}
	// nagiosRank orders the statuses from the best to the worst.
	nagiosRank = []int{nagiosOK, nagiosUnknown, nagiosWarning, nagiosCritical}
)

// WriteNagios tells the worst first, as a plugin of Nagios does, then all. It gives the exit status.
func WriteNagios(w io.Writer, jobs []Job, now time.Time) (status int, err error) {
	var worst Place
	var lines []string
	places, of := 0, ""
	for _, j := range jobs {
		for _, p := range j.Places {
			rank := slices.Index(nagiosRank, nagiosStatus[p.State])
			if before := slices.Index(nagiosRank, status); places == 0 || rank > before || rank == before && p.Newest.Before(worst.Newest) {
				status, worst, of = nagiosStatus[p.State], p, j.Name
			}
			places++
			lines = append(lines, harmless(fmt.Sprintf("%s %s at %s: %s", nagiosWords[nagiosStatus[p.State]], j.Name, p.Name(), p.told(now))))
		}
	}
	head := fmt.Sprintf("%s at %s: %s", of, worst.Name(), worst.told(now))
	if places == 0 {
		status, head = nagiosUnknown, "no job"
	}
	_, err = fmt.Fprintf(w, "BACKUP %s - %s | %s\n", nagiosWords[status], harmless(head), worst.performance(now))
	if places > 1 && err == nil {
		_, err = fmt.Fprintln(w, strings.Join(lines, "\n"))
	}
	return status, err
}

// WriteNagiosFailure tells why nothing can be told, and gives the exit status.
func WriteNagiosFailure(w io.Writer, failure error) (status int, err error) {
	_, err = fmt.Fprintf(w, "BACKUP %s - %s\n", nagiosWords[nagiosUnknown], harmless(failure.Error()))
	return nagiosUnknown, err
}

// harmless keeps what a name holds from being taken for figures, or for a line of its own.
func harmless(text string) string { return strings.ReplaceAll(progress.Line(text), "|", "/") }

// told tells the state in words.
func (p Place) told(now time.Time) string {
	words := "never"
	if !p.Newest.IsZero() {
		words = elapsed(now.Sub(p.Newest)) + " old"
	} else if p.State != Never {
		words = "unknown"
	}
	switch {
	case p.Away != "":
		words += ", by the record: " + p.Away
	case p.Failure != nil:
		words += ", by the record: " + strings.ReplaceAll(p.Failure.Err.Error(), "\n", " ")
	case !p.Asked:
		words += ", by the record"
	case p.Damage != nil:
		words += ", damaged: " + strings.ReplaceAll(p.Damage.Err.Error(), "\n", " ")
	}
	return words
}

func elapsed(d time.Duration) string {
	const day = 24 * time.Hour
	count := func(n time.Duration, unit string) string {
		if n != 1 {
			unit += "s"
		}
		return fmt.Sprintf("%d %s", n, unit)
	}
	switch {
	case d >= 2*day:
		return count(d/day, "day")
	case d >= 2*time.Hour:
		return count(d/time.Hour, "hour")
	}
	return count(max(d, 0)/time.Minute, "minute")
}

// performance gives the age and its limits; U is an unknown value.
func (p Place) performance(now time.Time) string {
	age := "U"
	if !p.Newest.IsZero() {
		age = fmt.Sprintf("%ds", int64(now.Sub(p.Newest).Seconds()))
	}
	most := int64(time.Duration(p.MaxAge).Seconds())
	if most == 0 {
		return "age=" + age
	}
	return fmt.Sprintf("age=%s;%d;%d;0", age, most, 2*most)
}
