package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/ladder"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/volume"
)

// plan finds what the target's filesystem has already, and what else can be built upon there.
func (r *run) plan(ctx context.Context) error {
	there, err := r.place.target.Relatives(ctx, r.identities())
	if err != nil {
		return err
	}
	r.place.free, r.place.all = there.Free, there.All
	all := there.Listing
	all.InDirectory = all.All // whatever directory it lies in
	here := r.source.At().Filesystem == r.place.target.Status().DirID.Filesystem
	if here {
		r.present = slices.DeleteFunc(slices.Clone(all.All), func(s btrfs.Subvolume) bool { return s.UUID != r.backup.UUID })
	} else {
		r.present = copies.New(r.holds.All, all).Of(r.backup)
	}
	r.preferReceived(ctx)
	p := plan.Planner{History: true, Snapshots: plan.Side{Listing: r.holds.Listing}, Backups: plan.Side{Listing: all}}
	r.bases = p.Bases(r.backup)
	return nil
}

// preferReceived puts those first that are in the snapshot folder already, or were received for it.
func (r *run) preferReceived(ctx context.Context) {
	r.report.Kept = len(r.present) == 0
	slices.SortFunc(r.present, kin.ByAge)
	var folders []btrfs.DirID
	for _, folder := range []string{r.place.receive, path.Join(r.Target, r.place.folder)} {
		if dir, err := r.To.Open(ctx, folder); err == nil {
			folders = append(folders, dir.Status().DirID)
			_ = dir.Close()
		}
	}
	isIn := func(s btrfs.Subvolume) bool {
		return slices.ContainsFunc(folders, func(at btrfs.DirID) bool { return s.Container == at.Subvolume && s.DirID == at.Inode })
	}
	r.report.Kept = len(r.present) == 0 || slices.ContainsFunc(r.present, isIn)
	if r.report.holder = ""; len(r.present) > 0 && r.present[0].UUID == r.backup.UUID && r.source != nil {
		r.report.holder = r.Backup.Folder
	}
	slices.SortStableFunc(r.present, func(a, b btrfs.Subvolume) int {
		switch {
		case isIn(a) == isIn(b):
			return 0
		case isIn(a):
			return -1
		}
		return 1
	})
}

// destination is where the copy is received.
func (r *run) destination() *target {
	to := volume.NewDestination(r.To, r.place.receive, r.source, volume.Options{Log: r.Log, Limit: r.RateLimit, Progress: r.Progress})
	return &target{to, r.report.Target}
}

// A target is a volume.Destination by the name that people know.
type target struct {
	*volume.Destination
	name string
}

func (t *target) String() string { return t.name }

// transfer is what is to be sent, upon the best base.
func (r *run) transfer() engine.Transfer {
	t := engine.Transfer{Snapshot: r.backup, Started: r.Now()}
	if len(r.bases) > 0 {
		t.Parent = &r.bases[0]
	}
	return t
}

func (r *run) measure(ctx context.Context) (progress.Total, error) {
	return r.source.Measure(ctx, stream.Transfer{Transfer: r.transfer(), Format: receive.Format})
}

// checkSpace refuses what will not fit.
func (r *run) checkSpace(ctx context.Context) error {
	if len(r.present) > 0 {
		return nil
	}
	total, err := r.measure(ctx)
	if err != nil {
		return err
	}
	r.report.Bytes, r.report.AtMost = total.Bytes, total.AtMost
	if uint64(total.Bytes) <= r.place.free {
		return nil
	}
	what := fmt.Sprintf("target %s: %s are to come, and %s are free", r.report.Target, progress.Bytes(total.Bytes), progress.Bytes(int64(r.place.free)))
	if total.AtMost { // what is compressed at the backup comes compressed
		r.Log.Warn(what + ": it fits only if it is compressed that much")
		return nil
	}
	return hint.New(hint.WithErrno(errors.New(what), syscall.ENOSPC), "make room there: delete what is not needed, or choose another target")
}

