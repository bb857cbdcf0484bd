package standing

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
)

// A metric is written for each destination or each job of which it knows a value.
type metric struct {
	name, kind, help string
	ofPlace          func(Place) (float64, bool)
	ofJob            func(Job) (float64, bool)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (j Job) ran(value func() float64) (float64, bool) {
	if j.LastRun == nil {
		return 0, false
	}
	return value(), true
}

var metrics = []metric{
	{name: "last_success_timestamp_seconds", kind: "gauge", help: "Start of the newest complete backup; where up is 0, as it is on record.",
		ofPlace: func(p Place) (float64, bool) { return seconds(p.Newest), !p.Newest.IsZero() }},
	{name: "oldest_timestamp_seconds", kind: "gauge", help: "Start of the oldest complete backup.",
		ofPlace: func(p Place) (float64, bool) { return seconds(p.Oldest), p.Asked && !p.Oldest.IsZero() }},
	{name: "backups", kind: "gauge", help: "Complete backups.",
		ofPlace: func(p Place) (float64, bool) { return float64(p.Backups), p.Asked }},
	{name: "destination_free_bytes", kind: "gauge", help: "Bytes that can still be written.",
		ofPlace: func(p Place) (float64, bool) {
			if p.Free == nil {
				return 0, false
			}
			return float64(*p.Free), true
		}},
	{name: "destination_up", kind: "gauge", help: "1 if the destination was asked what it holds, else 0.",
		ofPlace: func(p Place) (float64, bool) { return flag(p.Asked), true }},
	{name: "good", kind: "gauge", help: "1 if the newest backup was seen and is not too old, else 0.",
		ofPlace: func(p Place) (float64, bool) { return flag(p.State == Good), true }},
	{name: "last_run_timestamp_seconds", kind: "gauge", help: "Start of the last run.",
		ofJob: func(j Job) (float64, bool) { return j.ran(func() float64 { return seconds(j.LastRun.Time) }) }},
	{name: "last_run_status", kind: "gauge", help: "Exit status of the last run.",
		ofJob: func(j Job) (float64, bool) { return j.ran(func() float64 { return float64(j.LastRun.Status) }) }},
	{name: "last_duration_seconds", kind: "gauge", help: "Duration of the last run.",
		ofJob: func(j Job) (float64, bool) { return j.ran(func() float64 { return j.LastRun.Duration.Seconds() }) }},
	{name: "last_bytes", kind: "gauge", help: "Bytes that the last run saved.",
		ofJob: func(j Job) (float64, bool) {
			return j.ran(func() (sum float64) {
				for _, d := range j.LastRun.Destinations {
					sum += float64(d.Bytes)
				}
				return sum
			})
		}},
	{name: "skipped_total", kind: "counter", help: "Runs on record that were skipped.",
		ofJob: func(j Job) (float64, bool) { return float64(j.Skipped), true }},
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

// WritePrometheus writes the text format of Prometheus.
func WritePrometheus(w io.Writer, jobs []Job) error {
	var text strings.Builder
	for _, m := range metrics {
		name := "btrfs_backup_" + m.name
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", name, m.help, name, m.kind)
		for _, j := range jobs {
			m.write(&text, name, j)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (m metric) write(text *strings.Builder, name string, j Job) {
	number := func(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }
	if m.ofJob != nil {
		if value, known := m.ofJob(j); known {
			fmt.Fprintf(text, "%s{job=%s} %s\n", name, label(j.Name), number(value))
		}
		return
	}
	for _, p := range j.Places {
		if value, known := m.ofPlace(p); known {
			fmt.Fprintf(text, "%s{job=%s,destination=%s} %s\n", name, label(j.Name), label(p.Destination), number(value))
		}
	}
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func label(value string) string {
	return `"` + labelEscapes.Replace(strings.ToValidUTF8(value, "�")) + `"`
}

// WriteTextfile tells Prometheus of all jobs, if the configuration names a file. When the context ends before all answered, it does not.
func (q Question) WriteTextfile(ctx context.Context, c *config.Config) error {
	if c.Textfile == "" {
		return nil
	}
	all := q.Survey(ctx, c.Jobs)
	if ctx.Err() != nil { // nobody answered
		return nil
	}
	return WriteTextfile(c.Textfile, all)
}

// WriteTextfile replaces the file that the node exporter of Prometheus reads.
func WriteTextfile(file string, jobs []Job) error {
	var text strings.Builder
	if err := WritePrometheus(&text, jobs); err != nil {
		return err
	}
	const readable = 0o644 // by the exporter, whatever the umask
	if err := renameio.WriteFile(file, []byte(text.String()), readable, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("writing the textfile: %w", err)
	}
	return nil
}
