package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"btrfs-backup/internal/hint"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// A CopyJob is one run that copies a directory as it stands, without a snapshot of it.
type CopyJob struct {
	Tree    Tree
	Mirrors []Mirror // of the tree
	Naming  Naming
	Keep    retention.Policy
	// Automatic tells that nobody asked for a copy: it is made because the source is not a subvolume, at present.
	Automatic bool
	Settings
}

// A Tree is a directory on any filesystem.
type Tree interface {
	String() string
	// Check fails unless the directory is there and is what it should be.
	Check(ctx context.Context) error
}

// A Mirror is a folder that keeps copies of one tree.
type Mirror interface {
	String() string
	// Open must be called first. A missing folder is created on request, else it is fs.ErrNotExist.
	Open(ctx context.Context, create bool) error
	// Lock keeps other runs out until release; see lock.Acquire.
	Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error)
	List(ctx context.Context) (Copies, error)
	// Save makes a backup of the tree, or none. It goes on with what an interrupted Save left.
	Save(ctx context.Context, c Copy) (Copied, error)
	// Delete deletes what it can of the named backups; it gives the names of those deleted, and every failure.
	Delete(ctx context.Context, names []string) (deleted []string, err error)
	// Link makes or replaces the symbolic link of that name in the folder.
	Link(ctx context.Context, name, target string) error
}

// Copies are what a mirror holds.
type Copies struct {
	Backups []Kept       // those that mirrors made, in the order in which they were finished
	Taken   []string     // further names that no backup can have
	Ledger  *lock.Ledger // of what the backups were sent on to; nil if they never were
	NoPrune error        // why nothing may be deleted; nil if it may
}

// Kept is a backup at a mirror.
type Kept struct {
	Name     string
	Complete bool
	Foreign  bool // of another tree
	Bytes    int64
}

// A Copy is to be made.
type Copy struct {
	Name    string
	Base    string // the backup to build upon; "" for none
	Bytes   int64  // in that
	Started time.Time
	DryRun  bool
}

// Copied tells what a copy took.
type Copied struct {
	Bytes int64 // of files that were copied
	Wire  int64 // that crossed a network
	// Incomplete tells what could not be read of the tree, and is nil when the copy is complete.
	Incomplete error
}

// copying is the serving of one mirror.
type copying struct {
	*CopyJob
	to    Mirror
	saved *Saved
}

// RunCopy does the job. What failed stands in the report; the error is about the tree, or the end of the context.
func RunCopy(ctx context.Context, job CopyJob) (*Report, error) {
	report := &Report{DryRun: job.DryRun, Copy: true, Source: job.Tree.String(), Destinations: make([]Saved, len(job.Mirrors))}
	if err := job.Tree.Check(ctx); err != nil {
		return report, err
	}
	var serving sync.WaitGroup
	for i, m := range job.Mirrors {
		serving.Go(func() {
			c := copying{CopyJob: &job, to: m, saved: &report.Destinations[i]}
			c.saved.Destination = m.String()
			if err := c.serve(ctx); err != nil {
				if ctx.Err() != nil {
					err = fmt.Errorf("%s: %w", m, context.Cause(ctx))
				}
				c.saved.fail(err)
			}
		})
	}
	serving.Wait()
	if ctx.Err() != nil {
		return report, context.Cause(ctx)
	}
	return report, nil
}

// serve makes a backup at the mirror, and prunes there if that succeeded.
func (c *copying) serve(ctx context.Context) error {
	err := c.to.Open(ctx, !c.DryRun)
	if errors.Is(err, fs.ErrNotExist) && c.DryRun { // it would be created
		c.saved.Transfers = []Sent{{Snapshot: c.Naming.Name(c.Now())}}
		return nil
	}
	if err != nil {
		return err
	}
	release, err := c.lock(ctx, c.to)
	if err != nil {
		return err
	}
	defer release()
	if _, ok := c.to.(WriteOnly); ok {
		sent := c.save(ctx, Copy{Name: c.Naming.Name(c.Now())})
		sent.Stored = sent.Failure == nil
		c.saved.Transfers = []Sent{sent}
		return nil
	}
	copies, err := c.to.List(ctx)
	if err != nil {
		return err
	}
	base := c.base(copies)
	if c.Automatic && base.Name == "" && slices.ContainsFunc(copies.Taken, c.Naming.Ours) {
		return hint.New(fmt.Errorf("%s: it holds backups of a btrfs subvolume, which %s is not", c.to, c.Tree),
			"is the source's filesystem mounted? --engine rsync copies what is there into this folder")

	}
	name, err := c.freeName(ctx, copies)
	if err != nil {
		return err
	}
	sent := c.save(ctx, Copy{Name: name, Base: base.Name, Bytes: base.Bytes})
	c.saved.Transfers = []Sent{sent}
	if sent.Failure != nil {
		return nil
	}
	return c.finish(ctx, copies, Kept{Name: name, Complete: sent.Incomplete == nil})
}

