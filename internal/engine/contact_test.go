package engine

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// placed is a destination of which all can be chosen that is looked at before anything is made.
type placed struct {
	*fakeDestination
	at       Position
	contents Contents
	openErr  error
}

func (p *placed) Open(context.Context) error { return p.openErr }
func (p *placed) Create(context.Context) error {
	p.note("create")
	p.openErr = nil
	return nil
}
func (p *placed) At() Position { return p.at }
func (p *placed) List(context.Context) (Contents, error) {
	return p.contents, nil
}

func TestANewDestinationIsLookedAtBeforeAnythingIsMade(t *testing.T) {
	source, _ := newFakes(snap(1))
	sameDisk := source.At()
	sameDisk.Inode++
	otherMachine := sameDisk
	otherMachine.Machine = "nas:"
	other := Position{DirID: btrfs.DirID{Filesystem: uuid(5), Inode: 256}}
	insisted := func(j *Job) { j.SameFilesystem = true }
	begun := func(j *Job) { j.NewDestination = true }
	theirs := func(names ...string) Contents { return Contents{Foreign: names} }
	holding := func(c Contents, s ...btrfs.Subvolume) Contents {
		c.InDirectory = s
		return c
	}
	tests := []struct {
		name     string
		at       Position
		contents Contents
		openErr  error
		change   func(*Job)
		want     string // in the error
	}{
		{"an empty folder on another disk", other, Contents{}, nil, nil, ""},
		{"it is missing", other, Contents{}, fs.ErrNotExist, nil, ""},
		{"it cannot be opened", other, Contents{}, errSome, nil, errSome.Error()},
		{"the source's own filesystem", sameDisk, Contents{}, nil, nil, "same filesystem"},
		{"the source's own filesystem, and it is missing", sameDisk, Contents{}, fs.ErrNotExist, nil, "same filesystem"},
		{"the source's own filesystem, insisted upon", sameDisk, Contents{}, nil, insisted, ""},
		{"the source's own filesystem, a new destination", sameDisk, Contents{}, nil, begun, "same filesystem"},
		{"such a disk of another machine", otherMachine, Contents{}, nil, nil, ""},
		{"filesystems that are not known", Position{}, Contents{}, nil, nil, ""},
		{"the folder of the snapshots", source.At(), Contents{}, nil, insisted, "snapshot folder"},
		{"other things", other, theirs("photos"), nil, nil, "holds other things and no backups: \"photos\""},
		{"other things, a new destination", other, theirs("photos"), nil, begun, ""},
		{"other things beside what runs leave", other, theirs("photos", "lost+found", day(7)), nil, nil, ": \"photos\""},
		{"what runs and filesystems leave", other, theirs("lost+found", ".latest", btrfs.Incoming(day(7)), day(7)), nil, nil, ""},
		{"a hidden file", other, theirs(".profile"), nil, nil, ".profile"},
		{"a file named latest", other, theirs("the latest"), nil, nil, "the latest"},
		{"other things beside a backup", other, holding(theirs("photos"), foreign(9)), nil, nil, ""},
		{"other things beside one that is not finished", other, holding(theirs("photos"), foreign(9, hidden)), nil, nil, "photos"},
		{"other things beside one that can be written to", other, holding(theirs("photos"), foreign(9, writable)), nil, nil, "photos"},
		{"other things beside backups of directories", other, Contents{Foreign: []string{"photos"}, Recorded: []Recorded{{Name: day(9)}}}, nil, nil, ""},
		{"other things beside backups of volumes where those of a directory are to be", other, Contents{Foreign: []string{"photos"}, Received: []string{day(9)}}, nil, nil, ""},
		{"a backup on the source's own filesystem", sameDisk, holding(Contents{}, foreign(9)), nil, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source, d := newFakes()
			to := &placed{fakeDestination: d, at: test.at, contents: test.contents, openErr: test.openErr}
			report, err := Run(t.Context(), jobOf(taking{source}, to, func(j *Job) {
				j.NoSnapshot = false
				if test.change != nil {
					test.change(j)
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			all := report.AllFailures()
			switch made := len(source.entries) > 0 || source.ledger != ""; {
			case test.want == "" && len(all) > 0:
				t.Errorf("refused: %v", all)
			case test.want != "" && (len(all) != 1 || !strings.Contains(all[0].Err.Error(), test.want) || made):
				t.Errorf("%v, and made: %q, ledger %q; want %s", all, source.entries, source.ledger, test.want)
			case test.want == "" && source.entries[0] != "take":
				t.Errorf("no snapshot was taken: %q", source.entries)
			}
		})
	}
}

// taking takes snapshots, which nothing lists.
type taking struct{ *fakeSource }

func (s taking) Take(context.Context, string) (btrfs.Subvolume, error) {
	s.note("take")
	return snap(1), nil
}

func TestWhereNobodyIsLeftToSaveForNoSnapshotIsTakenUnlessOneIsOnlyAway(t *testing.T) {
	for name, test := range map[string]struct {
		ledger  string
		change  func(*Job)
		takes   bool
		creates bool
		failed  bool
	}{
		"it was never reached":               {failed: true},
		"it is away":                         {ledger: `{"` + day(1) + `": {"parent_locks": ["/backups"]}}`, takes: true, failed: true},
		"it is to be forgotten":              {ledger: `{"` + day(1) + `": {"parent_locks": ["/backups"]}}`, change: func(j *Job) { j.Forget = true }, failed: true},
		"there is none":                      {change: func(j *Job) { j.Destinations = nil }, takes: true},
		"nothing is to be done there":        {change: func(j *Job) { j.NoTransfer = true }, takes: true},
		"something is to be deleted there":   {change: func(j *Job) { j.NoTransfer, j.KeepBackups.Last = true, 1 }, failed: true},
		"it is missing":                      {change: missing, takes: true, creates: true},
		"it is missing, and this is a trial": {change: func(j *Job) { missing(j); j.DryRun = true }},
		"it is missing, and nothing is sent": {change: func(j *Job) { missing(j); j.NoTransfer, j.KeepBackups.Last = true, 1 }, takes: true},
	} {
		source, d := newFakes()
		source.ledger = test.ledger
		to := &placed{fakeDestination: d, at: Position{DirID: btrfs.DirID{Filesystem: uuid(5), Inode: 256}}, openErr: errSome}
		report, err := Run(t.Context(), jobOf(taking{source}, to, func(j *Job) {
			j.NoSnapshot = false
			if test.change != nil {
				test.change(j)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		took, created := slices.Contains(source.entries, "take"), slices.Contains(source.entries, "create")
		if took != test.takes || created != test.creates || len(report.AllFailures()) > 0 != test.failed {
			t.Errorf("%s: %q, %v", name, source.entries, report.AllFailures())
		}
	}
}

func missing(j *Job) { j.Destinations[0].(*placed).openErr = fs.ErrNotExist }

func TestAKnownDestinationIsKnownByItsIdentityOrItsBackups(t *testing.T) {
	holding := func(id string) Contents {
		return Contents{Identity: id, Listing: inFolder(Naming{}, subvolumes{foreign(9)}).Listing}
	}
	for _, test := range []struct {
		name  string
		found Contents
		want  string
	}{
		{"the same, still empty", Contents{Identity: "A"}, ""},
		{"another one that holds backups", holding("B"), ""},
		{"received subvolumes are there", Contents{Received: []string{day(9)}}, ""},
		{"another one, and empty", Contents{Identity: "B"}, "the backups that were made there are gone"},
		{"the record of what it is is gone", holding(""), "the backups that were made there are gone"},
		{"that record is gone beside dated names", Contents{Taken: []string{day(8)}}, "no record of"},
		{"another one with dated names", Contents{Identity: "B", Taken: []string{day(8)}}, "the backups that were made there are gone"},
		{"other things only", Contents{Taken: []string{"photos"}}, "the backups that were made there are gone"},
	} {
		state := lock.State{Dir: t.TempDir()}
		if err := state.AddUsed(t.Context(), "/backups", "A"); err != nil {
			t.Fatal(err)
		}
		source, d := newFakes(snap(1))
		to := &placed{fakeDestination: d, at: Position{DirID: btrfs.DirID{Filesystem: uuid(5), Inode: 256}}, contents: test.found}
		report, err := Run(t.Context(), jobOf(source, to, func(j *Job) { j.State = state }))
		if err != nil {
			t.Fatal(err)
		}
		all := report.AllFailures()
		if test.want == "" && len(all) > 0 || test.want != "" && (len(all) != 1 || !strings.Contains(all[0].Err.Error(), test.want)) {
			t.Errorf("%s: %v", test.name, all)
		}
	}
}

func TestTheLedgersEntryMovesWithADiskUnlessItsOldNameIsServedToo(t *testing.T) {
	for both, want := range map[bool]bool{false: false, true: true} {
		state := lock.State{Dir: t.TempDir()}
		if err := state.AddUsed(t.Context(), "/old", "A"); err != nil {
			t.Fatal(err)
		}
		source, d := newFakes(snap(1), snap(2))
		source.ledger = `{"` + day(1) + `": {"parent_locks": ["/old"]}}`
		at := Position{DirID: btrfs.DirID{Filesystem: uuid(5), Inode: 256}}
		to := &placed{fakeDestination: d, at: at, contents: Contents{Identity: "A", Listing: inFolder(Naming{}, subvolumes{backup(snap(1))}).Listing}}
		old := &placed{fakeDestination: &fakeDestination{fakeFolder: fakeFolder{diary: d.diary, name: "/old"}}, at: at, openErr: errSome}
		_, err := Run(t.Context(), jobOf(source, to, func(j *Job) {
			if j.State = state; both {
				j.Destinations = append(j.Destinations, old)
			}
		}))
		if err != nil || strings.Contains(source.ledger, "/old") != want || !strings.Contains(source.ledger, "/backups") {
			t.Errorf("both are served: %t, and the ledger is %s, %v", both, source.ledger, err)
		}
	}
}

func TestADirectorysHistoryOnItsOwnFilesystemIsWarnedOfAndRefusedInAnEmptyPlace(t *testing.T) {
	for empty, want := range map[bool]Outcome{false: Done, true: Failed} {
		_, d := newFakes()
		at := fakeDirectory{}
		to := &placed{fakeDestination: d, at: Position{DirID: btrfs.DirID{Filesystem: uuid(5)}, Empty: empty}}
		var said bytes.Buffer
		report, err := Run(t.Context(), jobOf(placedDirectory{at, uuid(5)}, to, func(j *Job) {
			j.NoSnapshot, j.Log = false, slog.New(slog.NewTextHandler(&said, nil))
		}))
		if err != nil || report.Outcome() != want || strings.Contains(said.String(), "same filesystem") == empty {
			t.Errorf("empty %t: %v, %v, and it said %s", empty, report.AllFailures(), err, &said)
		}
	}
}

type placedDirectory struct {
	fakeDirectory
	filesystem btrfs.UUID
}

func (p placedDirectory) At() Position { return Position{DirID: btrfs.DirID{Filesystem: p.filesystem}} }

func TestADestinationThatIsForgottenIsNewWhereTheLedgerIsAllThatKnowsIt(t *testing.T) {
	known := `{"` + day(1) + `": {"parent_locks": ["/backups"]}}`
	for _, forget := range []bool{false, true} {
		source, d := newFakes(snap(1))
		source.ledger = known
		to := &placed{fakeDestination: d, at: Position{DirID: btrfs.DirID{Filesystem: uuid(5), Inode: 256}}, contents: Contents{Foreign: []string{"photos"}}}
		report, err := Run(t.Context(), jobOf(source, to, func(j *Job) { j.Forget = forget }))
		if err != nil {
			t.Fatal(err)
		}
		all := report.AllFailures()
		if len(all) != 1 || strings.Contains(all[0].Err.Error(), "other things") != forget {
			t.Errorf("forget %t: %v", forget, all)
		}
	}
}

func TestWhatIsInTheWayIsToldAndTheNewestIsAFailure(t *testing.T) {
	s1, s2 := snap(1), snap(2)
	wrong := snap(2, receivedAs(77), altered)
	old := snap(1, receivedAs(77), altered)
	noTransfer := func(j *Job) { j.NoTransfer = true }
	clean := func(j *Job) { j.CleanPartial = true }
	tests := []struct {
		name     string
		here     subvolumes
		there    subvolumes
		change   func(*Job)
		warnings []string
		failures []string
	}{
		{"an older one", subvolumes{s1, s2}, subvolumes{foreign(1)}, nil, []string{day(1) + ` not saved: the name is taken`}, nil},
		{"the newest", subvolumes{s2}, subvolumes{foreign(2)}, nil, nil, []string{"sending " + day(2)}},
		{"both", subvolumes{s1, s2}, subvolumes{foreign(1), foreign(2)}, nil, []string{day(1) + ` not saved`}, []string{"sending " + day(2)}},
		{"a partial one of no version", subvolumes{s2}, subvolumes{foreign(1, writable, neverReceived)}, nil, []string{day(1) + `: writable`}, nil},
		{"a partial one in the way is told once", subvolumes{s2}, subvolumes{foreign(2, writable, neverReceived)}, nil, nil, []string{"sending " + day(2)}},
		{"a partial one that is to be cleaned", subvolumes{s2}, subvolumes{foreign(1, writable, neverReceived)}, clean, nil, nil},
		{"a version that is not what it was received as", subvolumes{old, s2}, nil, nil, []string{day(1) + ` not sent: altered since it was received`}, nil},
		{"the newest is not", subvolumes{s1, wrong}, nil, nil, nil, []string{day(2) + " not sent: altered"}},
		{"where nothing is sent that is nobody's concern", subvolumes{s1, wrong}, nil, noTransfer, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source, d := newFakes(test.here...)
			d.here = test.there
			var said bytes.Buffer
			report, err := Run(t.Context(), jobOf(source, d, func(j *Job) {
				j.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
				j.State = lock.State{Dir: t.TempDir()}
				if test.change != nil {
					test.change(j)
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(said.String(), `\"`, "")
			all := report.AllFailures()
			if strings.Count(text, "\n") != len(test.warnings) || len(all) != len(test.failures) {
				t.Errorf("it said %s, and failed by %v", text, all)
			}
			for _, want := range test.warnings {
				if !strings.Contains(text, want) {
					t.Errorf("it said %s, not %s", text, want)
				}
			}
			for i, want := range test.failures {
				if !strings.Contains(strings.ReplaceAll(all[i].Err.Error(), `"`, ""), want) || hint.Of(all[i].Err) == "" {
					t.Errorf("%v, not %s", all[i].Err, want)
				}
			}
		})
	}
}
