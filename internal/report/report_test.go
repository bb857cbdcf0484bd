package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// manyFates is a report in which everything occurs that can become of a transfer.
func manyFates() *engine.Report {
	failure := &engine.Failure{Err: errors.New("broken")}
	second := time.Second
	return &engine.Report{Source: "/home", Snapshot: "3", Latest: "3", Destinations: []engine.DestinationReport{
		{Destination: "/usb", Leftovers: []string{".2.incoming"}, Transfers: []engine.TransferReport{
			{Snapshot: "2", Bytes: 2048, Duration: second},
			{Snapshot: "3", Parent: "2", Bytes: 2048, Wire: 1024, Duration: second},
		}, Verdicts: []retention.Verdict{{Name: "1", Reasons: []string{"older than the newest 2"}}}, Deleted: []string{"1"}},
		{Destination: "nas", Transfers: []engine.TransferReport{{Snapshot: "3", Incomplete: failure}, {Snapshot: "4", Failure: failure}}},
		{Destination: "shell://cat", Transfers: []engine.TransferReport{{Snapshot: "3", Parent: "\x1b[2J", Unverified: true}}},
		{Destination: "/away", Failures: []engine.Failure{*failure}},
		{Destination: "/same"},
	}}
}

// wantLines fails the test unless the text has these lines, however wide their columns are.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(text) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if want := strings.Join(lines, "\n"); strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestTheTableTellsTheFateOfEachTransfer(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, manyFates(), 80); err != nil {
		t.Fatal(err)
	}
	wantLines(t, b.String(), "DESTINATION SNAPSHOT COPY SIZE TIME VERDICT",
		"/usb 2 complete 2.0 KiB 1.0 s saved",
		"/usb 3 increment 2.0 KiB 1.0 s saved",
		"nas 3 complete 0 B 0.0 s saved, INCOMPLETE",
		"nas 4 complete 0 B 0.0 s FAILED",
		"shell://cat 3 increment 0 B 0.0 s stored, not verified",
		"/away FAILED",
		"/same nothing to send")
	b.Reset()
	if err := WriteTable(&b, &engine.Report{Snapshot: "3"}, 80); err != nil || b.Len() > 0 {
		t.Errorf("without destinations: %q, %v", b.String(), err)
	}
}

func TestTheTableFitsItsTerminal(t *testing.T) {
	r := &engine.Report{Destinations: []engine.DestinationReport{
		{Destination: "ssh://root@nas.example.org:2222/backup/laptop/home", Transfers: []engine.TransferReport{
			{Snapshot: "20261129-013101", Parent: "20261128-013000", Bytes: 1 << 40, Wire: 1 << 30, Duration: 26 * time.Hour},
		}},
		{Destination: "/usb"},
	}}
	for _, width := range []int{74, 80, 200} {
		var b bytes.Buffer
		if err := WriteTable(&b, r, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if cells := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); cells > width {
				t.Errorf("%d cells of %d: %s", cells, width, line)
			}
		}
		if cut := strings.Contains(b.String(), "..."); cut != (width < 200) || !strings.Contains(b.String(), "ssh:") || !strings.Contains(b.String(), "/home ") {
			t.Errorf("width %d:\n%s", width, b.String())
		}
	}
}

func TestThePlanTellsAllThatWouldBeDone(t *testing.T) {
	r := manyFates()
	r.Destinations = r.Destinations[:1]
	r.Destinations[0].Transfers[1].Why = "the first of its day, on the one before"
	for _, copied := range []bool{false, true} {
		var b bytes.Buffer
		if err := WritePlan(&b, r, false); err != nil {
			t.Fatal(err)
		}
		verb := "send"
		if r.Copy {
			verb = "copy /home to"
		}
		wantLines(t, b.String(), "/home: would take snapshot 3",
			"/usb: would delete .2.incoming: left unfinished by an earlier run",
			"/usb: would "+verb+" 2 as a complete copy",
			"/usb: would "+verb+" 3 as an increment to 2: the first of its day, on the one before",
			"/usb: would delete 1: older than the newest 2",
			"/home: would link 3 as the newest snapshot",
			"/usb: 1 backup, 0 stay, 1 go")
		r.Copy = !copied
	}
}

