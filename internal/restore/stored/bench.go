package stored

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/offsite"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/chain"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// A Bench is a directory of this machine into which backups of a source are received to be looked at. It must be closed.
type Bench struct {
	BenchOptions
	catalog *store.Catalog
	wanted  []*store.Backup // that are not done
	dir     string
}

// BenchOptions tell of a Bench.
type BenchOptions struct {
	Found      *offsite.Found
	Identities seal.Identities
	Here       host.Trees
	Scratch    []string // see ScratchOr
	engine.Settings
}

// NewBench makes a directory where there is room for some backups, with all that they build on.
func NewBench(ctx context.Context, c *store.Catalog, wanted []*store.Backup, o BenchOptions) (*Bench, error) {
	b := &Bench{BenchOptions: o, catalog: c, wanted: slices.Clone(wanted)}
	b.Log = slog.New(onlyWarnings{o.Log.Handler()})
	needed := make(map[*store.Backup]bool)
	var room int64
	for _, w := range wanted {
		way, _ := c.Chain(w)
		for _, of := range way {
			if !needed[of] {
				needed[of], room = true, room+of.Bytes
			}
		}
	}
	var err error
	b.dir, err = scratch(ctx, o.Here, o.Scratch, room)
	return b, err
}

// Receive receives a backup, and gives the path of what it is then. What it builds on is received before, and stays as long as another one
// that is wanted builds on it. Read is told of bytes of streams. What is not what it was is store.ErrDamaged.
func (b *Bench) Receive(ctx context.Context, of *store.Backup, read func(n int)) (at string, err error) {
	s := &source{From: From{Found: b.Found}, catalog: b.catalog, backup: of}
	s.chain, s.missing = b.catalog.Chain(of)
	if !s.missing.IsZero() {
		return "", &store.LostError{On: s.missing.String(), Why: "is missing"}
	}
	var inputs []*chain.Input
	for _, on := range s.chain {
		k, err := s.known(on, b.Identities)
		if err != nil {
			return "", err
		}
		k.Name = nameOf(on)
		k.Open = func(ctx context.Context) (io.ReadCloser, error) {
			content := b.Found.Store.Stream(ctx, &on.Manifest, b.Identities)
			return struct {
				io.Reader
				io.Closer
			}{counting{content, read}, content}, nil
		}
		inputs = append(inputs, chain.Stored(k))
	}
	_, err = restore.RunStreams(ctx, restore.Order{To: b.Here, Target: b.dir, Settings: b.Settings},
		restore.Streams{Inputs: inputs, Keep: true, Backup: s.name()})
	var part *store.PartError
	if errors.As(err, &part) && part.Backup.Dir != of.Dir && errors.Is(err, store.ErrDamaged) {
		err = &store.LostError{On: part.Backup.Name, Why: "is damaged"}
	}
	return path.Join(b.dir, nameOf(of)), err
}

// counting tells of what is read.
type counting struct {
	io.Reader
	read func(n int)
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read(n)
	return n, err
}

// nameOf names a backup as no other one of its source is.
func nameOf(of *store.Backup) string { return path.Base(of.Dir) }

// Original gives the path of the snapshot that a backup is of, or of another copy of that; "" if none is found on this machine. It is
// looked for in some folders, and in those that the backup itself tells of.
func (b *Bench) Original(ctx context.Context, of *store.Backup, folders []string) string {
	p, err := of.Private(b.Identities)
	if err != nil {
		return ""
	}
	_, via, _ := strings.Cut(p.Via, ":")
	for _, folder := range append(slices.Clone(folders), path.Join(p.Path, host.SnapshotFolder), via) {
		if !path.IsAbs(folder) {
			continue
		}
		dir, err := b.Here.Open(ctx, folder)
		if err != nil {
			continue
		}
		found, err := dir.Relatives(ctx, nil)
		if err = errors.Join(err, dir.Close()); err != nil {
			continue
		}
		sent := chain.Link{Name: of.Name, UUID: of.UUID, TransID: of.TransID}.Snapshot()
		if all := copies.New(nil, found.Listing).Of(sent); len(all) > 0 {
			return path.Join(folder, all[0].Name)
		}
	}
	return ""
}

// Done deletes a backup, and what it builds on, unless that is needed yet.
func (b *Bench) Done(of *store.Backup) error {
	b.wanted = slices.DeleteFunc(b.wanted, func(w *store.Backup) bool { return w == of })
	at, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer at.Close()
	way, _ := b.catalog.Chain(of)
	for _, w := range b.wanted {
		still, _ := b.catalog.Chain(w)
		way = slices.DeleteFunc(slices.Clone(way), func(b *store.Backup) bool { return slices.Contains(still, b) })
	}
	var errs []error
	for _, gone := range slices.Backward(way) {
		if err := btrfs.Delete(at, nameOf(gone)); !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close deletes all.
func (b *Bench) Close() error { return clear(b.dir) }
