// Package retrieval brings single files and trees back: out of a backup on one machine, beneath a directory on the same or another one.
// All that can be known is looked at before anything is made. The same order goes on where an earlier one was interrupted.
package retrieval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/time/rate"
)

// An Order tells what is to come back, and where to.
type Order struct {
	Backup    inventory.Found
	Paths     []string // beneath it
	To        Target
	Name      string // that all of the backup gets beneath To, with the attributes of its root; "": Paths keep theirs
	Overwrite bool
	RateLimit rate.Limit // bytes per second from one machine to another; 0: as many as go
	DryRun    bool
	Passing   bool // the backup was taken out of a store, and is deleted afterwards
}

// A Target is where files are written to.
type Target struct {
	Host    host.Trees
	Dir     string // absolute
	InPlace bool   // files keep their paths beneath it; else each is written to it under its last name
}

// A Retrieval is an order of which it is known what it means. It must be closed.
type Retrieval struct {
	order   Order
	from    *host.Dir
	to      *host.Dir // nil: the directory is missing, and will be made
	found   []files.Found
	writing files.Order
	limit   *rate.Limiter // nil: none
	Report  *Report
}

// Prepare finds out what an order means, and refuses what cannot be done. It changes nothing.
func Prepare(ctx context.Context, o Order) (*Retrieval, error) {
	r := &Retrieval{order: o}
	if o.RateLimit > 0 {
		r.limit = transport.NewLimiter(o.RateLimit)
	}
	if err := r.prepare(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Retrieval) prepare(ctx context.Context) (err error) {
	if err := CheckBackup(r.order.Backup); err != nil {
		return err
	}
	if r.from, err = r.order.Backup.Host.Open(ctx, r.order.Backup.Folder); err != nil {
		return err
	}
	for i, chosen := range r.order.Paths {
		if r.order.Paths[i], err = files.Clean(path.Join(r.order.Backup.Within, chosen)); err != nil {
			return err
		}
	}
	if r.found, err = find(ctx, r.order.Backup, r.from, r.selection()); err != nil {
		return err
	}
	r.writing = files.Order{Overwrite: r.order.Overwrite, Beside: ".restored-" + dateOf(r.order.Backup.Name)}
	for _, f := range r.found {
		item := files.Item{Path: f.Path, To: path.Base(f.Path), Entry: f.Entry}
		switch {
		case r.order.Name != "":
			item.To, item.Whole = r.order.Name, true
		case r.order.To.InPlace:
			item.To, item.Above = f.Path, f.Above
		}
		r.writing.Items = append(r.writing.Items, item)
	}
	if err := r.openTarget(ctx); err != nil {
		return err
	}
	placed := make([]files.Placed, len(r.writing.Items))
	for i, item := range r.writing.Items {
		placed[i].To = item.To // in a directory that is missing, all names are free
	}
	if r.to != nil {
		if placed, err = r.place(ctx); err != nil {
			return err
		}
	}
	r.Report = newReport(r.order, r.found, placed)
	return nil
}

// find is FindFiles. A machine that tells of other paths than it was asked about decides on no name here.
func find(ctx context.Context, b inventory.Found, from *host.Dir, s files.Selection) ([]files.Found, error) {
	found, err := from.FindFiles(ctx, s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, lacking(b, s.Paths, err)
	}
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(found, s.Paths, func(f files.Found, path string) bool { return f.Path == path }) {
		return nil, fmt.Errorf("%w: they are about other files", files.ErrMalformed)
	}
	return found, nil
}

// lacking tells how to find the backups that hold what one does not.
func lacking(b inventory.Found, paths []string, err error) error {
	sought := "FILE"
	if len(paths) == 1 {
		sought = paths[0]
	}
	forward := fmt.Sprintf("`btrfs-backup versions %s` shows which hold it", host.PlaceName(b.Host.String()+path.Join(b.Path(), sought)))
	if like := hint.Of(err); like != "" {
		forward = like + "; " + forward
	}
	return hint.New(err, forward)
}

// place is PlaceFiles.
func (r *Retrieval) place(ctx context.Context) ([]files.Placed, error) {
	placed, err := r.to.PlaceFiles(ctx, r.writing)
	if err == nil && len(placed) != len(r.writing.Items) {
		err = fmt.Errorf("%w: they are about other files", files.ErrMalformed)
	}
	return placed, err
}

// CheckBackup refuses what files cannot be taken out of.
func CheckBackup(b inventory.Found) error {
	if b.Set != nil {
		member := "MEMBER"
		if len(b.Set.Members) > 0 {
			member = b.Set.Members[0]
		}
		return hint.Newf(fmt.Errorf("%s is a set of several backups", b), "name one of them, such as %s", path.Join(b.String(), member))
	}
	return nil
}

func (r *Retrieval) selection() files.Selection {
	return files.Selection{Backup: r.order.Backup.Name, Paths: r.order.Paths}
}

// dateOf gives the date in the name of a backup, or the name.
func dateOf(name string) string {
	if t := inventory.TimeIn(name); !t.IsZero() {
		return t.Format("20060102-150405")
	}
	return name
}

// openTarget opens the directory, whose last name may be missing.
func (r *Retrieval) openTarget(ctx context.Context) (err error) {
	to := r.order.To
	r.to, err = to.Host.Open(ctx, to.Dir)
	if errors.Is(err, fs.ErrNotExist) && !to.InPlace && r.order.Name == "" {
		above, aboveErr := to.Host.Open(ctx, path.Dir(to.Dir))
		if aboveErr == nil {
			r.to = nil
			err = writable(above.Status())
			return errors.Join(err, above.Close())
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(err, "make it, or name another directory with --to; nothing was changed")
	}
	if err == nil {
		err = r.checkWritable(ctx)
	}
	return err
}

// checkWritable looks at the directories in which something is to be made: those above them may be somebody else's.
func (r *Retrieval) checkWritable(ctx context.Context) error {
	if !r.order.To.InPlace {
		return writable(r.to.Status())
	}
	looked := make(map[string]bool)
	for _, item := range r.writing.Items {
		at := path.Join(r.order.To.Dir, path.Dir(item.To))
		if looked[at] {
			continue
		}
		looked[at] = true
		s, _, err := standing(ctx, r.order.To.Host, at)
		if err == nil {
			err = writable(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writable(s host.Status) error {
	err := s.CheckWritable()
	if errors.Is(err, fs.ErrPermission) && hint.Of(err) == "" {
		err = hint.New(err, "run as root (sudo), or name a directory that you may write to: --to DIR")
	}
	return err
}

// Close closes what was opened.
func (r *Retrieval) Close() {
	for _, dir := range []*host.Dir{r.from, r.to} {
		if dir != nil {
			_ = dir.Close() // nothing is under way
		}
	}
}

// mostAttempts is how often a restore goes on after a connection was lost.
const mostAttempts = 5

// Run carries the order out, unless it is a dry run, and tells people of it: of the progress on a display, which may be nil. The report
// holds what was done, also beside an error.
func (r *Retrieval) Run(ctx context.Context, display *progress.Display, w io.Writer) error {
	r.Report.writeBefore(w)
	if r.order.DryRun {
		fmt.Fprintln(w, "Nothing was changed.")
		return nil
	}
	var shown *progress.Transfer
	if display != nil {
		shown = display.Start(ctx, "restoring to "+r.Report.Target, nil)
	}
	err := r.carryOut(ctx, func(done, total int64) {
		if shown != nil {
			shown.Set(done)
			shown.SetTotal(progress.Total{Bytes: total})
		}
	})
	if shown != nil {
		shown.Vanish()
	}
	if err == nil || !r.Report.Nothing() {
		fmt.Fprintln(w, progress.Line(r.Report.after()))
	}
	return err
}

// carryOut goes on where a connection is lost. progress is told how much was done, of how many bytes.
func (r *Retrieval) carryOut(ctx context.Context, progress func(done, total int64)) error {
	if err := r.makeTarget(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		packed, did, err := r.once(ctx, progress)
		r.Report.add(packed, did)
		if !errors.Is(err, transport.ErrDisconnected) || ctx.Err() != nil || attempt == mostAttempts {
			return r.explain(err)
		}
		placed, againErr := r.place(ctx)
		if againErr != nil {
			return r.explain(err)
		}
		r.Report.placed = placed
	}
}

// explain tells how to go on after an error.
func (r *Retrieval) explain(err error) error {
	if err != nil && r.Report.Unfinished != "" {
		err = fmt.Errorf("%w; what was restored so far is in %s", err, path.Join(r.Report.Target, r.Report.Unfinished))
	}
	if err != nil && hint.Of(err) == "" {
		return hint.New(err, "the same command goes on where this one ended")
	}
	return err
}

func (r *Retrieval) makeTarget(ctx context.Context) (err error) {
	if r.to != nil {
		return nil
	}
	if err := r.order.To.Host.MkdirAll(ctx, r.order.To.Dir); err != nil {
		return err
	}
	if r.to, err = r.order.To.Host.Open(ctx, r.order.To.Dir); err != nil {
		return err
	}
	r.Report.placed, err = r.place(ctx)
	return err
}

// once reads and writes, on one machine or on two.
func (r *Retrieval) once(ctx context.Context, progress func(done, total int64)) (files.Packed, files.Report, error) {
	if r.order.Backup.Host == r.order.To.Host {
		to := host.FilesTarget{Directory: r.to.Status(), Order: r.writing, Placed: r.Report.placed}
		return r.from.CopyFiles(ctx, r.selection(), to, progress)
	}
	writing, err := r.to.UnpackFiles(ctx, r.writing, r.Report.placed)
	if err != nil {
		return files.Packed{}, files.Report{}, err
	}
	limited := transport.Limit(ctx, io.Discard, r.limit)
	var done, total int64
	packed, err := r.from.PackFiles(ctx, r.selection(), func(bytes int64) { total = bytes }, func(records []files.Record) error {
		for _, record := range records {
			done += int64(len(record.Content))
			if _, err := limited.Write(record.Content); err != nil {
				return err
			}
		}
		progress(done, total)
		return writing.Take(ctx, records)
	})
	did, endErr := writing.End(context.WithoutCancel(ctx), err == nil)
	if err == nil {
		err = endErr
	}
	return packed, did, err
}

// timeOf gives the time of a file for people.
func timeOf(t manifest.Time) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }
