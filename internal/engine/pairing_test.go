package engine

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
)

func TestPairing(t *testing.T) {
	s := snap(1)
	received := snap(2, receivedAs(77)) // home itself was received, or s was restored from a backup
	inherited := snap(6, inherits(77))  // the source was received, and made writable
	alteredOne := snap(1, altered)
	filled := func(in uint64) change {
		return func(s *btrfs.Subvolume) { s.UUID, s.SentIn, s.ReceivedIn, s.ChangedIn = uuid(77), in, in+1, in }
	}
	dedup := func(s *btrfs.Subvolume) { s.ChangedIn += 100 }
	tests := []struct {
		name    string
		of      btrfs.Subvolume
		present subvolumes
		want    string
		here    subvolumes
	}{
		{"a received copy", s, subvolumes{backup(s)}, day(1), nil},
		{"under another name", s, subvolumes{backup(s, named("renamed"))}, "renamed", nil},
		{"the same name alone", s, subvolumes{foreign(1)}, "", nil},
		{"duplicates", s, subvolumes{backup(s), foreign(3), backup(s, named("duplicate"))}, day(1) + " duplicate", nil},
		{"the very subvolume", s, subvolumes{s}, day(1), nil},
		{"both are copies of a third", received, subvolumes{foreign(3, receivedAs(77))}, day(3), nil},
		{"it is a copy of what stands there", received, subvolumes{snap(5, func(s *btrfs.Subvolume) { s.UUID = uuid(77) })}, day(5), nil},
		{"it is a copy of what was filled there", received, subvolumes{snap(5, filled(4), func(s *btrfs.Subvolume) { s.CreatedIn = 2 })}, day(5), nil},
		{"it is a copy of what was altered there", received, subvolumes{snap(5, filled(4), altered, func(s *btrfs.Subvolume) { s.CreatedIn = 2 })}, "", nil},
		{"altered, and what it is a copy of was filled in a transaction of that number", changed(received, []change{altered, sentIn(500)}),
			subvolumes{snap(5, filled(200))}, "", nil},
		{"a copy of it before it was received", received, subvolumes{foreign(3, receivedAs(2))}, "", nil},
		{"a writable copy", s, subvolumes{backup(s, writable)}, "", nil},
		{"an unfinished copy", s, subvolumes{backup(s, hidden)}, "", nil},
		{"never received ones", btrfs.Subvolume{Name: day(1), ReadOnly: true}, subvolumes{foreign(1, neverReceived), {ReadOnly: true, Name: "no UUID at all"}}, "", nil},
		{"an altered copy", s, subvolumes{backup(s, altered)}, "", nil},
		{"a snapshot of a copy", s, subvolumes{backup(s, inherits(1))}, "", nil},
		{"deduplicated since it was sent", changed(s, []change{dedup}), subvolumes{backup(s)}, day(1), nil},
		{"altered since it was sent", changed(s, []change{altered}), subvolumes{backup(s)}, "", nil},
		{"sent since it was altered", alteredOne, subvolumes{backup(alteredOne)}, day(1), nil},
		{"altered, and the copy is of a copy", alteredOne, subvolumes{backup(alteredOne, sentIn(9))}, "", nil},
		{"altered, and the copy is of what was sent elsewhere", alteredOne, subvolumes{backup(alteredOne, sentIn(9999))}, "", nil},
		{"a copy of a copy", s, subvolumes{backup(s, sentIn(99))}, day(1), nil},
		{"it inherits a received UUID", inherited, subvolumes{foreign(3, receivedAs(77))}, "", nil},
		{"its own copy", inherited, subvolumes{foreign(3, receivedAs(77)), backup(inherited)}, day(6), nil},
		{"it was altered since it was received", changed(received, []change{altered}), subvolumes{foreign(3, receivedAs(77))}, "", nil},
		{"two were received as one", received, subvolumes{foreign(3, receivedAs(77), sentIn(900))}, day(3), subvolumes{received, received}},
		{"two states were received as one", received, subvolumes{foreign(3, receivedAs(77), sentIn(900))}, "", subvolumes{received, changed(received, []change{sentIn(6)})}},
		{"restored beside another copy", changed(received, []change{sentIn(5)}),
			subvolumes{foreign(3, receivedAs(77), sentIn(900), func(s *btrfs.Subvolume) { s.ChangedIn = 5 })}, day(3), subvolumes{received, changed(received, []change{sentIn(6)})}},
		{"the number tells which", received, subvolumes{foreign(3, receivedAs(77), sentIn(6)), foreign(4, receivedAs(77))}, day(4),
			subvolumes{received, changed(received, []change{sentIn(6)})}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := joined(copies.New(test.here, inFolder(Naming{}, test.present).Listing).Of(test.of)); got != test.want {
				t.Errorf("copies: %q, want %q", got, test.want)
			}
		})
	}
}

