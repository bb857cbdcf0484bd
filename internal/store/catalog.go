package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// A Catalog tells what there is of a source.
type Catalog struct {
	Source  string
	Backups []Backup // in the order in which they were committed
	Rest    []Rest   // what is no backup, and takes room
}

// A Backup is one that was committed.
type Backup struct {
	Manifest
	Committed time.Time // by the clock of the bucket
	Faults    []string  // what is wrong with its objects, as far as a listing tells, or a verification on this machine told
	Verified  time.Time // when this machine last found all of it as it was; zero: it never did
	Archived  bool      // some of them must be called back before they can be read
}

// Rest are objects in one directory that are no backup.
type Rest struct {
	Dir     string
	Name    string    // of the snapshot
	Keys    []string  // the manifest first, if there is one
	Bytes   int64     // of all of them
	Written time.Time // the last one, by the clock of the bucket
	Why     string    // in words
	// Superseded tells that there is a better backup of the same snapshot.
	Superseded bool
	// Spare tells that there is a backup of the same snapshot that may be no better. It stays as long as that one.
	Spare bool
	// Foreign tells that it may be somebody else's backup. It is never deleted.
	Foreign bool
	Damaged bool // its manifest is
}

// IsGarbage tells that nobody goes on with it.
func (r Rest) IsGarbage(now time.Time) bool {
	return !r.Foreign && !r.Spare && (r.Superseded || now.Sub(r.Written) > ResumeWindow)
}

// Sources gives the names of all sources: those that have an index or, if none has, those that have anything.
func (s *Store) Sources(ctx context.Context) (names []string, err error) {
	for _, prefix := range []string{indexPrefix, backupsPrefix} {
		err = s.bucket.List(ctx, prefix, func(i object.Info) error {
			name, _, _ := strings.Cut(strings.TrimPrefix(i.Key, prefix), "/")
			if len(names) == 0 || names[len(names)-1] != name {
				names = append(names, name)
			}
			return nil
		})
		if len(names) > 0 || err != nil {
			break
		}
	}
	return names, err
}

// AllSources gives the names of all sources that have anything, for which it takes to list all objects: an index may be lost.
func (s *Store) AllSources(ctx context.Context) (names []string, err error) {
	for _, prefix := range []string{indexPrefix, backupsPrefix} {
		err = errors.Join(err, s.bucket.List(ctx, prefix, func(i object.Info) error {
			name, _, _ := strings.Cut(strings.TrimPrefix(i.Key, prefix), "/")
			if _, isBackup := dirOf(i.Key); (isBackup || prefix == indexPrefix) && !slices.Contains(names, name) {
				names = append(names, name)
			}
			return nil
		}))
	}
	slices.Sort(names)
	return names, err
}

// found are the objects of one directory.
type found struct {
	manifest *object.Info
	sizes    map[string]int64
	keys     []string
	written  time.Time
	bytes    int64
	archived bool
}

// Catalog lists the backups of a source, and looks for what is missing of them: one listing, and one object unless the index lacks
// some.
func (s *Store) Catalog(ctx context.Context, source string) (*Catalog, error) {
	dirs, order, err := s.list(ctx, source)
	if err != nil {
		return nil, err
	}
	indexed, err := s.readIndex(ctx, source) // also where nothing is listed, since all may be gone
	if err != nil {
		return nil, err
	}
	s.remember(source, indexed)
	c := &Catalog{Source: source}
	for _, dir := range order {
		f := dirs[dir]
		b, err := s.backupIn(ctx, dir, f, indexed)
		switch {
		case err == nil:
			c.Backups = append(c.Backups, *b)
		case errors.Is(err, errUnfinished):
			c.Rest = append(c.Rest, f.rest(dir, "not finished", false))
		case errors.As(err, new(*unreadableError)):
			return nil, err
		default:
			rest := f.rest(dir, err.Error(), true)
			rest.Damaged = errors.Is(err, ErrDamaged)
			c.Rest = append(c.Rest, rest)
		}
	}
	for dir, content := range indexed.manifests {
		if m, err := s.decode(dir, content); err == nil && dirs[dir] == nil {
			c.Backups = append(c.Backups, Backup{Manifest: *m, Committed: m.Made, Faults: []string{"all of it is missing"}})
		}
	}
	c.sort()
	s.recall(c)
	c.dropSuperseded(dirs, s.recipientsID(), len(s.Recipients) > 0)
	return c, nil
}

// list gives the directories of a source, in order.
func (s *Store) list(ctx context.Context, source string) (dirs map[string]*found, order []string, err error) {
	dirs = make(map[string]*found)
	err = s.bucket.List(ctx, backupsPrefix+source+"/", func(i object.Info) error {
		dir, ok := dirOf(i.Key)
		if !ok {
			return nil // it is nothing of ours
		}
		f := dirs[dir]
		if f == nil {
			f = &found{sizes: make(map[string]int64)}
			dirs[dir], order = f, append(order, dir)
		}
		f.bytes += i.Size
		f.archived = f.archived || i.Archived
		if i.Modified.After(f.written) {
			f.written = i.Modified
		}
		if path.Base(i.Key) == manifestName {
			f.manifest = &i
			f.keys = slices.Insert(f.keys, 0, i.Key)
			return nil
		}
		f.sizes[i.Key] = i.Size
		f.keys = append(f.keys, i.Key)
		return nil
	})
	return dirs, order, err
}

