package engine

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

func TestACopyRemembersItsDestinationAndADryRunDoesNot(t *testing.T) {
	state := lock.State{Dir: filepath.Join(t.TempDir(), "state")}
	for _, dryRun := range []bool{true, false} {
		runCopy(t, copyJobOf(newMirror(), func(j *Job) { j.State, j.DryRun = state, dryRun }))
		if seen, err := state.Used(); seen.Knows("/backups") == dryRun || err != nil {
			t.Errorf("dry run %t: remembered %v, %v", dryRun, seen, err)
		}
	}
}

func TestADestinationOnRecordWhoseDiskIsNotMountedIsRefusedUnlessItIsToBeginAnew(t *testing.T) {
	state := lock.State{Dir: t.TempDir()}
	if err := state.AddUsed(t.Context(), "/backups", "its identity"); err != nil {
		t.Fatal(err)
	}
	for name, away := range map[string]func(*fakeMirror){
		"the folder is gone":       func(m *fakeMirror) { m.openErr = fs.ErrNotExist },
		"it has lost its identity": func(m *fakeMirror) { m.contents.Identity = "" },
	} {
		for _, dryRun := range []bool{true, false} {
			m := newMirror()
			away(m)
			report := runCopy(t, copyJobOf(m, func(j *Job) { j.State, j.DryRun = state, dryRun }))
			failures := report.AllFailures()
			if report.Outcome() != Failed || len(failures) != 1 || !strings.Contains(hint.Of(failures[0].Err), "--new-destination") {
				t.Errorf("%s, dry run %t: %v", name, dryRun, failures)
			}
			if m.entries[0] != "open" || strings.Contains(strings.Join(m.entries, " "), "save") {
				t.Errorf("%s: %q", name, m.entries)
			}
		}
	}
	m := newMirror()
	m.contents.Identity = ""
	if report := runCopy(t, copyJobOf(m, func(j *Job) { j.State, j.NewDestination = state, true })); report.Outcome() != Done {
		t.Errorf("a new destination: %v", report.AllFailures())
	}
	m.want(t, "open", "list", "list", "mark", `save 10 on ""`, "link .latest 10")
}

func TestBackupsWhoseRecordsAreGoneAreNamedAndANewDestinationBeginsBesideThem(t *testing.T) {
	state := lock.State{Dir: t.TempDir()}
	if err := state.AddUsed(t.Context(), "/backups", "its identity"); err != nil {
		t.Fatal(err)
	}
	for _, begin := range []bool{false, true} {
		m := newMirror()
		m.contents = Contents{Taken: []string{day(1), "photos"}}
		report := runCopy(t, copyJobOf(m, func(j *Job) { j.State, j.Automatic, j.NewDestination = state, true, begin }))
		if begin {
			m.want(t, "open", "list", "list", "mark", `save 10 on ""`, "link .latest 10")
			if v := report.Destinations[0].Verdicts; len(v) != 2 || v[0].String() != "keep "+day(1)+": no record of it" {
				t.Errorf("verdicts: %v", v)
			}
			continue
		}
		failures := report.AllFailures()
		if len(failures) != 1 || !strings.Contains(failures[0].Err.Error(), "no record of \""+day(1)+"\":") ||
			!strings.Contains(hint.Of(failures[0].Err), "--new-destination") {
			t.Errorf("it told %v", failures)
		}
	}
}

func TestWithoutUsableStateTheCheckIsNotDoneAndThatIsSaid(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "destinations.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	report := runCopy(t, copyJobOf(newMirror(), func(j *Job) {
		j.State, j.Log = lock.State{Dir: dir}, slog.New(slog.NewTextHandler(&said, nil))
	}))
	if report.Outcome() != Done || strings.Count(said.String(), "level=WARN") != 2 || !strings.Contains(said.String(), "mounted") {
		t.Errorf("outcome %s, the log tells: %s", report.Outcome(), &said)
	}
}
