package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
)

// volumeOf is a subvolume that can be written to.
func volumeOf(n uint64, changes ...change) btrfs.Subvolume {
	return changed(btrfs.Subvolume{ID: 300 + n, Name: fmt.Sprint("volume ", n), UUID: uuid(900 + n), CreatedIn: 1}, changes)
}

func TestASourceContinuesTheHistoryOfWhatItDescendsFromUnlessThatIsASourceOfItsOwn(t *testing.T) {
	broken, template := volumeOf(1), volumeOf(2)
	gone, top := volumeOf(3), btrfs.Subvolume{UUID: uuid(9999)}
	of := func(n uint64, v btrfs.Subvolume) btrfs.Subvolume { return snap(n, childOf(v)) }
	copied := of(7, snap(6))
	receivedAs(77)(&copied)
	whole := copied // sent without a parent
	whole.ParentUUID = btrfs.UUID{}
	ring := [2]btrfs.Subvolume{snap(11, childOf(snap(12))), snap(12, childOf(snap(11)))}
	tests := []struct {
		name     string
		parent   btrfs.Subvolume
		all      subvolumes
		onRecord []btrfs.UUID
		origins  map[btrfs.UUID]btrfs.UUID
		want     []btrfs.UUID
		clone    bool
	}{
		{"a rollback, and what was before is on record", of(1, broken), subvolumes{of(1, broken), broken}, []btrfs.UUID{broken.UUID}, nil,
			[]btrfs.UUID{uuid(1), broken.UUID}, false},
		{"a rollback, and what was before is gone", of(1, gone), subvolumes{of(1, gone)}, nil, nil, []btrfs.UUID{uuid(1), gone.UUID}, false},
		{"a clone of a living template", of(1, template), subvolumes{of(1, template), template}, nil, nil, nil, true},
		{"a clone made without a snapshot", template, subvolumes{template}, nil, nil, nil, true},
		{"a clone of the top level", of(1, top), subvolumes{of(1, top)}, nil, nil, nil, true},
		{"a second rollback", of(2, gone), subvolumes{of(2, gone), of(1, broken), broken}, []btrfs.UUID{gone.UUID, broken.UUID, uuid(1)}, nil,
			[]btrfs.UUID{uuid(2), gone.UUID, broken.UUID, uuid(1)}, false},
		{"another source is on record under its name", of(1, template), subvolumes{of(1, template), template}, []btrfs.UUID{broken.UUID}, nil, nil, true},
		{"two clones of one that is gone", of(1, gone), subvolumes{of(1, gone), volumeOf(5, childOf(snap(1)))}, nil, nil, nil, true},
		{"the other one is on record", of(1, gone), subvolumes{of(1, gone), volumeOf(5, childOf(snap(1)))}, []btrfs.UUID{volumeOf(5).UUID}, nil,
			[]btrfs.UUID{uuid(1), gone.UUID}, false},
		{"a template above it has clones", of(1, gone), subvolumes{of(1, gone), volumeOf(5, childOf(btrfs.Subvolume{UUID: home.UUID}))}, nil, nil,
			[]btrfs.UUID{uuid(1), gone.UUID}, false},
		{"a clone whose template was deleted since", of(1, gone), subvolumes{of(1, gone)}, []btrfs.UUID{home.UUID}, nil, nil, true},
		{"a rollback whose old source was deleted since", of(1, gone), subvolumes{of(1, gone)}, []btrfs.UUID{home.UUID, uuid(1), gone.UUID}, nil,
			[]btrfs.UUID{uuid(1), gone.UUID}, false},
		{"a restore that is saved to a further destination", copied, subvolumes{copied}, []btrfs.UUID{home.UUID, uuid(7), uuid(6)},
			map[btrfs.UUID]btrfs.UUID{uuid(77): uuid(800)}, []btrfs.UUID{uuid(7), uuid(6), uuid(800)}, false},
		{"a restore", copied, subvolumes{copied}, nil, map[btrfs.UUID]btrfs.UUID{uuid(77): uuid(800)}, []btrfs.UUID{uuid(7), uuid(6), uuid(800)}, false},
		{"a restore beside the living source", copied, subvolumes{copied, broken}, nil, map[btrfs.UUID]btrfs.UUID{uuid(77): broken.UUID},
			[]btrfs.UUID{uuid(7), uuid(6)}, false},
		{"a restore of a copy without a parent", whole, subvolumes{whole}, nil, map[btrfs.UUID]btrfs.UUID{uuid(77): uuid(800)},
			[]btrfs.UUID{uuid(7), uuid(800)}, false},
		{"a restore of a copy without a record", whole, subvolumes{whole}, nil, nil, []btrfs.UUID{uuid(7)}, false},
		{"two restores of one copy", whole, subvolumes{whole, volumeOf(5, childOf(whole))}, nil, map[btrfs.UUID]btrfs.UUID{uuid(77): uuid(800)}, nil, false},
		{"a restore in the place of the source that lives", copied, subvolumes{copied, broken}, []btrfs.UUID{broken.UUID},
			map[btrfs.UUID]btrfs.UUID{uuid(77): broken.UUID}, []btrfs.UUID{uuid(7), uuid(6), broken.UUID}, false},
		{"a snapshot that inherits a received UUID", snap(8, inherits(77)), subvolumes{snap(8, inherits(77))}, []btrfs.UUID{home.UUID, uuid(8)},
			map[btrfs.UUID]btrfs.UUID{uuid(77): uuid(800)}, []btrfs.UUID{uuid(8)}, false},
		{"a rollback beside what is not finished", of(1, gone), subvolumes{of(1, gone), volumeOf(5, childOf(snap(1)), hidden)}, nil, nil,
			[]btrfs.UUID{uuid(1), gone.UUID}, false},
		{"a ring, and another that descends from it", ring[0], subvolumes{ring[0], ring[1], volumeOf(5, childOf(ring[1]))}, []btrfs.UUID{uuid(11), uuid(12)}, nil,
			[]btrfs.UUID{uuid(11), uuid(12)}, false},
		{"a snapshot of a copy", of(8, copied), subvolumes{copied, of(8, copied)}, nil, map[btrfs.UUID]btrfs.UUID{uuid(77): uuid(800)},
			[]btrfs.UUID{uuid(8), uuid(7), uuid(6), uuid(800)}, false},
	}
	for _, test := range tests {
		source := changed(home, []change{childOf(test.parent)})
		s := plan.Side{Listing: btrfs.Listing{All: append(test.all, source), Top: uuid(9999)}, Record: kin.Record{Sources: test.onRecord, Origins: test.origins}}
		got := s.Line(source)
		wanted := append(test.want, source.UUID)
		missing := slices.ContainsFunc(wanted, func(u btrfs.UUID) bool { return !got.UUIDs[u] })
		if missing || len(got.UUIDs) != len(wanted) && !strings.HasPrefix(test.name, "the other") || got.Clone != test.clone {
			t.Errorf("%s: %v, clone %t, want %v", test.name, got.UUIDs, got.Clone, wanted)
		}
	}
}

