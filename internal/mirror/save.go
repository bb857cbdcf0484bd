package mirror

import (
	"cmp"
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
func (f *Folder) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	f.Log.Info(fmt.Sprintf("%s: copying %s to %s", f, f.source, t.Snapshot.Name))
	r, err := f.copy(ctx, t, f.save)
	return worded(f.source, f, t.Snapshot.Name, r, err)
}

// Rehearse lets rsync tell what it would copy into the backup that the transfer builds upon.
func (f *Folder) Rehearse(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	r, err := f.copy(ctx, t, func(ctx context.Context, t engine.Transfer, c copying) (engine.Result, error) {
		base := cmp.Or(t.ParentName(), t.Snapshot.Name) // which is missing, and so empty to rsync
		c.to = f.argument(c.link, f.dir.Status().Path+"/"+base)
		return c.rehearse(ctx)
	})
	return worded(f.source, f, t.Snapshot.Name, r, err)
}

// copy reaches the other machine, if there is one, and lets do copy.
func (f *Folder) copy(ctx context.Context, t engine.Transfer, do func(context.Context, engine.Transfer, copying) (engine.Result, error)) (engine.Result, error) {
	link, reach, err := f.link(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	defer link.Close()
	if f.within != nil {
		f.Log.Info(fmt.Sprintf("%s lies in the source, and is left out of the copy", f))
	}
	return do(ctx, t, copying{Options: f.Options, source: f.source, link: link, reach: reach, first: f.within,
		dest: f.String(), name: t.Snapshot.Name, atMost: f.sizeOf(t.ParentName())})
}

func (f *Folder) save(ctx context.Context, t engine.Transfer, copying copying) (engine.Result, error) {
	name, base := t.Snapshot.Name, t.ParentName()
	order := tree.Order{Name: name, Base: base, Source: f.source.Identity()}
	if f.source.Frozen {
		order.Snapshot = f.source.path
	}
	work, err := f.dir.BeginTree(ctx, order)
	if err != nil {
		return engine.Result{}, f.explained(err)
	}
	if work.Filled {
		missing := f.source.missing(nil)
		if err := f.finish(ctx, t, work, missing, 0); err != nil {
			return engine.Result{}, f.keep(ctx, name, err)
		}
		return new(output).copied(missing, false), nil
	}
	if work.Resumed {
		f.Log.Info(fmt.Sprintf("%s: going on with what an interrupted run copied", f))
	}
	copying.own, copying.to = filling(work), f.argument(copying.link, work.Path)
	if work.Resumed && !(work.Subvolume && base != "") {
		// without a backup below it, all that is in the directory and not in the source was left by the interrupted run
		copying.own = append(copying.own, "--delete", "--delete-excluded")
	}
	if f.Rsync == nil {
		copying.own = append(copying.own, f.faithful(work)...)
		if work.LinkDest != "" {
			copying.own = append(copying.own, itemize)
		}
	}
	unfollow := f.follow(ctx, name, work)
	told, missing, err := copying.run(ctx)
	unfollow()
	missing = f.source.missing(missing)
	if err == nil {
		err = f.repair(ctx, copying, work, told.retouched)
	}
	if err == nil {
		err = f.finish(ctx, t, work, missing, told.bytes)
	}
	copied := told.copied(missing, copying.reach != nil)
	if err != nil {
		return copied, f.keep(ctx, name, err)
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
func (f *Folder) finish(ctx context.Context, t engine.Transfer, work tree.Work, missing *IncompleteError, atMost int64) error {
	name := t.Snapshot.Name
	r := tree.Result{Name: name, Base: t.ParentName(), Source: f.source.Identity(), Started: t.Started, InPlace: work.InPlace, MaxDelete: f.MaxDelete,
		Dedup: !work.Subvolume}
	if f.Dedup != nil {
		r.Dedup = *f.Dedup
	}
	if missing != nil {
		r.Incomplete, r.Missing = missing.Messages, missing.Count
	}
	f.Log.Info(fmt.Sprintf("%s: %s is copied, and is being finished", f, name))
	read := rereading{began: time.Now(), show: func() *progress.Transfer {
		return f.show(ctx, fmt.Sprintf("%s: reading %s", f, name), atMost)
	}}
	record, err := f.dir.FinishTree(ctx, r, read.add)
	read.done()
	if err != nil {
		return f.explained(err)
	}
	f.Log.Debug(fmt.Sprintf("%s: %s has %d files with %s, of which %s were there already; %s were read in the end, in %s", f, name,
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
	if err := f.dir.SavePartialTree(ctx, name); err != nil {
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
