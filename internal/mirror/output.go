package mirror

import (
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// output is what rsync tells on its way, by --info=progress2, and at the end, by --stats.
type output struct {
	shown  *progress.Transfer // may be nil
	atMost int64              // the best total so far, 0 for none

	bytes   int64 // of files copied
	files   int64 // regular ones, copied
	deleted int64
	gone    int64 // of the deleted, all but directories
	wire    int64 // sent and received

	retouched []string // paths, see repair
	skipped   []string // paths of no regular files, where the user's options leave these out
}

// line takes one line.
func (o *output) line(text string) {
	if done, percent, known, ok := parseProgress(text); ok {
		o.progress(done, percent, known)
		return
	}
	if path, ok := retouched(text); ok {
		o.retouched = append(o.retouched, path)
		return
	}
	if path, ok := strings.CutPrefix(text, `skipping non-regular file "`); ok {
		o.skipped = append(o.skipped, unescaped(strings.TrimSuffix(path, `"`)))
		return
	}
	label, value, ok := strings.Cut(text, ": ")
	if !ok {
		return
	}
	switch label {
	case "Number of deleted files":
		_, directories, _ := strings.Cut(value, "dir: ")
		o.deleted = leadingNumber(value)
		o.gone = o.deleted - leadingNumber(directories)
	case "Number of regular files transferred":
		o.files = leadingNumber(value)
	case "Total transferred file size":
		o.bytes = leadingNumber(value)
	case "Total bytes sent":
		o.wire = leadingNumber(value)
	case "Total bytes received":
		o.wire += leadingNumber(value)
	}
}

// progress shows how far the copy is. The percentage is of the whole source, and rounded down: what it tells is an upper bound
// of what is left to copy.
func (o *output) progress(done int64, percent int, known bool) {
	o.bytes = done
	if known && percent > 0 {
		if total := int64(float64(done) / float64(percent) * 100); o.atMost == 0 || total < o.atMost {
			o.atMost = total
		}
	}
	if o.shown == nil {
		return
	}
	o.shown.Set(done)
	if o.atMost > 0 {
		o.shown.SetTotal(progress.Total{Bytes: o.atMost, AtMost: true})
	}
}

// parseProgress reads such as "  1,234,567  45%   12.34MB/s    0:00:10 (xfr#5, to-chk=10/200)". Known tells that rsync has
// seen the whole source; before that it writes ir-chk in place of to-chk, and nothing while a file is being copied.
func parseProgress(line string) (done int64, percent int, known, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasSuffix(fields[1], "%") || !strings.HasSuffix(fields[2], "B/s") {
		return 0, 0, false, false
	}
	done, err := strconv.ParseInt(strings.ReplaceAll(fields[0], ",", ""), 10, 64)
	if err != nil || done < 0 {
		return 0, 0, false, false
	}
	percent, err = strconv.Atoi(strings.TrimSuffix(fields[1], "%"))
	return done, percent, strings.Contains(line, " to-chk="), err == nil
}

// leadingNumber reads such as "1,234 (reg: 1,000, dir: 234)".
func leadingNumber(text string) int64 {
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != ',' })
	if end < 0 {
		end = len(text)
	}
	n, _ := strconv.ParseInt(strings.ReplaceAll(text[:end], ",", ""), 10, 64)
	return n
}
