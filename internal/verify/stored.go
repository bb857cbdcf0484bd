package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// Stored are the backups of a source in a store.
type Stored struct {
	*store.Store
	At     string // as people know it
	Source string // its name in the store
	Name   string // of the one that is meant; "": all
	// Bench makes where some of them are received to be compared.
	Bench func(ctx context.Context, c *store.Catalog, wanted []*store.Backup) (Bench, error)
	Here  host.Trees // its machine
	// Folders are where snapshots of the source may be, beside those that backups themselves tell.
	Folders []string
}

// A Bench is where backups are received to be compared.
type Bench interface {
	// Receive gives the path of what a backup is when it was received. Read is told of bytes of streams. What is not what it was is
	// store.ErrDamaged, and what builds on such a store.LostError.
	Receive(ctx context.Context, b *store.Backup, read func(n int)) (at string, err error)
	// Original gives the path of the snapshot that a backup is of, or of another copy of that; "" if none is found.
	Original(ctx context.Context, b *store.Backup, folders []string) string
	// Done removes a backup that was received.
	Done(b *store.Backup) error
	io.Closer
}

// StoredOptions tell how such backups are verified. Without any, whoever keeps the objects tells their SHA-256.
type StoredOptions struct {
	Download bool   // fetch all objects
	Restore  bool   // restore them on a Bench, and compare them with the snapshots that they are of
	Scratch  string // directory for the bench; "": one where there is room
	Subset   string // the part of the objects that is fetched, another one each day
	Now      func() time.Time

	part  tree.Part
	bench Bench // for Restore
}

// Check tells what is wrong with the options, and the way forward.
func (o *StoredOptions) Check(hasKeys bool) (err error) {
	switch {
	case o.Restore != hasKeys:
		return hint.New(errors.New("--restore reads with a secret key"), "give both: --restore -i FILE")
	case o.Scratch != "" && !o.Restore:
		return hint.New(errors.New("--scratch is where --restore restores"), "leave it out, or give --restore -i FILE")
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
	var wanted []*store.Backup
	for i := range slices.Backward(c.Backups) {
		if b := &c.Backups[i]; s.Name == "" || s.Name == b.Name {
			wanted = append(wanted, b)
		}
	}
	if o.Restore && len(wanted) > 0 {
		if o.bench, err = s.Bench(ctx, c, wanted); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, o.bench.Close()) }()
	}
	whole := make(map[*store.Backup]bool)
	for _, b := range wanted {
		r := s.one(ctx, c, b, o, w)
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
		if damaged := len(r.Differences) > 0; !r.doubtful && damaged || !damaged && r.Failure == nil && r.Read != Part && r.Unproved == 0 {
			whole[b] = !damaged
		}
		w.Done(r)
		all = append(all, r)
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
	if o.Restore {
		r.Read = Streams
	}
	tell, end := w.Begin(ctx, r.Backup)
	var mu sync.Mutex
	var read int64
	check.Read = func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		read += n
		tell(read, max(total, read))
	}
	v, err := s.Verify(ctx, b, check)
	end()
	r.Objects, r.Unproved = v.Objects, v.Unproved
	if check.Download {
		r.Bytes = v.Bytes
	}
	for _, d := range v.Damaged {
		found := tree.Difference{Path: d.Object, Kind: tree.Damaged, Got: d.Why}
		if d.Gone {
			found.Kind, found.Got = tree.Missing, ""
		}
		r.found(w, found)
	}
	if err == nil && o.Restore && len(v.Damaged) == 0 {
		err = s.restore(ctx, o.bench, b, &r, w)
	}
	if len(r.Differences) > 0 {
		r.Lost = c.BuildOn(b)
	}
	if err != nil {
		return r.failed(fmt.Errorf("%s: %w", r.Backup, err))
	}
	return r
}

func (r *Result) found(w Watcher, d tree.Difference) {
	r.Differences = append(r.Differences, d)
	w.Found(d)
}

// restore receives a backup, and compares it with the snapshot that it is of, as long as that is there.
func (s Stored) restore(ctx context.Context, on Bench, b *store.Backup, r *Result, w Watcher) (err error) {
	defer func() { err = errors.Join(err, on.Done(b)) }()
	tell, end := w.Begin(ctx, r.Backup)
	var read int64
	restored, err := on.Receive(ctx, b, func(n int) {
		read += int64(n)
		tell(read, max(b.Bytes, read))
	})
	end()
	r.Bytes += read
	lost := errors.As(err, new(*store.LostError))
	switch {
	case lost:
		r.doubtful = true
		r.found(w, tree.Difference{Path: "stream", Kind: tree.Missing, Got: err.Error()})
		return nil
	case errors.Is(err, store.ErrDamaged):
		r.found(w, tree.Difference{Path: "stream", Kind: tree.Damaged, Got: err.Error()})
		return nil
	case err != nil:
		return err
	}
	original := on.Original(ctx, b, s.Folders)
	if original == "" {
		return nil
	}
	compared := Result{Backup: r.Backup}
	if err := compared.compare(ctx, &side{Place: Place{s.Here, original}}, &side{Place: Place{s.Here, restored}}, w); err != nil {
		return err
	}
	r.Against, r.Files, r.Digest = s.Here.String()+original, compared.Files, compared.Digest
	r.Differences = append(r.Differences, compared.Differences...)
	r.doubtful = slices.ContainsFunc(compared.Differences, isOfOriginal)
	return nil
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
		how = progress.Bytes(r.Bytes) + " restored for a while"
		if r.Against != "" {
			how += ", " + report.Count(int(r.Files), "file") + ", compared with " + r.Against
		}
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

// record remembers on this machine whether backups of a source are whole.
func (s Stored) record(ctx context.Context, c *store.Catalog, whole map[*store.Backup]bool, now time.Time) error {
	verified := make(map[string]lock.Verified)
	for b, isWhole := range whole {
		verified[path.Base(b.Dir)] = lock.Verified{At: now, Damaged: !isWhole}
	}
	isThere := func(dir string) bool {
		return slices.ContainsFunc(c.Backups, func(b store.Backup) bool { return path.Base(b.Dir) == dir }) ||
			slices.ContainsFunc(c.Rest, func(r store.Rest) bool { return path.Base(r.Dir) == dir }) // stored once more, since it is damaged
	}
	return lock.State{Dir: s.State}.SetVerified(ctx, s.ID+" "+c.Source, verified, isThere)
}