// sizes gives those of the objects below a directory, by key.
func (s *Store) sizes(ctx context.Context, dir string) (map[string]int64, error) {
	sizes := make(map[string]int64)
	return sizes, s.bucket.List(ctx, dir, func(i object.Info) error { sizes[i.Key] = i.Size; return nil })
}

func (f *found) rest(dir, why string, foreign bool) Rest {
	return Rest{Dir: dir, Name: titleOf(dir), Keys: f.keys, Bytes: f.bytes, Written: f.written, Why: why, Foreign: foreign}
}

var errUnfinished = errors.New("not finished")

// unreadableError tells that nothing can be said of a manifest.
type unreadableError struct{ error }

func (e *unreadableError) Unwrap() error { return e.error }

// backupIn gives the backup in a directory. What the index has of it counts where the manifest is gone, and saves a request where it is
// there. What is damaged in the index counts for nothing.
func (s *Store) backupIn(ctx context.Context, dir string, f *found, in *index) (*Backup, error) {
	content := in.manifests[dir]
	m, err := s.decode(dir, content)
	if f.manifest == nil {
		if err != nil {
			return nil, errUnfinished
		}
		return &Backup{Manifest: *m, Committed: m.Made, Faults: append([]string{"its manifest is missing"}, f.faults(m)...), Archived: f.archived}, nil
	}
	if int64(len(content)) != f.manifest.Size || err != nil { // who forged an entry has a key, too
		if content, err = object.Read(ctx, s.bucket, f.manifest.Ref); err != nil && !errors.Is(err, object.ErrTooLarge) {
			return nil, &unreadableError{err}
		}
		if m, err = s.decode(dir, content); err == nil || errors.Is(err, ErrForeign) {
			in.lacks(dir, content)
		}
	}
	if err != nil {
		return nil, err
	}
	return &Backup{Manifest: *m, Committed: f.manifest.Modified, Faults: f.faults(m), Archived: f.archived}, nil
}

// faults compares the objects that there are with those that a manifest tells of.
func (f *found) faults(m *Manifest) (faults []string) {
	for _, o := range m.objects() {
		size, there := f.sizes[o.key]
		switch {
		case !there:
			faults = append(faults, path.Base(o.key)+" is missing")
		case size != o.Size:
			faults = append(faults, fmt.Sprintf("%s has %d bytes in place of %d", path.Base(o.key), size, o.Size))
		}
	}
	return faults
}

// StreamFaults gives those faults that its stream suffers from: the names and the manifest are no part of it.
func (b *Backup) StreamFaults() (faults []string) {
	for _, fault := range b.Faults {
		if !strings.HasPrefix(fault, namesName) && !strings.Contains(fault, manifestName) {
			faults = append(faults, fault)
		}
	}
	return faults
}

// anObject is one that a manifest tells of.
type anObject struct {
	key string
	Part
}

// objects gives all but the manifest itself.
func (m *Manifest) objects() (all []anObject) {
	for kind, parts := range map[string][]Part{dataName: m.Parts, namesName: m.Names} {
		for n, p := range parts {
			all = append(all, anObject{partKey(m.Dir, kind, n), p})
		}
	}
	slices.SortFunc(all, func(a, b anObject) int { return cmp.Compare(a.key, b.key) })
	return all
}

// dropSuperseded leaves one backup of each snapshot: of those that can be restored, or else of all, the one for the recipients that
// count, or else the last one; and of several for the same ones the first, since whoever stole the keys can only make later ones. What is
// left out is rest. Of two that seem to be whole, another machine may know that the one which counts is damaged. Where the recipients that
// count are known from the store alone, that is no reason to delete any.
func (c *Catalog) dropSuperseded(dirs map[string]*found, recipients string, isKnown bool) {
	best := make(map[btrfs.UUID]int)
	whole := c.whole()
	isBetter := func(i, than int) bool {
		b, other := &c.Backups[i], &c.Backups[than]
		switch {
		case whole[i] != whole[than]:
			return whole[i]
		case !whole[i] || b.For == other.For:
			return !whole[i] && b.Committed.After(other.Committed) || whole[i] && b.Committed.Before(other.Committed)
		case b.For == recipients || other.For == recipients:
			return b.For == recipients
		}
		return b.Committed.After(other.Committed)
	}
	for i := range c.Backups {
		b := &c.Backups[i]
		if j, again := best[b.UUID]; !again || isBetter(i, j) {
			best[b.UUID] = i
		}
	}
	kept := c.Backups[:0:0]
	for i, b := range c.Backups {
		counts := best[b.UUID]
		if counts == i {
			kept = append(kept, b)
		} else if f := dirs[b.Dir]; f != nil {
			rest := f.rest(b.Dir, "stored once more", false)
			rest.Superseded = whole[counts] && (!whole[i] || isKnown && b.For != c.Backups[counts].For)
			rest.Spare = !rest.Superseded
			c.Rest = append(c.Rest, rest)
		}
	}
	c.Backups = kept
}

// whole tells of each backup whether it can be restored: it has no faults, and what it builds on has none.
func (c *Catalog) whole() []bool {
	whole, there := make([]bool, len(c.Backups)), make(map[btrfs.UUID]bool)
	for found := true; found; {
		found = false
		for i := range c.Backups {
			b := &c.Backups[i]
			if !whole[i] && len(b.Faults) == 0 && (b.Full() || there[b.Parent]) {
				whole[i], there[b.UUID], found = true, true, true
			}
		}
	}
	return whole
}
