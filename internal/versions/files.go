package versions

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/past"

	"golang.org/x/sys/unix"
)

// An At is an absolute path on a machine.
type At struct {
	Host host.Trees
	Path string
}

func (a At) String() string { return engine.PlaceName(a.Host.String() + a.Path) }

// A Known source was backed up.
type Known struct {
	Source       At
	Destinations []string
}

// A Search looks for versions of a file.
type Search struct {
	File           At
	SnapshotFolder string
	Known          []Known                        // sources on record
	Resolve        func(place string) (At, error) // what the text of a destination means
	Places         []string                       // folders of backups to look into, in place of those on record
}

// A side is a folder of snapshots or backups that is looked into.
type side struct {
	at    At
	paths []string // what the file may be in them
	name  string   // as people know it

	place inventory.Place
	times map[string]time.Time // of what is in it
	found []past.Version
	err   error
}

// Files finds the versions of a file. An error of a place that cannot be looked into is joined, and stops no other.
func (s Search) Files(ctx context.Context) (Versions, error) {
	began := time.Now()
	v := Versions{File: s.File.String()}
	sides, err := s.sides(ctx, &v)
	if err != nil {
		return Versions{}, err
	}
	var looking sync.WaitGroup
	for _, one := range sides {
		looking.Go(func() { one.err = one.look(ctx, s.SnapshotFolder) })
	}
	looking.Wait()
	var failures []error
	for _, one := range sides {
		if one.err != nil {
			failures = append(failures, hint.New(fmt.Errorf("not looked into: %w", one.err), "the other places were; is a disk to be mounted?"))
			continue
		}
		v.Looked++
		failures = append(failures, v.add(one)...)
	}
	v.sort()
	if len(v.Versions) > 0 && v.Versions[0].Type == manifest.Directory {
		return Versions{}, hint.New(fmt.Errorf("%s is a directory", s.File), "name a file in it; `btrfs-backup diff` shows what changed in a directory")
	}
	v.Took = time.Since(began)
	return v, errors.Join(failures...)
}