func TestASourceThatWasRenamedContinuesWhatWasDecidedUnderItsOldName(t *testing.T) {
	gone := volumeOf(3)
	source := changed(home, []change{childOf(snap(1, childOf(gone)))})
	s := plan.Side{Listing: btrfs.Listing{All: subvolumes{snap(1, childOf(gone)), source}, Top: uuid(9999)}}
	for _, test := range []struct {
		renamed []btrfs.UUID
		want    bool
	}{{nil, true}, {[]btrfs.UUID{source.UUID}, false}, {[]btrfs.UUID{source.UUID, gone.UUID, uuid(50)}, true}} {
		s.Record.Renamed = test.renamed
		if got := s.Line(source).UUIDs; got[gone.UUID] != test.want || got[uuid(50)] {
			t.Errorf("with %v on record: %v", test.renamed, got)
		}
	}
}

func TestWithoutItsRecordASourceContinuesNothing(t *testing.T) {
	source := changed(home, []change{childOf(volumeOf(3))})
	s := plan.Side{Listing: btrfs.Listing{All: subvolumes{source}, Top: uuid(9999)}, Record: kin.Record{Lost: true}}
	if l := s.Line(source); !l.Clone || len(l.UUIDs) != 1 {
		t.Errorf("%+v", l)
	}
}

