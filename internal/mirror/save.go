package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/tree"
)

// Save makes a backup of the source. After a failure, what was copied stays for the next run to go on with.
func (f *Folder) Save(ctx context.Context, c engine.Copy) (engine.Copied, error) {
	link, reach, err := f.link(ctx)
	if err != nil {
		return engine.Copied{}, err
	}
	defer link.Close()
	if f.within != nil {
		f.Log.Info(fmt.Sprintf("%s lies in the source, and is left out of the copy", f))
	}
	copying := copying{Options: f.Options, source: f.source, link: link, reach: reach, first: f.within,
		dest: f.String(), name: c.Name, atMost: c.Bytes}
	if c.DryRun {
		base := c.Base
		if base == "" {
			base = c.Name // is missing, which rsync takes for empty
		}
		copying.to = f.argument(link, f.dir.Status().Path+"/"+base)
		return copying.rehearse(ctx)
	}
	if err := f.mark(ctx); err != nil {
		return engine.Copied{}, err
	}
	order := tree.Order{Name: c.Name, Base: c.Base, Source: f.source.Identity()}
	if f.source.Frozen {
		order.Snapshot = f.source.path
	}
	work, err := f.dir.BeginTree(ctx, order)
	if err != nil {
		return engine.Copied{}, f.explained(err)
	}
	if work.Filled {
		missing := f.source.missing(nil)
		if err := f.finish(ctx, c, work, missing, 0); err != nil {
			return engine.Copied{}, f.keep(ctx, c.Name, err)
		}
		return new(output).copied(missing, false), nil
	}
	if work.Resumed {
		f.Log.Info(fmt.Sprintf("%s: going on with what an interrupted run copied", f))
	}
	copying.own, copying.to = filling(work), f.argument(link, work.Path)
	if work.Resumed && !(work.Subvolume && c.Base != "") {
		// without a backup below it, all that is in the directory and not in the source was left by the interrupted run
		copying.own = append(copying.own, "--delete", "--delete-excluded")
	}
	if f.Rsync == nil {
		copying.own = append(copying.own, f.faithful(work)...)
		if work.LinkDest != "" {
			copying.own = append(copying.own, itemize)
		}
	}
	unfollow := f.follow(ctx, c.Name, work)
	told, missing, err := copying.run(ctx)
	unfollow()
	missing = f.source.missing(missing)
	if err == nil {
		err = f.repair(ctx, copying, work, told.retouched)
	}
	if err == nil {
		err = f.finish(ctx, c, work, missing, told.bytes)
	}
	copied := told.copied(missing, reach != nil)
	if err != nil {
		return copied, f.keep(ctx, c.Name, err)
	}
	return copied, nil
}

// follow has the files of a first copy read while they are still in memory. What it gives ends that.
func (f *Folder) follow(ctx context.Context, name string, w tree.Work) (end func()) {
	if w.InPlace || w.LinkDest != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		if err := f.dir.FollowTree(ctx, name); err != nil && ctx.Err() == nil {
			f.Log.Debug(fmt.Sprintf("%s: all is read after it was copied: %v", f, err))
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}

// faithful are the options with which the default ones copy everything to what the folder lies on.
func (f *Folder) faithful(w tree.Work) (options []string) {
	if f.dir.Status().Privileged {
		options = append(options, asRoot...)
		if !f.isLocal() { // rsync does not tell the other side its rules for attributes
			for _, option := range asRoot {
				options = append(options, "--remote-option="+option)
			}
		}
	}
	if !w.InPlace {
		options = append(options, sparse)
	}
	if w.Nanoseconds {
		options = append(options, nanoseconds)
	}
	return options
}

// finish makes a backup of what was copied, which has at most so many new bytes.
func (f *Folder) finish(ctx context.Context, c engine.Copy, work tree.Work, missing *IncompleteError, atMost int64) error {
	r := tree.Result{Name: c.Name, Base: c.Base, Source: f.source.Identity(), Started: c.Started, InPlace: work.InPlace, MaxDelete: f.MaxDelete,
		Dedup: !work.Subvolume}
	if f.Dedup != nil {
		r.Dedup = *f.Dedup
	}
	if missing != nil {
		r.Incomplete, r.Missing = missing.Messages, missing.Count
	}
	f.Log.Info(fmt.Sprintf("%s: %s is copied, and is being finished", f, c.Name))
	read := rereading{began: time.Now(), show: func() *progress.Transfer {
		return f.show(ctx, fmt.Sprintf("%s: reading %s", f, c.Name), atMost)
	}}
	record, err := f.dir.FinishTree(ctx, r, read.add)
	read.done()
	if err != nil {
		return f.explained(err)
	}
	f.Log.Debug(fmt.Sprintf("%s: %s has %d files with %s, of which %s were there already; %s were read in the end, in %s", f, c.Name,
		record.Files, progress.Bytes(record.Bytes), progress.Bytes(record.Shared), progress.Bytes(read.bytes),
		time.Since(read.began).Round(time.Millisecond)))
	return nil
}

// A rereading is what is read of the new backup. It is shown if it takes more than a moment.
type rereading struct {
	began time.Time
	show  func() *progress.Transfer
	shown *progress.Transfer // nil: not yet
	bytes int64
}

// aMoment is how long it takes.
const aMoment = time.Second

func (r *rereading) add(n int64) {
	r.bytes += n
	switch {
	case r.shown != nil:
		r.shown.Set(r.bytes)
	case time.Since(r.began) > aMoment:
		r.shown = r.show()
		r.shown.Resume(r.bytes)
	}
}

func (r *rereading) done() {
	if r.shown != nil {
		r.shown.Vanish()
	}
}

// keepTime is how long it may take to put on disk what was copied until a failure.
const keepTime = 20 * time.Second

// keep keeps what was copied until a failure, also when the context has ended. Of what was refused nothing is left.
func (f *Folder) keep(ctx context.Context, name string, failure error) error {
	if refused := new(tree.TooManyGoneError); errors.As(failure, &refused) {
		return failure
	}
	stopped := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	forward := hint.Of(failure)
	if err := f.dir.KeepTree(ctx, name); err != nil {
		f.Log.Warn(fmt.Sprintf("%s: what was copied to %s may be lost: %v", f, name, err))
		return failure
	}
	if stopped {
		f.Log.Info(fmt.Sprintf("%s: what was copied is kept, and the next run goes on with it", f))
	}
	if forward != "" {
		forward += "; "
	}
	return hint.New(failure, forward+"what was copied is kept, and the next run goes on with it")
}
