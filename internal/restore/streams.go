package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/chain"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/internal/volume"
)

// Streams are what a subvolume is restored from in place of a backup.
type Streams struct {
	Inputs []*chain.Input
	Until  time.Time // the newest snapshot that is not younger; zero: the newest
	// Keep leaves the snapshots of all streams that were needed in the directory that is the target, and makes no subvolume.
	Keep bool
	// Backup and Destination name what the streams are kept as and where, if that is a destination of backups.
	Backup, Destination string
	// Planned is told what is to be received, when nothing speaks against it and before anything is made. Its error is the end.
	Planned func(ctx context.Context, way []chain.Link) error
}

// A Received is a stream that was received, or would be.
type Received struct {
	Snapshot string        `json:"snapshot"`
	From     string        `json:"from"`             // the input
	Parent   string        `json:"parent,omitempty"` // none: a complete copy
	Bytes    int64         `json:"bytes"`
	Duration time.Duration `json:"nanoseconds"`
}

// fromStreams is an order that streams are there for.
type fromStreams struct {
	*run
	Streams
	links []chain.Link
	way   []chain.Link // what is to be received
	want  chain.Link   // the last one
	made  []string     // names of what was received
	there btrfs.Listing
}

// RunStreams restores a subvolume from streams. All first commands are read, and all that is missing is told, before anything is made. What
// a snapshot is built upon is received first, under a hidden name that it loses when the last one was received. An order that was
// interrupted goes on with the streams that it lacks.
func RunStreams(ctx context.Context, o Order, s Streams) (*Report, error) {
	r := &fromStreams{run: &run{Order: o}, Streams: s}
	r.report = Report{DryRun: o.DryRun, Target: engine.PlaceName(o.To.String() + o.Target), target: o.Target, option: o.SnapshotFolder, only: s.Keep,
		Backup: s.Backup, folder: s.Destination}
	defer r.place.close()
	defer chain.Close(s.Inputs)
	var err error
	if r.links, err = chain.Heads(ctx, s.Inputs); err != nil {
		return &r.report, err
	}
	if err := r.look(ctx); err != nil {
		return &r.report, err
	}
	if err := r.rehearse(ctx); err != nil || o.DryRun {
		return &r.report, err
	}
	return &r.report, r.do(ctx)
}

// look opens the target and finds which streams it needs.
func (r *fromStreams) look(ctx context.Context) error {
	if err := r.openPlace(ctx); err != nil {
		return err
	}
	var uuids []btrfs.UUID
	for _, l := range r.links {
		uuids = append(uuids, l.UUID, l.Parent)
	}
	found, err := r.place.target.Relatives(ctx, uuids)
	if err != nil {
		return err
	}
	r.place.free, r.place.all, r.there = found.Free, found.All, found.Listing
	r.there.InDirectory = r.there.All // whatever directory it lies in
	finder := copies.New(nil, r.there)
	at := r.place.target.Status().DirID
	has := func(s btrfs.Subvolume) bool {
		return slices.ContainsFunc(finder.Of(s), func(c btrfs.Subvolume) bool { return !r.Keep || c.Container == at.Subvolume && c.DirID == at.Inode })
	}
	r.way, err = chain.Plan(r.Inputs, r.links, r.Until, has, has)
	var missing *chain.MissingError
	if errors.As(err, &missing) {
		missing.Name = r.nameOf(missing.UUID)
	}
	if err != nil {
		return err
	}
	r.wants(r.way[len(r.way)-1])
	return nil
}

// wants finds what there is of the snapshot that a stream is of.
func (r *fromStreams) wants(l chain.Link) {
	r.want, r.report.Snapshot, r.report.Kept = l, l.Name, true
	r.of = l.Origin()
	r.present = copies.New(nil, r.there).Of(l.Snapshot())
	slices.SortFunc(r.present, kin.ByAge)
	if r.report.planned(r.present, nil); len(r.present) > 0 && !r.Keep {
		r.way = nil
	}
	r.report.Streams = nil
	for _, l := range r.way {
		r.report.Streams = append(r.report.Streams, Received{Snapshot: l.Name, From: l.Title(), Parent: r.parentOf(l), Bytes: l.AtLeast()})
	}
}

