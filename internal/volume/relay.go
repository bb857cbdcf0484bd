package volume

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// Relay is an engine.Source: a folder of backups of one source, which are sent on. They may be received subvolumes, or copies by rsync.
// Nothing is taken or deleted there, but what the next increment builds on is held by the ledger in the folder, as it is in that of
// any source: whoever deletes there leaves it alone.
type Relay struct {
	sender
	trees host.Trees
	state lock.State
	of    host.Origin   // what the backups are of
	known chan struct{} // closed when that is as known as it will be
	tell  func()        // closes it
}

var (
	_ engine.Source     = (*Relay)(nil)
	_ engine.History    = (*Relay)(nil)
	_ engine.Placed     = (*Relay)(nil)
	_ stream.Sender     = (*Relay)(nil)
	_ stream.Attributed = (*Relay)(nil)
)

// NewRelay names the folder at an absolute path. State remembers of what the backups are, for when the folder is away.
func NewRelay(h host.Trees, folderPath string, state lock.State, o Options) *Relay {
	r := &Relay{sender: sender{folder{host: h, path: path.Clean(folderPath), Options: o}}, trees: h, state: state, known: make(chan struct{})}
	r.tell = sync.OnceFunc(func() { close(r.known) })
	return r
}

// Open opens the folder.
func (r *Relay) Open(ctx context.Context) error {
	err := r.open(ctx, func(dir host.Status) error {
		if !dir.Btrfs && !r.SkipChecks {
			return hint.New(btrfs.ErrNotBtrfs, "backups are sent on from a btrfs; is its disk mounted?")
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = hint.New(err, "check the spelling; is its disk mounted? Nothing was created")
	}
	return r.named(err)
}

func (r *Relay) named(err error) error {
	if err != nil {
		err = fmt.Errorf("source %s: %w", r, hint.WithoutPath(err, r.path))
	}
	return err
}

// Omitted is nothing: backups are sent on as they are.
func (r *Relay) Omitted(context.Context) ([]string, error) { return nil, nil }

// Close closes the folder.
func (r *Relay) Close() error {
	r.tell()
	return r.folder.Close()
}

// Origin describes what the backups are of. Destinations may be asked at the same time: it waits until the folder was listed, or closed.
func (r *Relay) Origin() host.Origin {
	<-r.known
	if r.of.Source != "" {
		return r.of
	}
	source, _ := r.state.Relayed(r.String()) // which the error about the folder goes before
	return host.Origin{Origin: tree.Origin{Source: source}}
}

// List lists the backups. Those of several sources are refused.
func (r *Relay) List(ctx context.Context, ours func(string) bool) (engine.Snapshots, error) {
	defer r.tell()
	return r.list(ctx, ours)
}

func (r *Relay) list(ctx context.Context, ours func(string) bool) (engine.Snapshots, error) {
	found := engine.Snapshots{NoTake: r.noTake(), ReadOnly: errors.Is(r.near.CheckWritable(), unix.EROFS)}
	content, err := r.dir.List(ctx)
	if err != nil {
		return found, err
	}
	copied, err := r.copied(ctx, content)
	if err != nil {
		return found, err
	}
	shelf, err := r.shelfOf(content, copied, ours)
	if err != nil {
		return found, err
	}
	if len(shelf.backups) == 0 {
		return found, hint.New(fmt.Errorf("source %s: holds no backups that can be sent on", r), r.insteadOf(content, ours))
	}
	if err := shelf.check(r); err != nil {
		return found, err
	}
	r.of = host.Origin{Subvolume: shelf.sources[0], Origin: shelf.origin, Via: host.OriginOf(r.host, r.path).Source}
	found.Relayed = shelf.sources
	found.Of = btrfs.Subvolume{UUID: shelf.sources[0], ReadOnly: true, Created: shelf.backups[0].Created}
	found.Listing, found.InUse = content.Listing, content.InUse()
	found.InDirectory = shelf.backups
	found.Ledger, found.LedgerErr = host.ParseLedger(r.String(), content.Ledger, ours)
	return found, nil
}

func (r *Relay) noTake() error {
	return fmt.Errorf("source %s: is a folder of backups, and no snapshot is taken of it", r)
}

// insteadOf gives the way forward where there are no backups.
func (r *Relay) insteadOf(content host.Content, ours func(string) bool) string {
	for _, s := range content.InDirectory {
		if !s.ReadOnly || s.Received() {
			continue
		}
		if ours(s.Name) {
			return "these are snapshots: name the subvolume that they were taken of as SOURCE, without --relay"
		}
	}
	return "is its disk mounted? Names with a prefix need --snapshot-prefix"
}

// copied gives the records of copies by rsync, by the names of their subvolumes.
func (r *Relay) copied(ctx context.Context, content host.Content) (map[string]tree.Record, error) {
	if !slices.Contains(content.Others, tree.StateDir) {
		return nil, nil
	}
	folder, err := r.trees.OpenTrees(ctx, r.path, tree.OpenOptions{})
	if err != nil {
		return nil, r.named(err)
	}
	defer folder.Close()
	listed, err := folder.ListTrees(ctx)
	if err != nil {
		return nil, r.named(err)
	}
	records := make(map[string]tree.Record)
	for _, record := range listed.Backups {
		records[record.Name] = record
	}
	return records, nil
}

// A shelf are backups in the folder, and of what they are.
type shelf struct {
	backups []btrfs.Subvolume // of the source, the newest first
	sources []btrfs.UUID      // the source under all UUIDs, that of the newest backup first
	origin  tree.Origin       // the source
	others  []string          // further sources
	unknown []string          // backups of which nothing is on record, although there is of others
}

// shelfOf sorts the backups of a series. What is neither on record nor received is none.
func (r *Relay) shelfOf(content host.Content, copied map[string]tree.Record, ours func(string) bool) (s shelf, err error) {
	origins, about, err := content.Recorded(r.String())
	if err != nil {
		return s, err
	}
	var unrecorded []btrfs.Subvolume
	backups := slices.Clone(content.InDirectory)
	slices.SortFunc(backups, func(a, b btrfs.Subvolume) int { return kin.ByAge(b, a) })
	for _, b := range backups {
		record, isCopy := copied[b.Name]
		uuid := origins[b.ReceivedUUID]
		switch {
		case !b.ReadOnly || !ours(b.Name):
		case isCopy:
			s.add(b, uuidFor(record.Origin), record.Origin)
		case b.Received() && !uuid.IsZero():
			s.add(b, uuid, about.Sources[uuid].Origin)
		case b.Received():
			unrecorded = append(unrecorded, b)
		}
	}
	if len(s.backups) > 0 {
		for _, b := range unrecorded {
			s.unknown = append(s.unknown, b.Name)
		}
	} else if len(unrecorded) > 0 {
		s.backups, s.sources = unrecorded, []btrfs.UUID{derived("folder", r.near.DirID)}
	}
	if s.origin.Source == "" {
		s.origin = host.OriginOf(r.host, r.path)
	}
	return s, nil
}

// add adds a backup of a source. A source that was rolled back has another UUID and the same name.
func (s *shelf) add(b btrfs.Subvolume, source btrfs.UUID, origin tree.Origin) {
	switch {
	case len(s.backups) == 0:
		s.origin = origin
	case slices.Contains(s.sources, source):
	case origin.Source == "" || s.origin.Source == "" || !origin.Same(s.origin):
		name := origin.Source
		if name == "" {
			name = source.String()
		}
		if !slices.Contains(s.others, name) {
			s.others = append(s.others, name)
		}
		return
	}
	s.backups = append(s.backups, b)
	if !slices.Contains(s.sources, source) {
		s.sources = append(s.sources, source)
	}
}

// check refuses backups of several sources, and tells of those that are left out.
func (s *shelf) check(r *Relay) error {
	if len(s.others) > 0 {
		all := append([]string{s.origin.Source}, s.others...)
		return hint.New(fmt.Errorf("source %s: holds backups of several sources: %s", r, engine.Few(all)),
			"--snapshot-prefix chooses those of one, if their names differ; else give each source a folder of its own")
	}
	if len(s.unknown) > 0 {
		r.Log.Warn(fmt.Sprintf("%s: not sent on, since nothing tells of what they are backups: %s", r, engine.Few(s.unknown)))
	}
	return nil
}

// uuidFor gives a directory, which has none, a UUID that stays the same.
func uuidFor(o tree.Origin) btrfs.UUID {
	if o.Machine == "" {
		return derived("directory", o.Source)
	}
	return derived("directory", o.Machine, o.Path())
}

// derived gives a UUID of version 8, of what it is made of.
func derived(of ...any) (uuid btrfs.UUID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", of))
	copy(uuid[:], sum[:])
	uuid[6], uuid[8] = uuid[6]&0x0f|0x80, uuid[8]&0x3f|0x80
	return uuid
}

// Take takes none.
func (r *Relay) Take(context.Context, string) (btrfs.Subvolume, error) {
	return btrfs.Subvolume{}, r.noTake()
}

// Delete deletes nothing: whoever makes the backups does.
func (r *Relay) Delete(context.Context, []string) ([]string, error) {
	return nil, fmt.Errorf("source %s: is a folder of backups, and none is deleted in it", r)
}

// WriteLedger replaces the ledger.
func (r *Relay) WriteLedger(ctx context.Context, l *lock.Ledger) error {
	if err := r.state.SetRelayed(ctx, r.String(), r.of.Source); err != nil {
		r.Log.Debug(fmt.Sprintf("%s: of what the backups are cannot be remembered: %v", r, err))
	}
	return withHint(r.dir.WriteLedger(ctx, l.Marshal()), r.lacking(needToWrite))
}

// Link leaves the link to the newest alone: it is that of whoever makes the backups.
func (r *Relay) Link(context.Context, string, string) error { return nil }