func TestLineage(t *testing.T) {
	deleted := btrfs.Subvolume{UUID: uuid(99)}
	child := snap(1)
	grandchild := snap(2, childOf(child))
	ring := [3]btrfs.Subvolume{snap(11), snap(12), snap(13)}
	for i := range ring {
		ring[i] = changed(ring[i], []change{childOf(ring[(i+1)%len(ring)])})
	}
	orphans := [2]btrfs.Subvolume{snap(21, childOf(deleted)), snap(22, childOf(deleted))}
	alone := [2]btrfs.Subvolume{foreign(31), foreign(32)}
	self := snap(41, func(s *btrfs.Subvolume) { s.ParentUUID = s.UUID })
	all := subvolumes{home, child, grandchild, ring[0], ring[1], ring[2], orphans[0], orphans[1], alone[0], alone[1], self}
	tests := []struct {
		name string
		a, b btrfs.Subvolume
		want bool
	}{
		{"parent and child", home, child, true},
		{"grandparent", home, grandchild, true},
		{"siblings", child, snap(3), true},
		{"children of one that is deleted", orphans[0], orphans[1], true},
		{"of two families", child, orphans[0], false},
		{"without parents", alone[0], alone[1], false},
		{"in a ring", ring[0], ring[2], true},
		{"a ring and a family", ring[1], child, false},
		{"its own parent", self, home, false},
		{"itself", alone[0], alone[0], false},
		{"one that has no UUID yet", btrfs.Subvolume{ParentUUID: home.UUID}, grandchild, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, pair := range [][2]btrfs.Subvolume{{test.a, test.b}, {test.b, test.a}} {
				l := kin.NewLineage(all)
				for range 2 { // the second time from what is remembered
					if got := related(l, pair[0], pair[1]); got != test.want {
						t.Errorf("related: %t", got)
					}
				}
			}
		})
	}
}

func TestLineageDoesNotDependOnTheOrderOfAsking(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var all subvolumes
		for n := range uint64(12) {
			parent := btrfs.Subvolume{UUID: uuid(1 + rng.Uint64N(16))} // some are not there, some form rings
			all = append(all, snap(1+n, childOf(parent)))
		}
		once := kin.NewLineage(all)
		for range 30 {
			a, b := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
			if got, want := related(once, a, b), related(kin.NewLineage(all), a, b); got != want {
				t.Fatalf("related is %t, asked first %t: %v and %v of %v", got, want, a, b, all)
			}
		}
	}
}

// basesOf names those of the candidates that s can be built upon.
func basesOf(l kin.Lineage, s btrfs.Subvolume, candidates subvolumes) string {
	var names []string
	for base := range kin.NewBases(l, candidates).Of(&s) {
		names = append(names, base.Name)
	}
	return strings.Join(names, " ")
}

// related tells that one of the two can be built upon the other.
func related(l kin.Lineage, a, b btrfs.Subvolume) bool {
	for range kin.NewBases(l, subvolumes{b}).Of(&a) {
		return true
	}
	return false
}

func TestLadderOrder(t *testing.T) {
	s := snap(5)
	others := btrfs.Subvolume{UUID: uuid(900)}
	candidates := subvolumes{snap(7), snap(2), snap(4, childOf(others)), s, snap(3), snap(6), snap(1)}
	l := kin.NewLineage(append(candidates, home))
	if got, want := basesOf(l, s, candidates), joined(subvolumes{snap(3), snap(2), snap(1), snap(6), snap(7)}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	planned := btrfs.Subvolume{ID: 1<<64 - 1, ParentUUID: home.UUID, CreatedIn: 1<<64 - 1}
	if got, want := basesOf(l, planned, subvolumes{snap(1), snap(2)}), joined(subvolumes{snap(2), snap(1)}); got != want {
		t.Errorf("for one that is yet to be taken: %s, want %s", got, want)
	}
}

func TestAgeIsTheOrderOfCreationWhateverTheClockSaid(t *testing.T) {
	older, newer := snap(1, named(day(9))), snap(2, named(day(1)))
	same := snap(3, func(s *btrfs.Subvolume) { s.CreatedIn = newer.CreatedIn })
	for _, pair := range [][2]btrfs.Subvolume{{older, newer}, {newer, same}} {
		if kin.ByAge(pair[0], pair[1]) >= 0 || kin.ByAge(pair[1], pair[0]) <= 0 || kin.ByAge(pair[0], pair[0]) != 0 {
			t.Errorf("%v is not older than %v", pair[0], pair[1])
		}
	}
}
