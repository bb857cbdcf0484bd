package offsite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/ladder"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// Destination is an engine.Destination: a store, in which a source has a place of its own.
type Destination struct {
	place Place
	from  stream.Sender
	Options

	near    host.Status // of the folder, or the nearest directory above it, on this machine
	bucket  io.Closer
	store   *store.Store
	unknown []string       // public keys that signed what is of the source, and are not trusted
	told    bool           // see tellUnknown
	source  string         // its name in the store
	joined  []*Destination // see Join
	inSet   bool
	catalog *store.Catalog
	wire    atomic.Pointer[func(n int64)] // of the transfer that goes on
}

var (
	_ engine.Destination = (*Destination)(nil)
	_ engine.Opener      = (*Destination)(nil)
	_ engine.Prospect    = (*Destination)(nil)
	_ engine.Lister      = (*Destination)(nil)
	_ engine.Marker      = (*Destination)(nil)
	_ engine.Placed      = (*Destination)(nil)
	_ engine.Keeper      = (*Destination)(nil)
	_ engine.Rehearser   = (*Destination)(nil)
	_ stream.Target      = (*Destination)(nil)
	_ stream.Recorder    = (*Destination)(nil)
	_ io.Closer          = (*Destination)(nil)
)

// NewDestination names a store for the snapshots of a source.
func NewDestination(at Place, from stream.Sender, o Options) *Destination {
	return &Destination{place: at, from: from, Options: o}
}

func (d *Destination) String() string { return d.place.String() }

func (d *Destination) countWire(n int64) {
	if count := d.wire.Load(); count != nil {
		(*count)(n)
	}
}

// Open opens the store.
func (d *Destination) Open(ctx context.Context) error {
	err := d.open(ctx, store.Open)
	f, ok := d.place.(Folder)
	isMissing := errors.Is(err, fs.ErrNotExist)
	if !ok || f.Host.String() != "" && !isMissing {
		return d.named(err)
	}
	near, aboveErr := host.Above(ctx, f.Host, path.Join(f.Path, "format"))
	if aboveErr == nil {
		aboveErr = near.CheckWritable()
	}
	if isMissing && aboveErr != nil {
		err = engine.Unmakeable(aboveErr)
	}
	if f.Host.String() == "" {
		d.near = near
	}
	return d.named(err)
}

// At tells where the filesystem of a folder is.
func (d *Destination) At() engine.Position {
	at := engine.Position{Empty: d.near.Empty}
	at.Filesystem = d.near.DirID.Filesystem
	return at
}

// Create makes the store, unless that was done meanwhile, for another source.
func (d *Destination) Create(ctx context.Context) error {
	err := d.place.Create(ctx)
	if err == nil {
		err = d.open(ctx, store.Open)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.open(ctx, store.Create); err == nil {
			d.Log.Info(fmt.Sprintf("%s: a new store is made there", d))
		}
	}
	return d.named(err)
}

func (d *Destination) open(ctx context.Context, open func(context.Context, object.Bucket, store.Options) (*store.Store, error)) error {
	bucket, closer, err := d.place.Open(ctx, d.countWire)
	if err != nil {
		return err
	}
	o := d.Options.Options
	o.Trusts = d.trusts
	opened, err := open(ctx, bucket, o)
	if err != nil {
		return errors.Join(err, closer.Close())
	}
	d.bucket, d.store = closer, opened
	if there, here := opened.OtherRecipients(); len(there)+len(here) > 0 && d.speaks() {
		d.Log.Warn(fmt.Sprintf("%s: it was made for other recipients than those of this machine: what is stored from now on can be read with "+
			"the secret keys for the recipients of this machine", d))
	}
	return nil
}

func (d *Destination) named(err error) error {
	if err != nil {
		err = fmt.Errorf("destination %s: %w", d, err)
	}
	return err
}

// Close ends the connection.
func (d *Destination) Close() error {
	if d.bucket == nil {
		return nil
	}
	closer := d.bucket
	d.bucket = nil
	return closer.Close()
}

// Foreseen tells that backups will build on each other.
func (d *Destination) Foreseen() engine.Contents {
	return engine.Contents{Chains: chainsOf(nil, nil, d.MaxParentAge)}
}

// Mark identifies the store, wherever it lies.
func (d *Destination) Mark(context.Context) (id string, err error) { return d.store.ID, nil }

// Lock keeps other runs of this machine for the source out. What those of other machines store gets other keys.
func (d *Destination) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	name, err := d.sourceName()
	if err != nil {
		return nil, d.named(err)
	}
	return lockSource(ctx, d.store, name, d.String(), waiting)
}

