package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"btrfs-backup/internal/engine"
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
		dest: f.String(), shown: c.Shown}
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
		if err := f.finish(ctx, c, work, missing); err != nil {
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
	told, missing, err := copying.run(ctx)
	missing = f.source.missing(missing)
	if err == nil {
		err = f.repair(ctx, copying, work, told.retouched)
	}
	if err == nil {
		err = f.finish(ctx, c, work, missing)
	}
	copied := told.copied(missing, reach != nil)
	if err != nil {
		return copied, f.keep(ctx, c.Name, err)
	}
	return copied, nil
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

// finish makes a backup of what was copied.
func (f *Folder) finish(ctx context.Context, c engine.Copy, work tree.Work, missing *IncompleteError) error {
	r := tree.Result{Name: c.Name, Base: c.Base, Source: f.source.Identity(), Started: c.Started, MaxDelete: f.MaxDelete,
		Dedup: !work.Subvolume}
	if f.Dedup != nil {
		r.Dedup = *f.Dedup
	}
	if missing != nil {
		r.Incomplete, r.Missing = missing.Messages, missing.Count
	}
	f.Log.Info(fmt.Sprintf("%s: %s is copied, and is being finished", f, c.Name))
	began := time.Now()
	record, err := f.dir.FinishTree(ctx, r, nil)
	if err != nil {
		return f.explained(err)
	}
	f.Log.Debug(fmt.Sprintf("%s: %s has %d files with %s, of which %s were there already; finishing took %s", f, c.Name,
		record.Files, progress.Bytes(record.Bytes), progress.Bytes(record.Shared), time.Since(began).Round(time.Millisecond)))
	return nil
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
	hint := engine.HintOf(failure)
	if err := f.dir.KeepTree(ctx, name); err != nil {
		f.Log.Warn(fmt.Sprintf("%s: what was copied to %s may be lost: %v", f, name, err))
		return failure
	}
	if stopped {
		f.Log.Info(fmt.Sprintf("%s: what was copied is kept, and the next run goes on with it", f))
	}
	if hint != "" {
		hint += "; "
	}
	return engine.Hint(failure, "%swhat was copied is kept, and the next run goes on with it", hint)
}
