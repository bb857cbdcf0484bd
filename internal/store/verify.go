package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Check tells how a backup is verified.
type Check struct {
	Download bool                  // fetch objects; else whoever keeps them tells their SHA-256
	Takes    func(key string) bool // chooses objects; nil: all
	Read     func(bytes int64)     // is told of what is compared
}

// Verified tells what came of it.
type Verified struct {
	Objects  int   // that were compared
	Bytes    int64 // of them
	Unproved int   // objects whose SHA-256 nobody tells
	Damaged  []Damage
}

// A Damage is an object that is not what it was.
type Damage struct {
	Object string // its name in the directory of the backup
	Why    string
	Gone   bool // it is missing
}

// Verify compares the objects of a backup with its manifest, and that with its signature. What could not be asked or fetched is an error,
// and no damage.
func (s *Store) Verify(ctx context.Context, b *Backup, c Check) (v Verified, err error) {
	if err := s.verifyManifest(ctx, b); err != nil {
		damage, isDamaged := damageOf(manifestName, err)
		if !isDamaged {
			return v, err
		}
		v.Damaged = append(v.Damaged, damage)
	}
	all := slices.DeleteFunc(b.objects(), func(o anObject) bool { return c.Takes != nil && !c.Takes(o.key) })
	var mu sync.Mutex
	parallel := atOnce
	if c.Download {
		parallel = underWay // which are in memory
	}
	err = inParallel(parallel, len(all), func(i int) error {
		o := all[i]
		proved, err := s.compare(ctx, o, c.Download)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			damage, isDamaged := damageOf(o.key, err)
			if !isDamaged {
				return err
			}
			v.Damaged = append(v.Damaged, damage)
		case proved:
			v.Objects++
			v.Bytes += o.Size
		default:
			v.Unproved++
		}
		if c.Read != nil {
			c.Read(o.Size)
		}
		return nil
	})
	slices.SortFunc(v.Damaged, func(a, b Damage) int { return cmp.Compare(a.Object, b.Object) })
	return v, err
}

// damageOf gives what an error tells of an object, if that is what is wrong.
func damageOf(key string, err error) (d Damage, ok bool) {
	_, why, _ := strings.Cut(err.Error(), ErrDamaged.Error()+": ")
	if errors.Is(err, fs.ErrNotExist) {
		why = isMissing
	} else if !errors.Is(err, ErrDamaged) {
		return d, false
	}
	return Damage{path.Base(key), why, why == isMissing}, true
}

// verifyManifest looks whether the manifest is there as it was signed.
func (s *Store) verifyManifest(ctx context.Context, b *Backup) error {
	key := b.Dir + manifestName
	return s.tryVersions(ctx, key, func(r object.Ref) error {
		content, err := object.Read(ctx, s.bucket, r)
		if err != nil {
			return err
		}
		if _, err := s.decode(b.Dir, content); err != nil {
			return s.damaged(key, "it is not what was signed")
		}
		return nil
	})
}

// compare tells whether an object was proved to be what the manifest tells. One that is not is ErrDamaged, a missing one that or
// fs.ErrNotExist.
func (s *Store) compare(ctx context.Context, o anObject, download bool) (proved bool, err error) {
	if download {
		_, err := s.fetch(ctx, o)
		return err == nil, err
	}
	err = s.tryVersions(ctx, o.key, func(r object.Ref) error {
		info, err := s.bucket.Stat(ctx, r)
		if err != nil {
			return err
		}
		if wrong := o.differs(info); wrong != "" {
			return s.damaged(o.key, wrong)
		}
		proved = info.SHA256 != nil
		return nil
	})
	return proved, err
}

// differs tells in what an object is not what the manifest tells.
func (o anObject) differs(is object.Info) string {
	switch {
	case is.Size != o.Size:
		return fmt.Sprintf("it has %d bytes in place of %d", is.Size, o.Size)
	case is.SHA256 != nil && !bytes.Equal(is.SHA256, o.SHA256):
		return "it has another SHA-256"
	}
	return ""
}

// recall adds to a catalog what verifications told.
func (s *Store) recall(c *Catalog) {
	verified, err := lock.State{Dir: s.State}.VerifiedIn(s.ID + " " + c.Source)
	if err != nil {
		s.Log.Debug("reading what was verified: " + err.Error())
	}
	for i := range c.Backups {
		b := &c.Backups[i]
		switch v, known := verified[path.Base(b.Dir)]; {
		case known && v.Damaged:
			b.Faults = append(b.Faults, "damaged, as verified "+v.At.Local().Format(time.DateOnly))
		case known:
			b.Verified = v.At
		}
	}
}

// BuildOn gives all backups that build on one, and so are lost with it.
func (c *Catalog) BuildOn(b *Backup) (names []string) {
	for i := range c.Backups {
		other := &c.Backups[i]
		chain, _ := c.Chain(other)
		if other != b && slices.Contains(chain, b) {
			names = append(names, other.Name)
		}
	}
	return names
}