// List tells what the store has of the source.
func (d *Destination) List(ctx context.Context) (c engine.Contents, err error) {
	if d.from.Origin().Source == "" {
		return c, d.named(errors.New("which of its backups are meant is not known without the source"))
	}
	if d.source, err = d.sourceName(); err == nil {
		err = d.checkApart()
	}
	if err != nil {
		return c, d.named(err)
	}
	d.unknown = nil
	catalog, err := d.store.Catalog(ctx, d.source)
	if err != nil {
		return c, d.named(err)
	}
	d.catalog = catalog
	d.tellUnknown()
	all, broken := listing(catalog)
	c = engine.Contents{Listing: btrfs.Listing{InDirectory: all, All: all}, Origins: make(map[btrfs.UUID]btrfs.UUID), Identity: d.store.ID,
		Chains: chainsOf(all, broken, d.MaxParentAge), Broken: brokenError(d.String(), broken)}
	c.Chains.Locked = lockedIn(catalog, d.Now())
	if d.Locks {
		c.Chains.Until = lockedIn(catalog, time.Time{})
	}
	for _, b := range catalog.Backups {
		c.Origins[b.UUID] = b.Source
	}
	for _, r := range catalog.Rest {
		if r.IsGarbage(d.Now()) {
			c.Deleting = append(c.Deleting, restName(r))
		}
	}
	return c, nil
}

// tellUnknown tells once that there are backups of the source, and none that counts.
func (d *Destination) tellUnknown() {
	if len(d.unknown) == 0 || len(d.catalog.Backups) > 0 || d.told {
		return
	}
	d.told = true
	forward := "add the key of this machine to " + filepath.Join(d.State, seal.SignersFile) + "; others may be a thief's"
	if len(d.unknown) == 1 {
		forward = "if it did, before it was set up anew: " + fmt.Sprintf("echo %s >>%s", d.unknown[0], transport.Quote(filepath.Join(d.State, seal.SignersFile)))
	}
	d.Log.Warn(fmt.Sprintf("%s/%s: its backups do not count, since this machine does not know who signed them: %s; %s", d, d.source,
		engine.Few(d.unknown), forward))
}

// trusts is Options.Trusts, and takes down which keys it does not know.
func (d *Destination) trusts(key string) bool {
	isKnown := d.Options.Trusts == nil || d.Options.Trusts(key)
	if !isKnown && !slices.Contains(d.unknown, key) {
		d.unknown = append(d.unknown, key)
	}
	return isKnown
}

// sourceName gives the name of the source in the store.
func (d *Destination) sourceName() (string, error) { return d.nameOf(d.from) }

// nameOf gives the name of a source in the store. What was restored goes on under that which it had.
func (d *Destination) nameOf(s stream.Sender) (string, error) {
	source := s.Origin().Source
	if name, err := (lock.State{Dir: d.State}).StoredAs(d.store.ID, source); name != "" || err != nil {
		return name, err
	}
	machine, dir, _ := strings.Cut(source, ":")
	name := store.SourceName(machine, dir)
	if d.HideNames != nil {
		name = store.HiddenName(name, d.HideNames)
	}
	return name, nil
}

// restName names what is no backup, as no backup is named.
func restName(r store.Rest) string { return path.Base(r.Dir) }

// Delete deletes backups, and what is left of attempts. What builds on others goes before them. Credentials that may only add leave
// that to others: it is no failure.
func (d *Destination) Delete(ctx context.Context, names []string) (deleted []string, err error) {
	isWanted := func(r store.Rest) bool { return r.IsGarbage(d.Now()) && slices.Contains(names, restName(r)) }
	deleted, err = deleteFrom(ctx, d.store, d.catalog, names, isWanted)
	if isOnlyRefused(err) {
		d.Log.Info(fmt.Sprintf("%s: %d could go, which these credentials may not delete, or not yet: that is left to `btrfs-backup prune`", d,
			len(names)-len(deleted)))
		err = nil
	}
	return deleted, err
}

// isOnlyRefused tells that each of joined errors is about a permission.
func isOnlyRefused(err error) bool {
	all, joined := err.(interface{ Unwrap() []error })
	if !joined {
		return errors.Is(err, fs.ErrPermission)
	}
	return !slices.ContainsFunc(all.Unwrap(), func(err error) bool { return !isOnlyRefused(err) })
}

// Save stores the stream of a snapshot.
func (d *Destination) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	return stream.Course{From: d.from, To: d, Log: d.Log, Progress: d.Progress}.Save(ctx, t)
}

// LockedUntil gives the time until which the backup of a transfer is locked.
func (d *Destination) LockedUntil(t engine.Transfer) (until time.Time) {
	if d.Locks {
		until = t.Role.Until.UTC().Truncate(time.Second)
	}
	return until
}

// Rehearse tells how much the stream will hold, and how much that of a complete copy.
func (d *Destination) Rehearse(ctx context.Context, t engine.Transfer) (result engine.Result, err error) {
	if t.Snapshot.UUID.IsZero() {
		return result, nil // it is not taken yet
	}
	format, _ := d.Accepts(ctx)
	total, err := d.from.Measure(ctx, stream.Transfer{Transfer: t, Format: format})
	if err != nil {
		return result, fmt.Errorf("measuring %s: %w", t.Snapshot.Name, err)
	}
	if result.Bytes = total.Bytes; t.Parent == nil {
		return result, nil
	}
	parent := t.Parent
	t.Parent = nil
	if complete, err := d.from.Measure(ctx, stream.Transfer{Transfer: t, Format: format}); err == nil {
		d.Log.Info(fmt.Sprintf("%s: %s: at most %s upon %s, %s as a complete copy", d, t.Snapshot.Name, progress.Bytes(total.Bytes), parent.Name,
			progress.Bytes(complete.Bytes)))
	}
	return result, nil
}

