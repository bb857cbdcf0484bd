package picture

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

//go:embed page.tmpl
var pageText string

//go:embed page.css
var pageCSS string

// pages has the page, and the part of it that tells of runs under way. What it is given is escaped for where it stands.
var pages = template.Must(template.New("page").Funcs(template.FuncMap{"minute": minute, "line": progress.Line}).Parse(pageText))

// A page is a picture as the template shows it.
type page struct {
	Picture
	Machine  string
	Verdict  string
	Fine     bool
	Policy   string // of security, if no server tells it
	CSS      template.CSS
	Script   template.JS
	Warnings []pageWarning
	Running  []pageRun
	Jobs     []pageJob
	Key      []struct{ Class, Text string }
}

type pageWarning struct {
	Warning
	Subject string
}

type pageRun struct {
	underway.Run
	Title, Since string
	Transfers    []pageTransfer
}

type pageTransfer struct {
	progress.Now
	Percent int64
}

type pageJob struct {
	Job
	ID     string
	Places []pagePlace
	Runs   []pageRecord
}

type pageRecord struct {
	Began, Mood, Line string
	Hints             []string
}

// Directive gives the policy of security of a page: nothing is loaded, and nothing runs but a script of its own, if there is one.
func Directive(script string) string {
	policy := "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src " + hashOf(pageCSS)
	if script != "" {
		policy += "; script-src " + hashOf(script) + "; connect-src 'self'"
	}
	return policy
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// WriteHTML writes the page, which needs nothing else.
func (p Picture) WriteHTML(w io.Writer) error {
	made := p.page()
	made.Policy = Directive("")
	return execute(w, "page", made)
}

// WriteFile writes the page to a file, or replaces that.
func (p Picture) WriteFile(file string) error {
	var page bytes.Buffer
	if err := p.WriteHTML(&page); err != nil {
		return err
	}
	err := renameio.WriteFile(file, page.Bytes(), 0o644)
	if dir := filepath.Dir(file); errors.Is(err, fs.ErrNotExist) {
		return hint.New(fmt.Errorf("there is no directory %s", dir), "check the spelling, or make it first: mkdir -p "+transport.Quote(dir))
	}
	if err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// WriteLive writes the page with a script, which is trusted, that keeps it up to date. Who serves it tells its Directive.
func (p Picture) WriteLive(w io.Writer, script string) error {
	made := p.page()
	made.Script = template.JS(script)
	return execute(w, "page", made)
}

// WriteRunning writes the part of the page that tells of runs under way.
func WriteRunning(w io.Writer, running []underway.Run, now time.Time) error {
	return execute(w, "now", page{Running: runsOf(running, now)})
}

// execute writes all or nothing.
func execute(w io.Writer, name string, value page) error {
	var text bytes.Buffer
	if err := pages.ExecuteTemplate(&text, name, value); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

func (p Picture) page() page {
	made := page{Picture: p, Machine: cmp.Or(progress.Line(p.Machine), "this machine"), Verdict: p.verdict(), Fine: true, CSS: template.CSS(pageCSS),
		Running: runsOf(p.Running, p.Time), Key: []struct{ Class, Text string }{
			{"y", "stays"}, {"l", "goes later"}, {"o", fmt.Sprintf("goes within %d days", soon)}, {"g", "goes with the next run"},
			{"r", "on record"}, {"x", "damaged or not complete"},
		}}
	for _, w := range p.Warnings {
		subject := w.Job
		if w.about != nil {
			subject += " at " + w.about.Name()
		}
		made.Warnings = append(made.Warnings, pageWarning{w, subject + ":"})
	}
	for i, j := range p.Jobs {
		one := pageJob{Job: j, ID: fmt.Sprintf("j%d", i)}
		for k, at := range j.Places {
			one.Places = append(one.Places, p.pagePlace(at, fmt.Sprintf("j%dp%d", i, k)))
			made.Fine = made.Fine && (at.State == "" || at.State.IsFine())
		}
		for _, r := range j.Runs {
			one.Runs = append(one.Runs, recordOf(r))
		}
		made.Jobs = append(made.Jobs, one)
	}
	return made
}

func runsOf(running []underway.Run, now time.Time) (all []pageRun) {
	for _, r := range running {
		one := pageRun{Run: r, Title: runTitle(r), Since: report.Span(max(0, now.Sub(r.Began)))}
		for _, n := range r.Transfers {
			percent := int64(0)
			if n.Total > 0 {
				percent = int64(100 * float64(n.Bytes) / float64(n.Total))
			}
			one.Transfers = append(one.Transfers, pageTransfer{n, percent})
		}
		all = append(all, one)
	}
	return all
}

func recordOf(r report.Run) pageRecord {
	record := pageRecord{Began: minute(r.Time), Line: r.Line()}
	switch r.Outcome {
	case engine.Done:
	case engine.Failed:
		record.Mood = "bad"
	default:
		record.Mood = "warn"
	}
	for _, f := range failuresOf(r) {
		if forward := hint.Of(f.Err); forward != "" && len(record.Hints) == 0 {
			record.Hints = []string{forward}
		}
	}
	return record
}

// mood gives the colour of a state, which the words tell, too.
func mood(s standing.State) string {
	switch s {
	case standing.Good:
		return "good"
	case standing.Away, standing.OnRecord, standing.Unknown, standing.Late:
		return "warn"
	}
	return "bad"
}