// lockTarget makes the directory in which the copy is received, and keeps other runs out of it. If another one put something else in
// the place of the target meanwhile, all is looked at anew.
func (r *run) lockTarget(ctx context.Context, look func(context.Context) error) (release func(), err error) {
	const most = 5
	for attempt := 1; ; attempt++ {
		if err := r.To.MkdirAll(ctx, r.place.receive); err != nil {
			return nil, err
		}
		if release, err = r.lockReceived(ctx); err != nil {
			return nil, err
		}
		same, err := r.isSame(ctx)
		if err == nil && same {
			return release, nil
		}
		release()
		if err == nil && attempt == most {
			err = fmt.Errorf("target %s: it is replaced again and again", r.report.Target)
		}
		if err == nil {
			err = look(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
}

// isSame tells that the paths lead to what was looked at, and locked.
func (r *run) isSame(ctx context.Context) (bool, error) {
	same, err := r.leadsTo(ctx, r.place.receive, r.place.locked)
	if err != nil || !same || r.place.target == nil {
		return same, err
	}
	target := r.place.target.Status()
	return r.leadsTo(ctx, target.Path, target.DirID)
}

func (r *run) leadsTo(ctx context.Context, at string, id btrfs.DirID) (bool, error) {
	dir, err := r.To.Open(ctx, at)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return dir.Status().DirID == id, dir.Close()
}

// lockReceived locks the directory in which the copy is received, unless the backup is from there.
func (r *run) lockReceived(ctx context.Context) (release func(), err error) {
	dir, err := r.To.Open(ctx, r.place.receive)
	if err != nil {
		return nil, err
	}
	r.place.locked = dir.Status().DirID
	if r.source != nil && r.source.At().Machine == r.To.String() && r.source.At().DirID == dir.Status().DirID {
		return func() {}, dir.Close()
	}
	unlock, err := r.Lock(ctx, named(r.report.Target), dir, !r.NoWait)
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return func() {
		unlock()
		_ = dir.Close()
	}, nil
}

// receiving is what a restore does, as people see it.
const receiving = "receiving"

type named string

func (n named) String() string { return string(n) }

// goOn ends what an earlier attempt began. It gives true if that was the whole order, as isDone tells by what was put in place.
func (r *run) goOn(ctx context.Context, isDone func(context.Context, btrfs.UUID) (bool, error)) (done bool, err error) {
	unlock, err := r.lockReceived(ctx)
	switch {
	case err == nil:
		defer unlock()
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	did, err := r.place.target.Replace(ctx, r.order())
	if err != nil || !did.Resumed {
		return false, err
	}
	r.Log.Info(fmt.Sprintf("%s: an earlier restore was interrupted, and is finished now", r.report.Target))
	done, err = isDone(ctx, did.Of)
	if !done {
		r.Log.Info(fmt.Sprintf("%s: that one was of another backup; now %s is restored", r.report.Target, r.report.Backup))
		return false, err
	}
	r.report.Replace = did
	return true, r.remember(ctx)
}

// isDone tells that what an earlier attempt put in place is of the wanted version.
func (r *run) isDone(ctx context.Context, of btrfs.UUID) (bool, error) {
	if of.IsZero() {
		return false, nil
	}
	if err := r.plan(ctx); err != nil {
		return false, err
	}
	i := slices.IndexFunc(r.present, func(s btrfs.Subvolume) bool { return s.UUID == of })
	if i < 0 {
		return false, nil
	}
	r.present = r.present[i : i+1]
	r.report.planned(r.present, nil)
	return true, nil
}

// fetch brings the wanted version to the target's filesystem, unless it is there.
func (r *run) fetch(ctx context.Context) error {
	r.report.planned(r.present, r.bases)
	if len(r.present) > 0 {
		return nil
	}
	to := r.destination()
	if err := to.Open(ctx); err != nil {
		return err
	}
	defer to.Close()
	if err := r.clean(ctx, to); err != nil {
		return err
	}
	r.source.SetOrigin(r.origin())
	course := stream.Course{From: r.source, To: to, Log: r.Log, Progress: r.Progress, Doing: receiving}
	started := time.Now()
	err := ladder.Climb(ctx, r.Log, r.transfer(), r.bases, func(t engine.Transfer) error {
		t.Started = r.Now()
		result, err := course.Save(ctx, t)
		if err == nil {
			r.report.Bytes = result.Bytes
		}
		r.report.Parent, r.report.Wire, r.report.Duration = t.ParentName(), result.Wire, time.Since(started)
		r.report.Resumed += result.Resumed
		if err == nil {
			r.present = []btrfs.Subvolume{result.Backup}
			return nil
		}
		if errors.Is(err, fs.ErrExist) {
			err = hint.New(err, "move it away or rename it, or keep the copy elsewhere with --snapshot-folder")
		}
		return err
	})
	return r.noRoom(err)
}

// noRoom tells what helps where the target's filesystem is full: it is no destination, whose old backups could go.
func (r *run) noRoom(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	needed := ""
	if r.report.Bytes > 0 {
		needed = "; " + progress.Bytes(r.report.Bytes) + " are to come"
	}
	return hint.Newf(err, "make room at %s: the same command goes on%s; or restore to another disk", path.Dir(r.report.Target), needed)
}

// clean deletes what an earlier attempt left unfinished, which nobody sends to any more.
func (r *run) clean(ctx context.Context, to *target) error {
	found, err := to.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range found.InDirectory {
		if s.Name == btrfs.Incoming(r.backup.Name) {
			_, err := to.Delete(ctx, []string{s.Name})
			return err
		}
	}
	return nil
}

// origin tells of what the backup is, as far as it is known.
func (r *run) origin() host.Origin {
	if r.source == nil {
		return r.of
	}
	origins, about, err := r.holds.RecordedOwn(r.source.String())
	if err != nil {
		r.Log.Warn(err.Error())
	}
	of := host.Origin{Subvolume: origins[r.backup.ReceivedUUID]}
	of.Origin = tree.Origin(about.Sources[of.Subvolume].Origin)
	return of
}

// put lets the target be a writable snapshot of what came back.
func (r *run) put(ctx context.Context) error {
	if err := r.replace(ctx, false); err != nil {
		return err
	}
	r.Log.Debug(fmt.Sprintf("%s is a snapshot of %s", path.Base(r.Target), r.present[0].Name))
	return r.remember(ctx)
}
