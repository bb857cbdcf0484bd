// Package repair heals a backup by what another place holds of the same, on whatever machines both lie. What is good, and how it is
// written, the machine with the backup decides (package heal): here, pieces are brought from one to the other.
package repair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// An Order tells what is to be healed by what.
type Order struct {
	Backup inventory.Found
	Source inventory.Found // a snapshot, another backup, or any directory with the same files
	DryRun bool

	Progress func(read int64)        // bytes of the backup
	Waiting  func(e *lock.HeldError) // for the lock of its folder; nil: it is an error
}

// Find finds what the paths on two hosts mean.
func (o *Order) Find(ctx context.Context, h host.Trees, backup string, from host.Trees, source string) (err error) {
	if o.Backup, err = inventory.FindVersion(ctx, h, backup, host.SnapshotFolder); err != nil {
		return err
	}
	if o.Backup.Within != "" {
		return hint.Newf(fmt.Errorf("%s is in a backup", o.Backup), "all of that is healed: name %s", o.Backup.Path())
	}
	o.Source, err = inventory.Find(ctx, from, source, host.SnapshotFolder)
	return err
}

// A Report tells what was damaged, and what is healed.
type Report struct {
	Backup string `json:"backup"`
	Source string `json:"source"`
	DryRun bool   `json:"dry_run,omitempty"`
	heal.Searched
	Blocks    []Block         `json:"damage"`
	Rewritten *heal.Rewritten `json:"rewritten,omitempty"`
}

// A Block is damage, and what became of it.
type Block struct {
	heal.Damage
	Healed  bool        `json:"healed"`
	Written []heal.Copy `json:"written,omitempty"`
	Problem string      `json:"problem,omitempty"` // why it is not healed, or would not be
}

// Left tells how many of the blocks are damaged still, or would be.
func (r Report) Left() (n int) {
	for _, b := range r.Blocks {
		if !b.Healed && (!r.DryRun || b.Problem != "") {
			n++
		}
	}
	return n
}

// maxPieces is how many bytes are brought before extents are rewritten with them.
const maxPieces = 8 << 20

// course is one repair.
type course struct {
	Order
	patient  *host.Dir
	donor    *host.Dir
	source   string // name in the donor
	below    string // path in that
	isOrigin bool
	report   *Report
}

// Run finds what cannot be read of a backup, and heals it. An error is about all of it; what is wrong with a block is told in the report.
func Run(ctx context.Context, o Order) (Report, error) {
	r := Report{Backup: o.Backup.String(), Source: o.Source.String(), DryRun: o.DryRun, Blocks: []Block{}}
	c := &course{Order: o, report: &r}
	if err := c.open(ctx); err != nil {
		return r, err
	}
	defer c.close()
	if !o.DryRun {
		if _, err := c.patient.Lock(ctx, o.Waiting); err != nil {
			return r, err
		}
		if err := c.patient.CleanHealed(ctx); err != nil {
			return r, err
		}
	}
	var err error
	r.Searched, err = c.patient.FindDamage(ctx, o.Backup.Name, func(d heal.Damage) {
		r.Blocks = append(r.Blocks, Block{Damage: d})
	}, o.Progress)
	if err != nil {
		return r, err
	}
	for i := range r.Blocks {
		if err := c.putBack(ctx, &r.Blocks[i]); err != nil {
			return r, err
		}
	}
	return r, c.rewrite(ctx)
}

func (c *course) open(ctx context.Context) (err error) {
	if c.Backup.Set != nil || c.Backup.Subvolume.ID == 0 {
		return hint.New(fmt.Errorf("%s is no subvolume: only these are healed", c.Backup),
			"of a set, name the backup of a member; of another backup, copy what is damaged from the source")
	}
	if c.patient, err = c.Backup.Host.Open(ctx, c.Backup.Folder); err != nil {
		return err
	}
	folder, name := c.Source.Folder, c.Source.Name
	c.below = c.Source.Within
	if name == "" { // a directory
		folder, name = path.Dir(folder), path.Base(folder)
	}
	if c.donor, err = c.Source.Host.Open(ctx, folder); err != nil {
		return err
	}
	if name == "/" {
		name = "."
	}
	c.source = name
	c.isOrigin, err = c.findOrigin(ctx)
	return err
}

func (c *course) close() {
	if c.patient != nil {
		_ = c.patient.Close()
	}
	if c.donor != nil {
		_ = c.donor.Close()
	}
}