// Accepts gives the format that btrfs-progs can receive since 2022, by hand.
func (d *Destination) Accepts(context.Context) (sendstream.Format, error) {
	return sendstream.Format{Protocol: 2, Compressed: true}, nil
}

// Keeps tells that attributes of the parent are on record.
func (d *Destination) Keeps(parent btrfs.Subvolume) bool {
	return slices.ContainsFunc(d.catalog.Backups, func(b store.Backup) bool { return b.UUID == parent.Identity() && b.Attributes })
}

// Receive begins to store a stream.
func (d *Destination) Receive(ctx context.Context, t stream.Transfer) (stream.Receiver, error) {
	var parent btrfs.Subvolume
	if t.Parent != nil {
		parent = *t.Parent
	}
	order := store.Order{Source: d.source, Name: t.Snapshot.Name, Stored: t.Taken, Until: d.LockedUntil(t.Transfer), Class: d.Classes[t.Role.First],
		Key: fmt.Sprint(d.source, t.Snapshot.UUID, parent.UUID, t.Format.Protocol, t.Format.Compressed)}
	if d.Locks {
		order.Key += t.Role.First // what an earlier attempt locked for another time is of no use
	}
	var err error
	if order.Set, err = d.members(); err != nil {
		return nil, err
	}
	u, err := d.store.Begin(ctx, order)
	if err != nil {
		return nil, err
	}
	d.wire.Store(&t.Wire) // not before: it may be called when this returns
	return &receiver{d: d, transfer: t, upload: u}, nil
}

// receiver stores one stream.
type receiver struct {
	d        *Destination
	transfer stream.Transfer
	upload   *store.Upload
	begun    bool
}

var (
	_ stream.Receiver = (*receiver)(nil)
	_ stream.Resumer  = (*receiver)(nil)
	_ stream.Keeper   = (*receiver)(nil)
)

func (r *receiver) Write(p []byte) (int, error) { return r.upload.Write(p) }

// Taken is nothing: the stream comes from its beginning each time, and what is there of it is not stored again.
func (r *receiver) Taken(ctx context.Context) (none sendstream.Prefix, err error) {
	if r.begun {
		err = r.upload.Again(ctx)
	}
	r.begun = true
	return none, err
}

// Close waits until all is stored, and gives what it is.
func (r *receiver) Close(context.Context) (s btrfs.Subvolume, err error) {
	sum, err := r.upload.Close()
	if err != nil {
		return s, err
	}
	var parent btrfs.UUID
	if r.transfer.Parent != nil {
		parent = r.transfer.Parent.Identity()
	}
	if sum.UUID != r.transfer.Snapshot.Identity() || sum.ParentUUID != parent {
		return s, fmt.Errorf("the stream is that of %s upon %s, and not of %s upon %s", btrfs.UUID(sum.UUID), btrfs.UUID(sum.ParentUUID),
			r.transfer.Snapshot.Identity(), parent)
	}
	all, _ := listing(r.d.catalog)
	made := described(len(all)+1, store.Manifest{Dir: r.upload.Dir(), UUID: sum.UUID, TransID: sum.TransID, Parent: parent}, r.d.Now())
	for _, b := range all {
		if b.ReceivedUUID == parent {
			made.ParentUUID = b.UUID
		}
	}
	return made, nil
}

// Commit makes it a backup.
func (r *receiver) Commit(ctx context.Context, of host.Origin) error {
	machine, dir, _ := strings.Cut(of.Source, ":")
	b, err := r.upload.Commit(ctx, of.Subvolume, r.d.Now(), store.Private{Host: machine, Path: dir, Machine: of.Machine, Via: of.Via, Program: r.d.Program,
		Kernel: kernel(), Attributes: of.Attributes})
	if err != nil {
		return err
	}
	r.d.catalog.Backups = append(r.d.catalog.Backups, *b)
	return nil
}

// Keeps tells for how long what was stored is no garbage.
func (r *receiver) Keeps() time.Duration { return store.ResumeWindow }

// Keep keeps what is stored if the store failed, unless it is full: then there is room again.
func (r *receiver) Keep(failure error) bool {
	if r.upload.Failure() == nil || ladder.IsAboutSpace(failure) {
		return false
	}
	if err := r.upload.Stop(); err != nil {
		r.d.Log.Debug(err.Error())
	}
	return true
}

func (r *receiver) Abort(ctx context.Context) error { return r.upload.Abort(ctx) }

// kernel gives the version of the kernel that makes the streams.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