// finish points the link to the backup made, and prunes.
func (c *copying) finish(ctx context.Context, copies Copies, made Kept) error {
	if !c.DryRun {
		if err := c.to.Link(ctx, c.Naming.Latest(), made.Name); err != nil {
			return err
		}
	}
	if copies.NoPrune != nil {
		return copies.NoPrune
	}
	copies.Backups = append(copies.Backups, made)
	c.saved.Verdicts = c.verdicts(copies)
	if ctx.Err() == nil {
		c.saved.Deleted = c.delete(ctx, c.to, deletions(c.saved.Verdicts), c.saved.fail)
	}
	return nil
}

// save makes a backup.
func (c *copying) save(ctx context.Context, what Copy) (sent Sent) {
	started := time.Now()
	what.Started, what.DryRun = c.Now(), c.DryRun
	sent = Sent{Snapshot: what.Name, Parent: what.Base}
	if !c.DryRun {
		c.Log.Info(fmt.Sprintf("%s: copying %s to %s", c.to, c.Tree, what.Name))
	}
	copied, err := c.to.Save(ctx, what)
	sent.Bytes, sent.Wire, sent.Duration = copied.Bytes, copied.Wire, time.Since(started)
	if err != nil {
		sent.Failure = &Failure{fmt.Errorf("copying %s to %s: %w", c.Tree, c.to, err)}
	} else if copied.Incomplete != nil {
		sent.Incomplete = &Failure{fmt.Errorf("%s is incomplete at %s: %w", what.Name, c.to, copied.Incomplete)}
	}
	return sent
}

// freeName gives the name of the backup, waiting for the next second if it is taken.
func (c *copying) freeName(ctx context.Context, copies Copies) (string, error) {
	for {
		now := c.Now()
		name := c.Naming.Name(now)
		isName := func(k Kept) bool { return k.Name == name }
		if !slices.Contains(copies.Taken, name) && !slices.ContainsFunc(copies.Backups, isName) {
			return name, nil
		}
		c.Log.Info(name + " exists already, waiting for the next second")
		if err := wait(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now)); err != nil {
			return "", err
		}
	}
}

// base gives the newest backup of the series, whatever tree it is of: what it holds of this one need not be copied.
func (c *copying) base(copies Copies) Kept {
	for _, k := range slices.Backward(copies.Backups) {
		if c.Naming.Ours(k.Name) {
			return k
		}
	}
	return Kept{}
}

// verdicts decides on the backups of the tree. The newest complete one stays, however many incomplete ones came after it, and
// so does what a destination that the backups are sent on to needs.
func (c *copying) verdicts(copies Copies) []retention.Verdict {
	var candidates []retention.Snapshot
	var foreign []retention.Verdict
	newest := -1
	for _, k := range copies.Backups {
		t, ours := c.Naming.Time(k.Name)
		switch {
		case !ours:
			continue
		case k.Foreign:
			foreign = append(foreign, retention.Verdict{Name: k.Name, Keep: true, Reasons: []string{"a backup of another source"}})
			continue
		}
		if k.Complete {
			newest = len(candidates)
		}
		holds := side{ledger: copies.Ledger}.holds(k.Name)
		candidates = append(candidates, retention.Snapshot{Name: k.Name, Time: t, Holds: holds})
	}
	if newest >= 0 {
		candidates[newest].Holds = append(candidates[newest].Holds, "the newest complete one")
	}
	return append(foreign, retention.Decide(c.Keep, c.Now(), candidates)...)
}
