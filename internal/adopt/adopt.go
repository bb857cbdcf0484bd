// Package adopt lets a source go on with the history of others: of what it was before, on another disk, under another name or at
// another path. What it adopts counts as its own in retention; that nobody adopts what still lives is checked as far as it can be
// known, and a source that is backed up again after it was adopted is one of its own again.
package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Source is a subvolume or a directory that is to go on with a history.
type Source struct {
	host.Origin // the Subvolume is none for a directory
	host        host.Host
	path        string
	created     time.Time
	there       btrfs.Listing // its filesystem
}

// OpenSource describes the source at an absolute path.
func OpenSource(ctx context.Context, h host.Host, at string) (Source, error) {
	s := Source{host: h, path: path.Clean(at)}
	s.Origin.Origin = host.OriginOf(h, s.path)
	status, content, err := h.List(ctx, s.path)
	if err != nil {
		return s, fmt.Errorf("source %s: %w", s, hint.WithoutPath(err, s.path))
	}
	if !status.Btrfs || !status.IsRoot {
		return s, nil
	}
	if status.Subvolume.ReadOnly {
		return s, hint.New(fmt.Errorf("source %s: is a read-only snapshot", s), "name the subvolume that is backed up")
	}
	s.Subvolume, s.created, s.there = status.Subvolume.UUID, status.Subvolume.Created, content.Listing
	return s, nil
}

func (s Source) String() string { return s.host.String() + s.path }

// A History are the backups of one source in a folder.
type History struct {
	Of      string     `json:"of,omitempty"`         // the source, as far as that is known
	UUID    btrfs.UUID `json:"source_uuid,omitzero"` // none of a directory, or where none is on record
	Backups int        `json:"backups"`
	Oldest  time.Time  `json:"oldest,omitzero"`
	Newest  time.Time  `json:"newest,omitzero"`
	Name    string     `json:"newest_backup"` // of the newest
	Own     bool       `json:"own"`           // it counts as the source's already
	Adopted bool       `json:"adopted"`
	Doubt   string     `json:"doubt,omitempty"` // why it may be another source's
	Unnamed bool       `json:"-"`               // it is adopted only by its name, since nothing tells that it is the source's

	origin  tree.Origin
	backups []btrfs.UUID // received UUIDs of such whose source is not on record
	names   []string
	arrived time.Time // the newest
}

// LeastUUID is how many characters of a UUID mean it.
const LeastUUID = 8

// Is tells that the beginning of a source's UUID, its name or the name of a backup mean the history.
func (h History) Is(text string) bool {
	return text != "" && (text == h.Of || slices.Contains(h.names, text)) ||
		len(text) >= LeastUUID && strings.HasPrefix(h.UUID.String(), strings.ToLower(text))
}

// Options tell what is to be adopted.
type Options struct {
	Of     []string // see History.Is; none: the only one that there is
	Force  bool     // in spite of doubts
	DryRun bool
	Log    *slog.Logger
	// Folder is that of snapshots in a source, for a place that is one.
	Folder string
}

// A Report tells what a place holds, and what was adopted of it.
type Report struct {
	Place     string    `json:"place"`
	Source    string    `json:"source"`
	Histories []History `json:"histories"`
	DryRun    bool      `json:"dry_run,omitempty"`
}

// Adopted counts the backups that were.
func (r Report) Adopted() (backups int) {
	for _, h := range r.Histories {
		if h.Adopted {
			backups += h.Backups
		}
	}
	return backups
}

// In adopts what is in the folder at an absolute path. With an error, the report tells what there is, if that is known.
func (s Source) In(ctx context.Context, h host.Trees, at string, o Options) (r Report, err error) {
	r = Report{Place: h.String() + at, Source: s.String(), Histories: []History{}, DryRun: o.DryRun}
	release, err := s.lock(ctx, h, at, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	place, err := inventory.Look(ctx, h, at, o.Folder)
	if err != nil {
		return r, err
	}
	if r.Histories, err = s.histories(ctx, place); err != nil {
		return r, err
	}
	chosen, err := r.choose(o)
	if err != nil || len(chosen) == 0 || o.DryRun {
		return r, err
	}
	return r, s.record(ctx, place, chosen)
}

// lock keeps runs out, unless nothing is to be changed.
func (s Source) lock(ctx context.Context, h host.Host, at string, o Options) (release func() error, err error) {
	dir, err := h.Open(ctx, at)
	if err != nil || o.DryRun {
		if dir != nil {
			return dir.Close, err
		}
		return nil, err
	}
	_, err = dir.Lock(ctx, func(held *lock.HeldError) { o.Log.Info(fmt.Sprintf("%s%s: waiting for %s", h, at, held.Holder())) })
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir.Close, nil
}

// choose marks what is to be adopted.
func (r *Report) choose(o Options) (chosen []*History, err error) {
	others := 0
	for i := range r.Histories {
		h := &r.Histories[i]
		if h.Own {
			continue
		}
		others++
		if slices.ContainsFunc(o.Of, h.Is) || len(o.Of) == 0 {
			chosen = append(chosen, h)
		}
	}
	for _, of := range o.Of {
		if !slices.ContainsFunc(r.Histories, func(h History) bool { return h.Is(of) }) {
			return nil, hint.New(fmt.Errorf("%s: there are no backups of %q", r.Place, of),
				"--of takes a source or its UUID as --dry-run shows them, or the name of a backup")
		}
	}
	switch {
	case len(o.Of) == 0 && others > 1:
		return nil, hint.New(fmt.Errorf("%s holds backups of %s", r.Place, report.Count(others, "other source")),
			"choose by --of SOURCE, by its UUID, or by the name of a backup")
	case len(o.Of) == 0 && others == 1 && chosen[0].Unnamed && !o.Force:
		return nil, hint.Newf(fmt.Errorf("%s: nothing tells that %s is the source of %s", r.Place, r.Source, report.Count(chosen[0].Backups, "backup")),
			"if it is: --of %s", cmp.Or(chosen[0].Of, chosen[0].Name))
	}
	for _, h := range chosen {
		if h.Doubt != "" && !o.Force {
			return nil, hint.Newf(fmt.Errorf("%s: %s is another source: %s", r.Place, cmp.Or(h.Of, h.UUID.String(), h.Name), h.Doubt),
				"of two that live, each has its own history; --force takes them for one, and retention deletes as of one")
		}
	}
	for _, h := range chosen {
		h.Adopted = true
	}
	return chosen, nil
}

// record writes down what was chosen, the newest history last before the source's own.
func (s Source) record(ctx context.Context, place inventory.Place, chosen []*History) error {
	slices.SortFunc(chosen, func(a, b *History) int { return b.Newest.Compare(a.Newest) })
	c := host.Continuation{Source: s.Origin}
	var trees []tree.Origin
	for _, h := range chosen {
		switch {
		case h.origin != (tree.Origin{}):
			trees = append(trees, h.origin)
		case h.UUID.IsZero():
			c.Backups = append(c.Backups, h.backups...)
		default:
			c.Older = append(c.Older, h.UUID)
		}
	}
	if len(c.Older) > 0 || len(c.Backups) > 0 {
		dir, err := place.Host.Open(ctx, place.Path)
		if err != nil {
			return err
		}
		if err := errors.Join(dir.Continue(ctx, c), dir.Close()); err != nil {
			return err
		}
	}
	if len(trees) == 0 {
		return nil
	}
	dir, err := place.Host.OpenTrees(ctx, place.Path, tree.OpenOptions{})
	if err != nil {
		return err
	}
	return errors.Join(dir.ContinueTrees(ctx, s.Origin.Origin, trees), dir.Close())
}