// findOrigin tells whether the source holds the very state that the backup is of.
func (c *course) findOrigin(ctx context.Context) (bool, error) {
	if c.Source.Subvolume.ID == 0 || c.Source.Name == "" || c.below != "" || !c.Source.Subvolume.ReadOnly {
		return false, nil
	}
	content, err := c.donor.List(ctx)
	if err != nil {
		return false, err
	}
	backup := []btrfs.Subvolume{c.Backup.Subvolume}
	finder := copies.New(content.All, btrfs.Listing{InDirectory: backup, All: backup})
	return len(finder.Of(c.Source.Subvolume)) > 0, nil
}

// putBack heals a block by the first way, if that is open.
func (c *course) putBack(ctx context.Context, b *Block) error {
	if b.Way == heal.NoWay {
		b.Problem = b.Why
		return nil
	}
	if b.Way == heal.Rewrite || c.DryRun {
		c.checkOrigin(b)
		return nil
	}
	piece, err := c.bring(ctx, b, b.Compressed != "")
	if err != nil {
		return c.problem(ctx, b, err)
	}
	err = heal.ErrWrongSource
	if piece.Encoded == (b.Compressed != "") {
		b.Written, err = c.patient.PutBlockBack(ctx, c.Backup.Name, piece)
	}
	if b.Healed = err == nil; b.Healed {
		return nil
	}
	if errors.Is(err, heal.ErrNoDeviceWrite) || errors.Is(err, heal.ErrWrongSource) && b.Compressed != "" {
		b.Way, b.Why = heal.Rewrite, err.Error()
		if b.Compressed != "" && errors.Is(err, heal.ErrWrongSource) {
			b.Why = "the source has not the same compressed data"
		}
		c.checkOrigin(b)
		return nil
	}
	return c.problem(ctx, b, err)
}

// bring reads what the source holds of a damaged part.
func (c *course) bring(ctx context.Context, b *Block, encoded bool) (heal.Piece, error) {
	asked := heal.Piece{File: path.Join(c.below, b.File), Offset: b.Offset, Length: b.Length, Encoded: encoded}
	piece, err := c.donor.ReadPiece(ctx, c.source, asked)
	piece.File, piece.Offset, piece.Length = b.File, b.Offset, b.Length
	return piece, err
}

// problem notes an error of a block. What is about all of them is given back.
func (c *course) problem(ctx context.Context, b *Block, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, heal.ErrRelocating) {
		return hint.New(err, "wait until it ends: `btrfs balance status` and `btrfs replace status` show it")
	}
	b.Problem = err.Error()
	return nil
}

// checkOrigin refuses to rewrite extents by what no checksum can prove.
func (c *course) checkOrigin(b *Block) {
	if b.Way == heal.Rewrite && !c.isOrigin {
		b.Problem = b.Why + "; by other means it can be healed only from the very snapshot that the backup is of, which the source is not"
	}
}

// rewrite heals by the second way what the first one does not.
func (c *course) rewrite(ctx context.Context) error {
	var waiting []*Block
	var pieces []heal.Piece
	size := 0
	flush := func() error {
		if len(pieces) == 0 {
			return nil
		}
		err := c.rewriteBy(ctx, waiting, pieces)
		waiting, pieces, size = nil, nil, 0
		return err
	}
	for i := range c.report.Blocks {
		b := &c.report.Blocks[i]
		if c.DryRun || b.Way != heal.Rewrite || b.Healed || b.Problem != "" {
			continue
		}
		piece, err := c.bring(ctx, b, false)
		if err != nil {
			if err := c.problem(ctx, b, err); err != nil {
				return err
			}
			continue
		}
		waiting, pieces, size = append(waiting, b), append(pieces, piece), size+len(piece.Data)
		if size >= maxPieces {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (c *course) rewriteBy(ctx context.Context, blocks []*Block, pieces []heal.Piece) error {
	done, err := c.patient.RewriteExtents(ctx, c.Backup.Name, pieces)
	r := cmp.Or(c.report.Rewritten, &heal.Rewritten{})
	r.Add(done)
	c.report.Rewritten = r
	own := path.Join(c.Backup.Folder, c.Backup.Name)
	for _, b := range blocks {
		b.Healed = err == nil && done.Has(own)
		for _, l := range done.Left {
			if l.Path == own {
				b.Problem = l.Why
			}
		}
		if err != nil {
			if err := c.problem(ctx, b, err); err != nil {
				return err
			}
		}
	}
	return nil
}
