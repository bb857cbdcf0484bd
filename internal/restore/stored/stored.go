// Package stored restores subvolumes from stores: it finds the backup, all that it builds on, and whose signatures count, and tells
// beforehand what is to be fetched and what that costs.
//
// What is damaged or missing is told before anything is made where a listing shows it, and else by the name of the part, with the newest
// backup that does not need it. What is in an archive is called back as a whole; the same order goes on later.
package stored

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/offsite"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/chain"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/partial"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// From tells which backup is meant, and how it is read.
type From struct {
	Found      *offsite.Found
	Trust      *offsite.Trust
	Until      time.Time                                      // the newest backup until then; zero: the newest, or the named one
	Identities func(context.Context) (seal.Identities, error) // gives the secret keys, when they are needed
	Price      float64                                        // of a GiB that is fetched; 0: unknown
	Tell       func(line string)                              // is told beforehand what is to be done
}

// source is the source of a store that a backup is restored of.
type source struct {
	From
	catalog *store.Catalog
	backup  *store.Backup
	chain   []*store.Backup                      // to the backup, as far as it is there
	missing btrfs.UUID                           // what is missing before the first one of the chain
	needs   func(b *store.Backup, part int) bool // nil: all parts
	bad     map[string]bool                      // directories of backups that were found to be damaged
}

// open finds the backup.
func open(ctx context.Context, f From) (*source, error) {
	if err := f.Found.ChooseSource(ctx); err != nil {
		return nil, err
	}
	s := &source{From: f, bad: make(map[string]bool)}
	var err error
	if s.catalog, err = f.Found.Catalog(ctx, s.Trust); err != nil {
		return nil, err
	}
	if s.backup, err = f.Found.Choose(s.catalog, f.Until); err != nil {
		return nil, err
	}
	s.chain, s.missing = s.catalog.Chain(s.backup)
	return s, nil
}

// name names the backup.
func (s *source) name() string {
	return s.Found.At(s.Found.Source, s.backup.Name)
}

// Whole is an order to restore a subvolume.
type Whole struct {
	restore.Order
	From
	Named bool // secret keys were named, so that a dry run may use them
	Keep  bool // all that was needed is received in the target, and no more is made
}

// Run restores a subvolume.
func Run(ctx context.Context, o Whole) (*Report, error) {
	s, err := open(ctx, o.From)
	if err != nil {
		return nil, err
	}
	var ids seal.Identities
	if !o.DryRun || o.Named { // else no secret key is needed
		if ids, err = o.Identities(ctx); err != nil {
			return nil, err
		}
	}
	inputs, err := s.inputs(ids)
	if err == nil && ids != nil && o.To.String() == "" {
		err = s.checkTarget(ctx, o.Target, ids)
	}
	if err != nil {
		return nil, err
	}
	did := &Report{}
	streams := restore.Streams{Inputs: inputs, Keep: o.Keep, Backup: s.name(), Destination: s.Found.Place.String(),
		Planned: func(ctx context.Context, way []chain.Link) error {
			return s.plan(ctx, s.of(way), o.DryRun, &did.Fetched)
		}}
	did.Report, err = restore.RunStreams(ctx, o.Order, streams)
	if err != nil {
		return did, s.explain(ctx, err)
	}
	if !o.DryRun {
		s.record(ctx, o, did.Report)
	}
	return did, nil
}

// inputs gives the streams of the chain.
func (s *source) inputs(ids seal.Identities) (inputs []*chain.Input, err error) {
	for _, b := range s.chain {
		k, err := s.known(b, ids)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, chain.Stored(k))
	}
	return inputs, nil
}

// known tells of the stream of a backup of the chain, without secret keys only what its manifest shows everybody.
func (s *source) known(b *store.Backup, ids seal.Identities) (chain.Known, error) {
	k := chain.Known{Title: b.Name, Bytes: b.Bytes, Wanted: b == s.backup, Link: chain.Link{Name: b.Name, UUID: b.UUID, TransID: b.TransID,
		Parent: b.Parent, ParentTransID: b.ParentID, Protocol: b.Protocol}}
	k.Open = func(ctx context.Context) (io.ReadCloser, error) {
		return s.Found.Store.Stream(ctx, &b.Manifest, ids), nil
	}
	if ids == nil {
		return k, nil
	}
	p, err := b.Private(ids)
	if err != nil {
		return k, unreadable(fmt.Errorf("%s: %w", b.Name, err))
	}
	k.Origin, k.Attributes = originOf(b, p), p.Attributes
	list, err := attributes.Decode(p.Attributes)
	k.Complete = err == nil && !list.Since
	k.All = func(ctx context.Context) ([]byte, error) { return s.attributes(ctx, b, ids) }
	return k, nil
}