func TestThePlanTellsHoldsAndCountsTheRest(t *testing.T) {
	keep := func(name, reason string, held bool) retention.Verdict {
		return retention.Verdict{Name: name, Keep: true, Held: held, Reasons: []string{reason}}
	}
	verdicts := []retention.Verdict{keep("5", "day 1 of 2", false), keep("4", "not yet at nas", true), {Name: "3", Reasons: []string{"too old"}}}
	for _, name := range []string{"a", "b", "c", "d"} {
		verdicts = append(verdicts, keep(name, "a backup of pi", true))
	}
	unsent := retention.Verdict{Name: "2", Reasons: []string{"too old to be sent"}}
	failed := engine.DestinationReport{Destination: "/full", Verdicts: verdicts, Failures: []engine.Failure{{Err: errors.New("broken")}}}
	r := &engine.Report{Source: "/home", Verdicts: verdicts, Deleted: []string{"3"}, Destinations: []engine.DestinationReport{
		{Destination: "/usb", Verdicts: append(slices.Clone(verdicts), unsent), Deleted: []string{"3"}}, failed,
	}}
	holds := func(place string) []string {
		return []string{place + ": would keep 4: not yet at nas", place + ": would delete 3: too old", place + ": would keep 4 more: a backup of pi"}
	}
	full := holds("/full") // nothing is deleted after a failure
	counts := []string{"/usb: 7 backups, 6 stay, 1 go", "/home: 7 snapshots, 6 stay, 1 go"}
	var b bytes.Buffer
	if err := WritePlan(&b, r, false); err != nil {
		t.Fatal(err)
	}
	wantLines(t, b.String(), slices.Concat(holds("/usb"), slices.Delete(full, 1, 2), holds("/home"), counts)...)

	b.Reset()
	r.Destinations = r.Destinations[:1]
	if err := WritePlan(&b, r, true); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"/usb: would keep 5: day 1 of 2\n", "/home: would keep d: a backup of pi\n", "/usb: would skip 2: too old to be sent\n", counts[0]} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("no %q in:\n%s", line, b.String())
		}
	}
}

func TestTheLogHasALineForEachTransfer(t *testing.T) {
	var b bytes.Buffer
	leave := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key != slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}
	Log(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: leave})), manyFates())
	if lines := strings.Count(b.String(), "\n"); lines != 5 || !strings.Contains(b.String(), "/usb: 3 saved: increment to 2, 2.0 KiB") {
		t.Errorf("%d lines:\n%s", lines, b.String())
	}
}

// full takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestThatNothingCouldBeWrittenIsAnError(t *testing.T) {
	table := func(w io.Writer, r *engine.Report) error { return WriteTable(w, r, 80) }
	for name, write := range map[string]func(io.Writer, *engine.Report) error{
		"table": table, "plan": func(w io.Writer, r *engine.Report) error { return WritePlan(w, r, true) }, "JSON": func(w io.Writer, r *engine.Report) error { return WriteJSON(w, r) },
	} {
		if err := write(full{}, manyFates()); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNamesInATableOrPlanOrJSONUpsetNoTerminal(t *testing.T) {
	const evil = "a\x1b[2J\tb\nc\u009b\u202e"
	r := &engine.Report{DryRun: true, Source: evil, Snapshot: evil,
		Destinations: []engine.DestinationReport{{Destination: evil, Transfers: []engine.TransferReport{{Snapshot: evil, Parent: evil}}}}}
	for name, write := range map[string]func(io.Writer) error{
		"table": func(w io.Writer) error { return WriteTable(w, r, 80) },
		"plan":  func(w io.Writer) error { return WritePlan(w, r, true) },
		"JSON":  func(w io.Writer) error { return WriteJSON(w, r) },
	} {
		var b strings.Builder
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\t\u009b\u202e") || strings.Contains(b.String(), "\nc") {
			t.Errorf("the %s holds %q", name, b.String())
		}
	}
	var b strings.Builder
	var again engine.Report
	if err := errors.Join(WriteJSON(&b, r), json.Unmarshal([]byte(b.String()), &again)); err != nil || again.Source != evil {
		t.Errorf("JSON tells %q, %v", again.Source, err)
	}
}