func (r *fromStreams) openPlace(ctx context.Context) (err error) {
	if !r.Keep {
		return r.place.open(ctx, r.Order)
	}
	r.place.close()
	r.place = place{receive: r.Target}
	if r.place.target, err = r.To.Open(ctx, r.Target); err != nil {
		return fmt.Errorf("target %s: %w", r.report.Target, hint.New(hint.WithoutPath(err, r.Target), "--keep-chain needs a directory: mkdir "+r.Target))
	}
	if err := r.place.check(r.place.target.Status(), asFiles(r.Order)); err != nil {
		return fmt.Errorf("target %s: %w", r.report.Target, hint.WithoutPath(err, r.Target))
	}
	return nil
}

// nameOf gives the name of a snapshot that is known by its UUID alone.
func (r *fromStreams) nameOf(uuid btrfs.UUID) string {
	for _, s := range r.there.All {
		if s.Identity() == uuid || s.UUID == uuid {
			return s.Name
		}
	}
	return ""
}

// parentOf names what a stream is built upon.
func (r *fromStreams) parentOf(l chain.Link) string {
	if l.Full() {
		return ""
	}
	for _, other := range slices.Concat(r.way, r.links) {
		if other.UUID == l.Parent {
			return other.Name
		}
	}
	if name := r.nameOf(l.Parent); name != "" {
		return name
	}
	return l.Parent.String()
}

// rehearse refuses what cannot be done.
func (r *fromStreams) rehearse(ctx context.Context) error {
	var least int64
	for _, l := range r.way {
		least += l.AtLeast()
	}
	if uint64(least) > r.place.free {
		err := fmt.Errorf("target %s: at least %s are to come, and %s are free", r.report.Target, progress.Bytes(least), progress.Bytes(int64(r.place.free)))
		return hint.New(hint.WithErrno(err, syscall.ENOSPC), "make room there, or choose another target")
	}
	if !r.Keep {
		if err := r.replace(ctx, true); err != nil {
			return err
		}
	}
	if r.Planned != nil {
		return r.Planned(ctx, r.way)
	}
	return nil
}

func (r *fromStreams) do(ctx context.Context) error {
	if r.place.resumes {
		if done, err := r.goOn(ctx, r.isDone); done || err != nil {
			return err
		}
	}
	unlock, err := r.lockTarget(ctx, r.look)
	if err != nil {
		return err
	}
	if err = r.look(ctx); err == nil { // now that nobody else works there
		err = r.fetch(ctx)
	}
	if err == nil && !r.Keep {
		r.receivedAttributes(ctx)
		err = r.put(ctx)
	}
	unlock()
	if r.Keep {
		return err
	}
	return r.ended(ctx, err)
}

// receivedAttributes finds what chattr had set of files, as it came with the streams.
func (r *fromStreams) receivedAttributes(ctx context.Context) {
	if r.Destination == "" || len(r.present) == 0 {
		return
	}
	in := volume.NewBackups(r.To, r.place.receive, volume.Options{Log: r.Log})
	defer in.Close()
	err := in.Open(ctx)
	var found host.Content
	if err == nil {
		found, err = in.List(ctx)
	}
	isIn := slices.ContainsFunc(found.InDirectory, func(s btrfs.Subvolume) bool { return s.UUID == r.present[0].UUID })
	switch {
	case err != nil:
	case isIn:
		r.attributes, err = in.AllAttributes(ctx, r.present[0].Name)
	default:
		r.attributes, err = r.want.AllAttributes(ctx)
	}
	if err != nil && ctx.Err() == nil {
		r.Log.Warn(fmt.Sprintf("%s: what chattr had set of files is not known: %v", r.report.Backup, err))
	}
}

// isDone is run.isDone for streams.
func (r *fromStreams) isDone(_ context.Context, of btrfs.UUID) (bool, error) {
	return slices.ContainsFunc(r.present, func(s btrfs.Subvolume) bool { return s.UUID == of }), nil
}