// attributes gives what chattr had set of all files of a backup of the chain, by the names that they have got since it was known.
func (s *source) attributes(ctx context.Context, of *store.Backup, ids seal.Identities) ([]byte, error) {
	var streams []partial.Stream
	var known []partial.Flags
	for _, b := range s.chain {
		p, err := b.Private(ids)
		if err != nil {
			return nil, err
		}
		list, err := attributes.Decode(p.Attributes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Name, err)
		}
		names, err := s.Found.Store.Names(ctx, &b.Manifest, ids)
		if err != nil {
			return nil, err
		}
		flags := partial.Flags{Since: list.Since, Of: make(map[string]btrfs.Flags)}
		for _, file := range list.Files {
			flags.Of[file.Path] = file.Flags
		}
		streams, known = append(streams, streamOf(b, names)), append(known, flags)
		if b == of {
			break
		}
	}
	all, err := partial.FlagsOf(streams, known)
	var list attributes.List
	for path, flags := range all {
		list.Files = append(list.Files, attributes.File{Path: path, Flags: flags})
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list.Files, func(a, b attributes.File) int { return strings.Compare(a.Path, b.Path) })
	return list.Encode()
}

func streamOf(b *store.Backup, names *store.Names) partial.Stream {
	return partial.Stream{UUID: b.UUID, Parent: b.Parent, Protocol: b.Protocol, Names: names.Visit}
}

func originOf(b *store.Backup, p store.Private) host.Origin {
	of := host.Origin{Subvolume: b.Source}
	if p.Host != "" {
		of.Origin = tree.Origin{Source: p.Host + ":" + p.Path, Machine: p.Machine}
	}
	return of
}

// unreadable tells what helps where a secret key does not.
func unreadable(err error) error {
	switch {
	case errors.Is(err, seal.ErrNoIdentity):
		return hint.New(err, "name the file of one: -i FILE; -i - lets you type the paper key")
	case errors.Is(err, seal.ErrWrongIdentity):
		return hint.New(err, "try your other keys: -i may be repeated, and -i - lets you type the paper key")
	}
	return err
}

// A FilesError tells that a target is the path that something in the backup had: files are wanted, and no subvolume.
type FilesError struct{ Path, Backup string }

func (e *FilesError) Error() string {
	return fmt.Sprintf("%s is the path of something in %s, and of no subvolume", progress.Name(e.Path), e.Backup)
}

// Hint gives the way forward.
func (e *FilesError) Hint() string {
	return "leave out what is about whole subvolumes, or name a new one"
}

// checkTarget fails with a FilesError if the target is the path of what the backup holds, or else, if only what it was in is there.
func (s *source) checkTarget(ctx context.Context, target string, ids seal.Identities) error {
	p, err := s.backup.Private(ids)
	if err != nil {
		return unreadable(err)
	}
	below, ok := strings.CutPrefix(target, strings.TrimSuffix(p.Path, "/")+"/")
	if !ok || p.Path == "" || !s.missing.IsZero() {
		return nil
	}
	selection, err := s.follow(ctx, ids)
	if err != nil { // what is damaged there is of no use to the whole
		return ctx.Err()
	}
	if there, _ := selection.Has(below); there {
		return &FilesError{target, s.name()}
	}
	if above := path.Dir(below); above != "." {
		if there, _ := selection.Has(above); there {
			return notIn(target, s.name(), p.Path)
		}
	}
	return nil
}

// follow fetches all names of the chain.
func (s *source) follow(ctx context.Context, ids seal.Identities) (*partial.Selection, error) {
	var streams []partial.Stream
	for _, b := range s.chain {
		names, err := s.Found.Store.Names(ctx, &b.Manifest, ids)
		if err != nil {
			return nil, unreadable(err)
		}
		streams = append(streams, streamOf(b, names))
	}
	selection, err := partial.Follow(streams)
	if err != nil {
		err = hint.New(fmt.Errorf("what %s holds cannot be told from its names: %w", s.name(), err), "all of it can be restored: leave out --path")
	}
	return selection, err
}

// of gives the backups that streams are of.
func (s *source) of(way []chain.Link) (backups []*store.Backup) {
	for _, b := range s.chain {
		if slices.ContainsFunc(way, func(l chain.Link) bool { return l.UUID == b.UUID }) {
			backups = append(backups, b)
		}
	}
	return backups
}

