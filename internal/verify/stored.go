package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Stored are the backups of a source in a store.
type Stored struct {
	*store.Store
	At     string // as people know it
	Source string // its name in the store
	Name   string // of the one that is meant; "": all
}

// StoredOptions tell how such backups are verified. Without any, whoever keeps the objects tells their SHA-256.
type StoredOptions struct {
	Download bool   // fetch all objects
	Restore  bool   // decrypt and check the streams
	Subset   string // the part of the objects that is fetched, another one each day
	Now      func() time.Time
	// Identities are for Restore.
	Identities seal.Identities

	part tree.Part
}

// Check tells what is wrong with the options, and the way forward.
func (o *StoredOptions) Check(hasKeys bool) (err error) {
	switch {
	case o.Restore != hasKeys:
		return hint.New(errors.New("--restore reads with a secret key"), "give both: --restore -i FILE")
	case o.Restore && o.Subset != "":
		return hint.New(errors.New("--restore reads all of a backup"), "leave out --subset, or --restore")
	case o.Subset != "":
		if o.part, err = tree.ParsePart(o.Subset, o.Now()); err != nil {
			return hint.New(fmt.Errorf("--subset: %w", err), "1/30 reads all within 30 days, if it is done every day")
		}
	}
	return nil
}

// The readings of backups in stores.
const (
	Sums    Reading = "checksums"
	Streams Reading = "streams"
)

// InStore verifies backups in a store, the newest first. Nothing is changed.
func InStore(ctx context.Context, s Stored, o StoredOptions, w Watcher) (all []Result, err error) {
	c, err := s.Catalog(ctx, s.Source)
	if err != nil {
		return nil, err
	}
	whole := make(map[*store.Backup]bool)
	for i := range slices.Backward(c.Backups) {
		if b := &c.Backups[i]; s.Name == "" || s.Name == b.Name {
			r := s.one(ctx, c, b, o, w)
			if ctx.Err() != nil {
				return all, context.Cause(ctx)
			}
			if damaged := len(r.Differences) > 0; damaged || r.Failure == nil && r.Read != Part && r.Unproved == 0 {
				whole[b] = !damaged
			}
			w.Done(r)
			all = append(all, r)
		}
	}
	for _, rest := range c.Rest {
		if r, isDamaged := s.rest(rest); isDamaged && s.Name == "" {
			w.Found(r.Differences[0])
			w.Done(r)
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return nil, hint.Newf(fmt.Errorf("%s: there is no such backup", strings.TrimSuffix(s.At+"/"+s.Name, "/")),
			"`btrfs-backup list %s` shows what there is", s.At)
	}
	if err := s.record(ctx, c, whole, o.Now()); err != nil {
		s.Log.Debug("recording what was verified: " + err.Error())
	}
	return all, nil
}

// rest tells of what is no backup since its manifest is damaged.
func (s Stored) rest(rest store.Rest) (r Result, isDamaged bool) {
	if !rest.Damaged {
		return r, false
	}
	return Result{Backup: s.At + "/" + rest.Name, Read: Sums, Stored: true,
		Differences: []tree.Difference{{Path: object.ManifestName, Kind: tree.Damaged, Got: rest.Why}}}, true
}

// one verifies a backup.
func (s Stored) one(ctx context.Context, c *store.Catalog, b *store.Backup, o StoredOptions, w Watcher) Result {
	r := Result{Backup: s.At + "/" + b.Name, Read: Sums, Stored: true, Differences: []tree.Difference{}}
	check := store.Check{Download: o.Download || o.part != (tree.Part{})}
	total := b.Stored()
	if check.Download {
		r.Read = All
	}
	if o.part != (tree.Part{}) {
		r.Read, r.Part, check.Takes = Part, o.part.String(), o.part.Has
		total = 0
	}
	if o.Identities != nil {
		r.Read, total = Streams, total+b.Bytes
	}
	tell, end := w.Begin(ctx, r.Backup)
	defer end()
	var mu sync.Mutex
	var read int64
	check.Read = func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		read += n
		tell(read, max(total, read))
	}
	v, err := s.Verify(ctx, b, check)
	r.Objects, r.Unproved = v.Objects, v.Unproved
	if check.Download {
		r.Bytes = v.Bytes
	}
	for _, d := range v.Damaged {
		found := tree.Difference{Path: d.Object, Kind: tree.Damaged, Got: d.Why}
		if d.Gone {
			found.Kind, found.Got = tree.Missing, ""
		}
		r.Differences = append(r.Differences, found)
	}
	if err == nil && o.Identities != nil && len(v.Damaged) == 0 {
		if err = verifyStream(ctx, s.Store, &b.Manifest, o.Identities, check.Read); errors.Is(err, store.ErrDamaged) {
			r.Differences = append(r.Differences, tree.Difference{Path: "stream", Kind: tree.Damaged, Got: err.Error()})
			err = nil
		}
		r.Bytes += b.Bytes
	}
	for _, d := range r.Differences {
		w.Found(d)
	}
	if len(r.Differences) > 0 {
		r.Lost = c.BuildOn(b)
	}
	if err != nil {
		return r.failed(fmt.Errorf("%s: %w", r.Backup, err))
	}
	return r
}

// storedSummary tells how a backup in a store was compared.
func (r Result) storedSummary() string {
	how := "their SHA-256 as the store tells it"
	switch r.Read {
	case All:
		how = progress.Bytes(r.Bytes) + " fetched"
	case Part:
		how = progress.Bytes(r.Bytes) + " fetched (" + r.Part + " of them)"
	case Streams:
		how = progress.Bytes(r.Bytes) + " decrypted and checked"
	}
	text := fmt.Sprintf("%s: %s, %s: %s", r.Backup, report.Count(r.Objects, "object"), how, r.verdict())
	if r.Unproved > 0 {
		text += fmt.Sprintf("; of %s the store tells none: --download fetches them", report.Count(r.Unproved, "object"))
	}
	if len(r.Lost) > 0 {
		text += "; lost with it: " + progress.Few(r.Lost)
	}
	return progress.Line(text)
}