// fetch receives what is missing. In an input there may be more streams behind that one which was known: such that go on belong to it.
func (r *fromStreams) fetch(ctx context.Context) error {
	to := volume.NewDestination(r.To, r.place.receive, nil, volume.Options{Log: r.Log, Limit: r.RateLimit, Progress: r.Progress})
	if err := to.Open(ctx); err != nil {
		return err
	}
	defer to.Close()
	if err := r.clean(ctx, to); err != nil {
		return err
	}
	if len(r.way) == 0 {
		r.way = []chain.Link{r.want}
	}
	r.report.Streams = nil
	for i := 0; i < len(r.way); i++ {
		last := i == len(r.way)-1
		behind, err := r.receive(ctx, r.way[i], to, last)
		if err != nil {
			return err
		}
		switch {
		case behind == nil || !last:
		case behind.Parent != r.want.UUID || !r.Until.IsZero() && behind.Time().After(r.Until):
			r.Log.Warn(fmt.Sprintf("%s: behind %s it holds another stream, of %s, which is not restored", behind.Title(), r.want.Name, progress.Name(behind.Name)))
		default:
			r.way, r.want, r.report.Snapshot = append(r.way, *behind), *behind, behind.Name
		}
	}
	if r.Keep {
		return nil
	}
	return r.dropChain(ctx, to)
}

// receive receives a stream unless it is there, the last one under its own name, and gives the one behind it in its input.
func (r *fromStreams) receive(ctx context.Context, l chain.Link, to *volume.Destination, last bool) (behind *chain.Link, err error) {
	found, err := to.List(ctx)
	if err != nil {
		return nil, err
	}
	has := copies.New(nil, found.Listing).Of(l.Snapshot())
	if last && len(has) == 0 && !r.Keep {
		has = copies.New(nil, r.there).Of(l.Snapshot())
	}
	if len(has) > 0 {
		if r.present = has; !last || !r.place.resumes {
			return nil, nil
		}
		return l.Behind()
	}
	t := engine.Transfer{Snapshot: l.Snapshot(), Parent: l.Base(), Started: r.Now()}
	if t.Parent != nil {
		t.Parent.Name = r.parentOf(l)
	}
	from, started := &chain.Sender{Link: l}, time.Now()
	target := &hidden{target: target{to, r.report.Target}, last: last || r.Keep}
	result, err := stream.Course{From: from, To: target, Log: r.Log, Progress: r.Progress, Doing: receiving}.Save(ctx, t)
	if err != nil {
		return nil, r.noRoom(err)
	}
	r.report.Streams = append(r.report.Streams, Received{Snapshot: l.Name, From: l.Title(), Parent: t.ParentName(), Bytes: result.Bytes, Duration: time.Since(started)})
	r.report.Bytes += result.Bytes
	r.report.Wire += result.Wire
	r.present, r.made = []btrfs.Subvolume{result.Backup}, append(r.made, l.Name)
	return from.Behind, nil
}

// hiddenEnd ends the hidden names of snapshots that others are built upon.
const hiddenEnd = ".chain"

func hiddenName(name string) string { return "." + name + hiddenEnd }

// hidden receives under hidden names.
type hidden struct {
	target
	last bool
}

func (h *hidden) Receive(ctx context.Context, t stream.Transfer) (stream.Receiver, error) {
	if !h.last {
		t.Snapshot.Name = hiddenName(t.Snapshot.Name)
	}
	return h.target.Receive(ctx, t)
}

// clean deletes what an earlier attempt received in part.
func (r *fromStreams) clean(ctx context.Context, to *volume.Destination) error {
	found, err := to.List(ctx)
	if err != nil {
		return err
	}
	var left []string
	for _, s := range found.InDirectory {
		if slices.ContainsFunc(r.way, func(l chain.Link) bool {
			return s.Name == btrfs.Incoming(l.Name) || s.Name == btrfs.Incoming(hiddenName(l.Name))
		}) {
			left = append(left, s.Name)
		}
	}
	_, err = to.Delete(ctx, left)
	return err
}

// dropChain deletes what the last one was built upon, if it was received for it.
func (r *fromStreams) dropChain(ctx context.Context, to *volume.Destination) error {
	found, err := to.List(ctx)
	if err != nil {
		return err
	}
	isOurs := func(name string) bool { return !r.InPlace && r.place.folder != "" || slices.Contains(r.made, name) }
	var names []string
	for _, s := range found.InDirectory {
		if slices.ContainsFunc(slices.Concat(r.way, r.links), func(l chain.Link) bool {
			return l.UUID != r.want.UUID && s.ReceivedUUID == l.UUID && (s.Name == hiddenName(l.Name) || s.Name == l.Name && isOurs(l.Name))
		}) {
			names = append(names, s.Name)
		}
	}
	_, err = to.Delete(ctx, names)
	return err
}