// plan refuses what cannot be fetched, and tells what is to be.
func (s *source) plan(ctx context.Context, way []*store.Backup, dryRun bool, f *Fetched) error {
	for _, b := range way {
		if faults := b.StreamFaults(); len(faults) > 0 {
			return s.instead(fmt.Errorf("%s is damaged: %s", s.title(b), progress.Few(faults)))
		}
	}
	*f = Fetched{Backups: len(way)}
	archived := false
	for _, b := range way {
		archived = archived || b.Archived
		for _, p := range b.Parts {
			f.add(p)
		}
		f.Stream += b.Bytes
	}
	f.price(s.Price)
	if len(way) > 0 {
		s.Tell(f.line())
	}
	switch {
	case !archived:
		return nil
	case dryRun:
		s.Tell("some of it is in an archive, and would be called back first")
		return nil
	}
	return s.callBack(ctx, way)
}

// title names a backup of the chain.
func (s *source) title(b *store.Backup) string {
	if b == s.backup {
		return s.name()
	}
	return fmt.Sprintf("%s, on which %s builds,", b.Name, s.name())
}

// callBack asks for all of some backups that is in an archive.
func (s *source) callBack(ctx context.Context, way []*store.Backup) error {
	archived, ready, err := s.Found.Store.CallBack(ctx, way, s.needs)
	if err != nil || archived == 0 {
		return err
	}
	return &LaterError{Objects: archived, Ready: ready}
}

// A LaterError tells that what is needed can be read later.
type LaterError struct {
	Objects int
	Ready   time.Time // zero: unknown
}

func (e *LaterError) Error() string {
	when := "it is not known when they can be read"
	if !e.Ready.IsZero() {
		when = "they can be read about " + e.Ready.Local().Format("2006-01-02 15:04")
	}
	return fmt.Sprintf("%d objects are in an archive, and were called back: %s", e.Objects, when)
}

// Hint gives the way forward.
func (e *LaterError) Hint() string { return "run the same command then: it goes on" }

// explain tells more about an error of a restore.
func (s *source) explain(ctx context.Context, err error) error {
	var part *store.PartError
	var missing *chain.MissingError
	switch {
	case errors.As(err, new(*object.ArchivedError)):
		if later := s.callBack(ctx, s.chain); later != nil {
			return later
		}
	case errors.As(err, &missing):
		return s.instead(fmt.Errorf("%s cannot be restored: %s builds on %s, which is not in %s", s.name(), missing.Of.Name, missing.UUID,
			s.Found.Place))
	case errors.As(err, &part) && errors.Is(err, store.ErrDamaged):
		s.bad[part.Backup.Dir] = true
		return s.instead(err)
	}
	return err
}

// instead names the newest backup that can be restored in place of one that cannot.
func (s *source) instead(err error) error {
	for i := len(s.catalog.Backups) - 1; i >= 0; i-- {
		b := &s.catalog.Backups[i]
		needed, missing := s.catalog.Chain(b)
		if missing.IsZero() && !slices.ContainsFunc(needed, func(b *store.Backup) bool { return len(b.StreamFaults()) > 0 || s.bad[b.Dir] }) {
			return hint.Newf(err, "the newest one of which all is there is %s: restore that", b.Name)
		}
	}
	return hint.New(err, "no other backup of it can be restored from here, either; is there another store?")
}

// record remembers under which name the target goes on in the store, and whose signature was taken.
func (s *source) record(ctx context.Context, o Whole, did *restore.Report) {
	log := s.Found.Store.Log
	if err := s.Trust.Record(s.Found.Source); err != nil {
		log.Warn(fmt.Sprintf("whose signature was taken is not recorded: %v", err))
	}
	if o.Keep || did.Lives != "" {
		return
	}
	target := host.OriginOf(o.To, strings.TrimSuffix(o.Target, "/"))
	if err := o.State.SetStoredAs(context.WithoutCancel(ctx), s.Found.Store.ID, target.Source, s.Found.Source); err != nil {
		log.Warn(fmt.Sprintf("%s: the next backup to %s will be a complete copy, under another name: %v", engine.PlaceName(o.Target), s.Found.Place, err))
	}
}

// ReadIdentities reads the secret keys that are named. Without any, one is asked for.
func ReadIdentities(ctx context.Context, p seal.Prompt, names []string) (seal.Identities, error) {
	if len(names) == 0 && p.Ask != nil {
		names = []string{seal.Typed}
		p.Input = nil
	}
	if len(names) == 0 {
		return nil, unreadable(seal.ErrNoIdentity)
	}
	return p.ReadIdentities(ctx, names...)
}
