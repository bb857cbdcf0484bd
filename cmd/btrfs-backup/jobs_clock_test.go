package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// newDaily gives a machine with one job, and its destination, which has a backup of each of three days.
func newDaily(t testing.TB) (m *machine, backups string) {
	t.Helper()
	m = newMachine(t)
	backups = filepath.Join(smallFS(t).Dir, "backups")
	m.configure("[job.home]\nsource = \"SOURCE\"\ndestination = %q\nkeep-snapshots = \"within=2d 7d\"\nkeep-backups = \"within=9d 14d 8w\"\n", backups)
	for range 3 {
		m.days(1)
		expect(t, exitDone, m.run())
	}
	return m, backups
}

// made does what is due, and gives the backups that are new. None may be lost.
func made(m *machine, backups string) (more []string) {
	m.Helper()
	before := m.dated(backups)
	expect(m, exitDone, m.run())
	after := m.dated(backups)
	for _, name := range after {
		if len(before) > 0 && before[0] == name {
			before = before[1:]
		} else {
			more = append(more, name)
		}
	}
	if len(before) > 0 {
		m.Fatalf("lost: %q", before)
	}
	return more
}

func TestClockThatIsSetBackMakesOneBackupAndLosesNone(t *testing.T) {
	t.Parallel()
	for _, back := range []time.Duration{time.Hour * 24, time.Hour * 24 * 40, time.Hour * 24 * 365} {
		t.Run(back.String(), func(t *testing.T) {
			t.Parallel()
			m, backups := newDaily(t)
			m.now = m.now.Add(-back - time.Hour)
			if n := len(made(m, backups)); n > 1 || n == 0 && back > 3*24*time.Hour {
				t.Errorf("made %d", n)
			}
			for range 3 { // the timer goes on
				want(t, "made", made(m, backups))
			}
			m.days(1)
			if n := len(made(m, backups)); n > 1 {
				t.Errorf("made %d on the next day", n)
			}
			want(t, "made", made(m, backups))
		})
	}
}

func TestClockThatIsAYearAheadForAWhileMakesOneBackupAndLosesNone(t *testing.T) {
	t.Parallel()
	m, backups := newDaily(t)
	right := m.now
	m.now = right.AddDate(1, 0, 0)
	if ahead := made(m, backups); len(ahead) != 1 {
		t.Errorf("made %q", ahead)
	}
	want(t, "made", made(m, backups))

	m.now = right.Add(time.Hour)
	want(t, "made", made(m, backups)) // there is one of this day
	told := invoke(t, m.environ(), "status", "--config", m.file())
	expect(t, exitDone, told, "dated in the future and not counted: 1; is the clock right?")
	for range 2 {
		m.days(1)
		if next := made(m, backups); len(next) != 1 || !strings.HasPrefix(next[0], m.now.Format("20060102")) {
			t.Errorf("made %q", next)
		}
		want(t, "made", made(m, backups))
	}
}

func TestABackOffEndsWhenTheClockWasAhead(t *testing.T) {
	t.Parallel()
	m, backups := newDaily(t)
	m.days(1)
	right := m.now
	m.now = right.AddDate(1, 0, 0)
	away := backups + ".away"
	btrfstest.Check(t, os.Rename(backups, away))
	expect(t, exitFailed, m.run())
	btrfstest.Check(t, os.Rename(away, backups))
	want(t, "made", made(m, backups)) // it is too soon
	m.now = right
	if now := made(m, backups); len(now) == 0 {
		t.Error("the failure of next year is in the way")
	}
}

func TestWhatIsDueIsKnownWithoutOrByAWrongState(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(m *machine, dir string) error{
		"lost": func(_ *machine, dir string) error { return os.RemoveAll(dir) },
		"garbage": func(m *machine, dir string) error {
			write(m, filepath.Join(dir, report.HistoryFile), "garbage\n{\"time\":\"2026\n\x00\xff{}\n[]\n")
			return nil
		},
		"a run that was none": func(m *machine, dir string) error { // of today, as it says
			write(m, filepath.Join(dir, report.HistoryFile), `{"time":"`+m.now.AddDate(0, 0, 1).Format(time.RFC3339)+`","job":"home","outcome":"done","destinations":[]}`+"\n")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, backups := newDaily(t)
			btrfstest.Check(t, spoil(m, filepath.Join(m.state(), "btrfs-backup")))
			want(t, "made", made(m, backups))
			m.days(1)
			if today := made(m, backups); len(today) != 1 {
				t.Errorf("made %q", today)
			}
			want(t, "made", made(m, backups))
			newest := m.dated(backups)
			isCopy(t, m.source, backups, newest[len(newest)-1])
		})
	}
}

func TestARunThatIsLateMakesUpForAllThatWasMissedAtOnce(t *testing.T) {
	t.Parallel()
	m, backups := newDaily(t)
	m.days(20)
	if n := len(made(m, backups)); n != 1 {
		t.Errorf("made %d", n)
	}
	want(t, "made", made(m, backups))
}
