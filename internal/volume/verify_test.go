package volume

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
)

type change func(*btrfs.Subvolume)

func uuid(n int) btrfs.UUID { return btrfs.UUID{1, byte(n >> 8), byte(n)} }

func changed(s btrfs.Subvolume, changes []change) btrfs.Subvolume {
	for _, c := range changes {
		c(&s)
	}
	return s
}

func writable(s *btrfs.Subvolume)      { s.ReadOnly = false }
func neverReceived(s *btrfs.Subvolume) { s.ReceivedUUID = btrfs.UUID{} }
func receivedAs(n int) change          { return func(s *btrfs.Subvolume) { s.ReceivedUUID = uuid(n) } }
func childOf(parent btrfs.Subvolume) change {
	return func(s *btrfs.Subvolume) { s.ParentUUID = parent.UUID }
}

// snap is the nth snapshot, backup a complete copy of a snapshot, and foreign one of a snapshot that nobody knows.
func snap(n int, changes ...change) btrfs.Subvolume {
	return changed(btrfs.Subvolume{ID: uint64(n), Name: "snapshot", UUID: uuid(n), ReadOnly: true}, changes)
}

func backup(s btrfs.Subvolume, changes ...change) btrfs.Subvolume {
	return changed(btrfs.Subvolume{ID: s.ID, UUID: uuid(1000 + int(s.ID)), ReceivedUUID: s.Identity(), ReadOnly: true,
		CreatedIn: 3, ReceivedIn: 4}, changes)
}

func foreign(n int, changes ...change) btrfs.Subvolume { return backup(snap(2000+n), changes...) }

func TestVerifyAcceptsOnlyWhatWasSent(t *testing.T) {
	s1, s2 := snap(1), snap(2)
	restored := snap(3, receivedAs(77))
	b1 := backup(s1)
	altered := foreign(8, receivedAs(1), func(s *btrfs.Subvolume) { s.AlteredIn = 9 })
	snapshotOf := func(n int, s btrfs.Subvolume) btrfs.Subvolume {
		return foreign(n, receivedAs(1), childOf(s), func(s *btrfs.Subvolume) { s.CreatedIn = 10 })
	}
	twin, twinOfAltered := snapshotOf(10, b1), snapshotOf(11, altered)
	full, increment := engine.Transfer{Snapshot: s2}, engine.Transfer{Snapshot: s2, Parent: &s1}
	tests := []struct {
		name     string
		transfer engine.Transfer
		received btrfs.Subvolume
		good     bool
	}{
		{"a complete copy", full, backup(s2), true},
		{"a complete copy of a restored snapshot", engine.Transfer{Snapshot: restored}, foreign(3, receivedAs(77)), true},
		{"an increment", increment, backup(s2, childOf(b1)), true},
		{"an increment to another copy", increment, backup(s2, childOf(foreign(5))), true},
		{"an increment to a snapshot of a copy", increment, backup(s2, childOf(twin)), false},
		{"an increment to a copy that was altered", increment, backup(s2, childOf(altered)), false},
		{"an increment to a snapshot of that", increment, backup(s2, childOf(twinOfAltered)), false},
		{"writable", full, backup(s2, writable), false},
		{"without a received UUID", full, backup(s2, neverReceived), false},
		{"a copy of something else", full, foreign(2), false},
		{"a copy of a restored snapshot by its own UUID", engine.Transfer{Snapshot: restored}, foreign(3, receivedAs(3)), false},
		{"an increment instead of a complete copy", full, backup(s2, childOf(b1)), false},
		{"a complete copy instead of an increment", increment, backup(s2), false},
		{"an increment to something else", increment, backup(s2, childOf(foreign(6))), false},
		{"an increment to the snapshot itself", increment, backup(s2, childOf(snap(7))), false},
	}
	another := foreign(5, receivedAs(1)) // of s1, in another folder of the filesystem
	there := []btrfs.Subvolume{b1, another, foreign(6), altered, twin, twinOfAltered}
	for _, test := range tests {
		err := verify(test.transfer, test.received, there)
		if (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
		if errors.Is(err, copies.ErrWrongParent) != (strings.HasPrefix(test.name, "an increment to") && !test.good || strings.HasPrefix(test.name, "a complete copy instead")) {
			t.Errorf("%s: another parent would help or not: %v", test.name, err)
		}
	}
}

// A countingDir counts how often it is listed.
type countingDir struct {
	host.Folder
	host.Backups
	all    []btrfs.Subvolume
	listed int
}

func (d *countingDir) List(context.Context) (host.Content, error) {
	d.listed++
	return host.Content{Listing: btrfs.Listing{All: d.all}}, nil
}

func TestAnIncrementIsVerifiedByTheLastListingWhereThatTellsOfTheParent(t *testing.T) {
	s1, s2, s3 := snap(1), snap(2), snap(3)
	b1 := backup(s1)
	b2, b3 := backup(s2, childOf(b1)), backup(s3, childOf(backup(s2)))
	first := stream.Transfer{Transfer: engine.Transfer{Snapshot: s2, Parent: &s1}}
	second := stream.Transfer{Transfer: engine.Transfer{Snapshot: s3, Parent: &s2}}
	for stock, want := range map[bool][2]int{false: {1, 2}, true: {2, 3}} {
		dir := &countingDir{all: []btrfs.Subvolume{b1}}
		d := &Destination{folder: folder{host: here, dir: &host.Dir{Folder: dir, Backups: dir}, Options: Options{Stock: stock}}}
		_, err := d.List(t.Context())
		check(t, err)
		check(t, d.Verify(t.Context(), first, b2))
		dir.all = append(dir.all, b2)
		got := [2]int{dir.listed}
		check(t, d.Verify(t.Context(), second, b3))
		if got[1] = dir.listed; got != want {
			t.Errorf("received by the program %t: listed %d times, want %d", stock, got, want)
		}
		if err := d.Verify(t.Context(), second, backup(s3, childOf(foreign(6)))); !errors.Is(err, copies.ErrWrongParent) {
			t.Errorf("another parent: %v", err)
		}
	}
}