func TestWhereNotAllSubvolumesAreSeenAnAncestorMayLive(t *testing.T) {
	source := changed(home, []change{childOf(volumeOf(3))})
	s := plan.Side{Listing: btrfs.Listing{All: subvolumes{source}}}
	if l := s.Line(source); !l.Clone || len(l.UUIDs) != 1 {
		t.Errorf("%+v", l)
	}
	if s.Record.Sources = []btrfs.UUID{volumeOf(3).UUID}; !s.Line(source).UUIDs[volumeOf(3).UUID] {
		t.Error("but not when it is on record")
	}
	restored := snap(7, childOf(btrfs.Subvolume{}), receivedAs(77))
	source = changed(home, []change{childOf(restored)})
	s = plan.Side{Listing: btrfs.Listing{All: subvolumes{source, restored}}}
	if l := s.Line(source); !l.UUIDs[restored.UUID] {
		t.Errorf("what is seen to be read-only lives as no source: %+v", l)
	}
}

func TestACloneLeavesTheBackupsOfItsTemplate(t *testing.T) {
	template := volumeOf(2)
	s1 := snap(1, childOf(template))
	s2 := snap(2)
	b1 := backup(s1)
	old := foreign(9, childOf(b1), named("20251231-000000")) // without a record, of a snapshot that is gone
	b2 := backup(s2, childOf(b1))
	p := newPlanner(subvolumes{s1, s2, snap(3)}, subvolumes{b1, old, b2}, keep(1))
	p.Source.ParentUUID = s1.UUID
	p.Snapshots.All = append(p.Snapshots.All, template)
	if got := actions(p.Plan()); got != "send 3 from 2; delete 2" {
		t.Errorf("plan: %s", got)
	}
	p.Snapshots.Record.Sources = []btrfs.UUID{template.UUID} // a rollback
	if got := actions(p.Plan()); got != "send 3 from 2; delete 1; delete 2; delete 20251231-000000" {
		t.Errorf("plan of a rollback: %s", got)
	}
}

func TestOfSourcesThatLivedAtTheSameTimeOneIsContinued(t *testing.T) {
	copied := snap(7)
	receivedAs(77)(&copied)
	source := changed(home, []change{childOf(copied)})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	source.Created = now
	original := uuid(800)
	for name, test := range map[string]struct {
		original, own kin.Held
		want          bool
	}{
		"one after another":             {kin.Held{First: 1, Last: 4, Arrived: now}, kin.Held{First: 5, Last: 6}, true},
		"interleaved":                   {kin.Held{First: 1, Last: 6, Arrived: now}, kin.Held{First: 5, Last: 7}, false},
		"the original last":             {kin.Held{First: 6, Last: 6, Arrived: now}, kin.Held{First: 5, Last: 5}, false},
		"on record as apart":            {kin.Held{First: 1, Last: 4, Apart: []btrfs.UUID{source.UUID}}, kin.Held{First: 5, Last: 6}, false},
		"arrived after that was made":   {kin.Held{First: 1, Last: 4, Arrived: now.Add(1)}, kin.Held{First: 5, Last: 6}, false},
		"nothing of its own as yet":     {kin.Held{First: 1, Last: 4, Arrived: now}, kin.Held{}, true},
		"it arrived, nothing of itself": {kin.Held{First: 1, Last: 4, Arrived: now.Add(1)}, kin.Held{}, false},
	} {
		for _, onRecord := range [][]btrfs.UUID{nil, {source.UUID, copied.UUID, original}} {
			s := plan.Side{Listing: btrfs.Listing{All: subvolumes{copied, source}, Top: uuid(9999)}, Record: kin.Record{Sources: onRecord,
				Origins: map[btrfs.UUID]btrfs.UUID{uuid(77): original}, Held: map[btrfs.UUID]kin.Held{original: test.original, source.UUID: test.own}}}
			if got := s.Line(source); got.UUIDs[original] != test.want || got.Restored[original] != test.want {
				t.Errorf("%s, with %v on record: %+v", name, onRecord, got)
			}
		}
	}
}