// look lists a folder, and looks into all that is in it.
func (o *side) look(ctx context.Context, snapshotFolder string) (err error) {
	if o.place.Path == "" {
		if o.place, err = inventory.Look(ctx, o.at.Host, o.at.Path, snapshotFolder); err != nil {
			return err
		}
	}
	o.name = o.place.Folder
	entries := o.place.Entries("")
	entries = slices.DeleteFunc(entries, func(e inventory.Entry) bool { return e.Kind != inventory.Snapshot && e.Kind != inventory.Backup })
	slices.SortStableFunc(entries, func(a, b inventory.Entry) int { return b.Time.Compare(a.Time) })
	names := make([]string, len(entries))
	o.times = make(map[string]time.Time)
	for i, e := range entries {
		names[i], o.times[e.Name] = e.Name, e.Time
	}
	dir, err := o.place.Host.Open(ctx, o.place.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, p := range o.candidates() {
		if o.found, err = dir.Versions(ctx, past.Order{Names: names, Path: p}); err != nil || len(o.found) > 0 {
			break
		}
	}
	return err
}

// candidates gives the paths that the file may have in what the folder holds. Copies of directories tell of which they are.
func (o *side) candidates() []string {
	var paths []string
	for _, r := range slices.Backward(o.place.Trees.Backups) {
		_, root, _ := strings.Cut(r.Source, ":")
		if rel, ok := below(root, o.paths[0]); ok && !slices.Contains(paths, rel) {
			paths = append(paths, rel)
		}
	}
	for _, p := range o.paths[1:] {
		if !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths
}

// below gives a path relative to a directory above it.
func below(dir, p string) (rel string, ok bool) {
	if dir == "" || !path.IsAbs(dir) {
		return "", false
	}
	rel, ok = strings.CutPrefix(p, strings.TrimSuffix(path.Clean(dir), "/")+"/")
	return rel, ok && rel != ""
}

// sides gives the folders to look into. The first of the paths in each is the absolute one.
func (s Search) sides(ctx context.Context, v *Versions) ([]*side, error) {
	if found, within, err := s.inBackup(ctx); err != nil || found.IsVersion() {
		if err != nil {
			return nil, err
		}
		if within == "" {
			return nil, hint.Newf(fmt.Errorf("%s is no file", s.File), "name a file in it: btrfs-backup versions %s/FILE", s.File)
		}
		sides := []*side{{at: At{found.Host, found.Folder}, paths: []string{"", within}}}
		return s.withPlaces(sides, []string{"", within}, v)
	}
	source, content := s.subvolume(ctx)
	paths, destinations := []string{s.File.Path}, []string{}
	var sides []*side
	if source != "" {
		rel, _ := below(source, s.File.Path)
		paths = append(paths, rel)
		if content.Path != source && content.Path != "" {
			sides = append(sides, &side{at: At{s.File.Host, content.Path}, paths: paths, place: content})
		}
		ledger, err := host.ParseLedger(content.Folder, content.Ledger, func(string) bool { return true })
		for _, snapshot := range content.InDirectory {
			if err != nil {
				break
			}
			for _, hold := range ledger.Holds(snapshot.Name) {
				destinations = append(destinations, hold.Destination)
			}
		}
	}
	for _, k := range s.Known {
		if rel, ok := below(k.Source.Path, s.File.Path); ok && k.Source.Host == s.File.Host {
			destinations = append(destinations, k.Destinations...)
			paths = append(paths, rel)
		}
	}
	if len(s.Places) == 0 {
		slices.Sort(destinations)
		s.Places = slices.Compact(destinations)
	}
	for _, one := range sides {
		one.paths = paths
	}
	return s.withPlaces(sides, paths, v)
}

// withPlaces adds the places that were named, or are on record, each once, and notes those that cannot be looked into.
func (s Search) withPlaces(sides []*side, paths []string, v *Versions) ([]*side, error) {
	for _, text := range slices.Compact(s.Places) {
		at, err := s.Resolve(text)
		if err != nil {
			v.Closed = append(v.Closed, engine.PlaceName(err.Error()))
			continue
		}
		if !slices.ContainsFunc(sides, func(o *side) bool { return o.at == at }) {
			sides = append(sides, &side{at: at, paths: paths})
		}
	}
	if len(sides) == 0 {
		err := fmt.Errorf("%s: no snapshots or backups of it are on record", s.File)
		for _, closed := range v.Closed {
			err = fmt.Errorf("%w; not looked into: %s", err, closed)
		}
		return nil, hint.New(err, "name the folders of backups to look into")
	}
	return sides, nil
}

// inBackup tells whether the file is named in a snapshot or backup, where it need not be any more.
func (s Search) inBackup(ctx context.Context) (found inventory.Found, within string, err error) {
	rest := ""
	for at := s.File.Path; ; at = path.Dir(at) {
		found, err = inventory.Find(ctx, s.File.Host, at, s.SnapshotFolder)
		if err == nil {
			return found, path.Join(found.Within, rest), nil
		}
		isPath := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, fs.ErrPermission)
		if !isPath || at == "/" {
			return found, "", err
		}
		rest = path.Join(path.Base(at), rest)
	}
}

// subvolume gives the path of the subvolume that the file is, or was, in, and what is in its snapshot folder; "" without one.
func (s Search) subvolume(ctx context.Context) (source string, content inventory.Place) {
	for at := path.Dir(s.File.Path); ; at = path.Dir(at) {
		dir, err := s.File.Host.Open(ctx, at)
		if err == nil {
			isRoot := dir.Status().IsRoot
			dir.Close()
			if isRoot {
				content, _ = inventory.Look(ctx, s.File.Host, at, s.SnapshotFolder)
				return at, content
			}
		}
		if at == "/" {
			return "", inventory.Place{}
		}
	}
}
