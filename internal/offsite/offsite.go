// Package offsite backs subvolumes up to stores: send streams, encrypted, as objects on a server or in a folder.
//
// A backup is of use with all that its stream builds on, so the destination tells the planner how these chains are made, and deletes
// what builds on something before that. It knows its backups by their signed manifests, which no secret key is needed for: the
// machine that is backed up cannot read what it stored.
package offsite

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// A Place is where a store lies.
type Place interface {
	// String names it as people know it.
	String() string
	// Open gives the bucket. A folder that is missing is fs.ErrNotExist. Wire is told of bytes that cross a network.
	Open(ctx context.Context, wire func(n int64)) (object.Bucket, io.Closer, error)
	// Create makes what Open found missing.
	Create(ctx context.Context) error
	// Above gives the place in which this one lies under a name; nil if there is none.
	Above() (above Place, name string)
}

// Options tell how a store is used.
type Options struct {
	store.Options
	Progress     *progress.Display
	Now          func() time.Time
	Program      string // version of this program
	MaxParentAge time.Duration
	Locks        bool              // backups are locked for as long as they are needed
	Classes      map[string]string // storage classes, see plan.Role.First
	HideNames    []byte            // a secret that names of sources are replaced by; nil: they are not
}

// listing gives the whole backups of a catalog, as subvolumes that were received: all that relates versions is known of them. The
// others are broken.
func listing(c *store.Catalog) (all []btrfs.Subvolume, broken []store.Backup) {
	made := make(map[btrfs.UUID]btrfs.UUID) // by what they are of
	for _, b := range c.Backups {
		if len(b.Faults) == 0 {
			made[b.UUID] = uuidOf(b.Manifest)
		}
	}
	for i, b := range c.Backups {
		if len(b.Faults) > 0 {
			broken = append(broken, b)
			continue
		}
		s := described(i+1, b.Manifest, b.Committed)
		if s.ParentUUID = made[b.Parent]; s.ParentUUID.IsZero() {
			s.ParentUUID = b.Parent // which nothing there has
		}
		all = append(all, s)
	}
	return all, broken
}

// lockedIn tells until when backups are locked, if they still are.
func lockedIn(c *store.Catalog, now time.Time) map[string]time.Time {
	locked := make(map[string]time.Time)
	for _, b := range c.Backups {
		if b.Locked.After(now) {
			locked[b.Name] = b.Locked
		}
	}
	return locked
}

// described gives a backup as a subvolume, but for its parent.
func described(number int, m store.Manifest, committed time.Time) btrfs.Subvolume {
	order := uint64(number)
	return btrfs.Subvolume{ID: order, Name: m.Name, UUID: uuidOf(m), ReceivedUUID: m.UUID, ReadOnly: true, SentIn: m.TransID, CreatedIn: order,
		ChangedIn: order, ReceivedIn: order, Created: committed, ReceivedAt: committed}
}

// uuidOf gives a backup a UUID of its own, as each attempt to make one has.
func uuidOf(m store.Manifest) (uuid btrfs.UUID) {
	sum := blake2b.Sum256([]byte(m.Dir))
	copy(uuid[:], sum[:])
	return uuid
}

// BrokenError tells of backups that are not what they were.
type BrokenError struct {
	At     string
	Names  []string
	Faults []string // of the first one
}

func (e *BrokenError) Error() string {
	text := fmt.Sprintf("%s: %s cannot be restored: %s", e.At, engine.Few(e.Names), progress.Few(e.Faults))
	return text
}

// Hint gives the way forward.
func (e *BrokenError) Hint() string {
	return "what the source still has is stored once more; of the rest, `btrfs-backup verify` tells all that is wrong"
}

func brokenError(at string, broken []store.Backup) error {
	if len(broken) == 0 {
		return nil
	}
	e := &BrokenError{At: at, Faults: broken[0].Faults}
	for _, b := range broken {
		e.Names = append(e.Names, b.Name)
	}
	return e
}
