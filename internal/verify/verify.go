// Package verify compares backups with what they were when they were made, and with what they are copies of, on any host. Only manifests
// travel between machines. It changes no backup; what it could not read it never passes.
package verify

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/set"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// A Place is a backup, a snapshot or a directory.
type Place struct {
	Host host.Trees
	Path string // absolute
}

func (p Place) String() string { return p.Host.String() + p.Path }

// meant gives the backup, snapshot or set that a path means. Of any other path, whoever reads it tells what it is.
func (p Place) meant(ctx context.Context) (Place, error) {
	found, err := inventory.Find(ctx, p.Host, p.Path, host.SnapshotFolder)
	if err == nil && found.IsVersion() {
		p.Path = path.Join(found.Path(), found.Within)
	}
	return p, err
}

// Options tell how backups are verified.
type Options struct {
	Fast bool
	Part tree.Part
}

// A Result is what came of one backup.
type Result struct {
	Backup      string            `json:"backup"`
	Against     string            `json:"against,omitempty"` // what it was compared with, if that is no manifest
	Read        Reading           `json:"read"`
	Since       string            `json:"since,omitempty"` // the verified backup that holds what was not read
	Part        string            `json:"part,omitempty"`
	Basis       tree.Basis        `json:"compared_with,omitempty"`
	NotKept     string            `json:"manifest_not_kept,omitempty"` // why
	Files       int64             `json:"files"`
	Bytes       int64             `json:"bytes_read"`
	Digest      string            `json:"digest,omitempty"` // of all that was compared with Against
	Differences []tree.Difference `json:"differences"`
	Stored      bool              `json:"stored,omitempty"`   // in a store: Objects, and no files, were compared
	Objects     int               `json:"objects,omitempty"`  // that were compared
	Unproved    int               `json:"unproved,omitempty"` // objects of which the store tells no checksum
	Lost        []string          `json:"lost,omitempty"`     // backups that build on this one, and cannot be restored without it
	Failure     *engine.Failure   `json:"failure,omitempty"`

	doubtful bool // what differs may be another thing than the backup
}

// A Reading is how much of the contents was read.
type Reading string

// The readings.
const (
	All     Reading = "all"
	Changes Reading = "changes"
	Part    Reading = "part"
	Nothing Reading = "attributes"
)

// A Watcher is told of what goes on, by one goroutine at a time.
type Watcher interface {
	// Begin begins to read what has that name. Of how far it is, progress is told, in bytes.
	Begin(ctx context.Context, name string) (progress func(read, total int64), end func())
	Found(tree.Difference)
	Done(Result)
}

// Backups verifies what places stand for: a backup, those of a set, or those of all sets in a folder. Of a backup that cannot be
// verified the result has the failure; the error is the end of the context.
func Backups(ctx context.Context, places []Place, o Options, w Watcher) ([]Result, error) {
	all := []Result{}
	for _, p := range places {
		backups, err := backupsAt(ctx, p)
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
		if err != nil {
			r := Result{Backup: p.String(), Differences: []tree.Difference{}}.failed(err)
			w.Done(r)
			all = append(all, r)
			continue
		}
		for _, backup := range backups {
			r := one(ctx, backup, o.verifyOptions(), w)
			if ctx.Err() != nil {
				return all, context.Cause(ctx)
			}
			w.Done(r)
			all = append(all, r)
		}
	}
	return all, nil
}

// backupsAt gives what a place stands for.
func backupsAt(ctx context.Context, p Place) (all []Place, err error) {
	p, err = p.meant(ctx)
	if err != nil {
		return nil, err
	}
	backups, err := set.Backups(ctx, p.Host, p.Path)
	for _, backup := range backups {
		all = append(all, Place{p.Host, backup})
	}
	return all, err
}

func (o Options) verifyOptions() tree.VerifyOptions {
	return tree.VerifyOptions{Fast: o.Fast, Part: o.Part}
}

// one verifies a backup.
func one(ctx context.Context, backup Place, o tree.VerifyOptions, w Watcher) Result {
	r := Result{Backup: backup.String(), Differences: []tree.Difference{}}
	dir, err := backup.Host.Open(ctx, path.Dir(backup.Path))
	if err != nil {
		return r.failed(err)
	}
	defer dir.Close()
	progress, end := w.Begin(ctx, r.Backup)
	v, err := dir.VerifyTree(ctx, path.Base(backup.Path), o, func(d tree.Difference) {
		r.Differences = append(r.Differences, d)
		w.Found(d)
	}, progress)
	end()
	if errors.Is(err, tree.ErrNoManifest) && hint.Of(err) == "" {
		if _, err := inventory.FindVersion(ctx, backup.Host, backup.Path, host.SnapshotFolder); err != nil {
			return r.failed(err)
		}
		err = hint.New(err, "its manifest is gone; compare it with its source: verify BACKUP --against SOURCE")
	}
	r.Files, r.Bytes, r.Basis, r.NotKept, r.Since = v.Files, v.Bytes, v.Basis, v.NotKept, v.Since
	r.Read = readingOf(o, v)
	if r.Read == Part {
		r.Part = o.Part.String()
	}
	if err != nil {
		return r.failed(err)
	}
	return r
}

func readingOf(o tree.VerifyOptions, v tree.Verified) Reading {
	switch {
	case o.Part != (tree.Part{}):
		return Part
	case v.Since != "":
		return Changes
	case o.Fast && v.Basis == "":
		return Nothing
	}
	return All
}

func (r Result) failed(err error) Result {
	r.Failure = &engine.Failure{Err: err}
	return r
}

// WayOn tells how to heal what the disk does not give; "": it gives all.
func WayOn(all []Result) string {
	for _, r := range all {
		if r.Stored && slices.ContainsFunc(r.Differences, isOfOriginal) {
			return fmt.Sprintf("it is the snapshot %s that is damaged, and not the backup", r.Against)
		}
		if r.Stored && len(r.Differences) > 0 {
			return "the next run from this machine stores once more what the source still has, and so heals what builds on it; to be rid of the rest: btrfs-backup delete"
		}
		if slices.ContainsFunc(r.Differences, func(d tree.Difference) bool { return d.Damage != nil && d.Got == "" }) {
			return fmt.Sprintf("`btrfs-backup verify --repair-from SNAPSHOT %s` heals it by the snapshot that was sent", r.Backup)
		}
		if slices.ContainsFunc(r.Differences, isOfOriginal) {
			return fmt.Sprintf("it is %s that is damaged: verify --repair-from may heal it by the backup", r.Against)
		}
	}
	return ""
}

// isOfOriginal tells that it is not the backup that is damaged, but what it is compared with.
func isOfOriginal(d tree.Difference) bool { return d.Damage != nil && d.Got != "" }

// Differs tells that one of the backups is not what it was.
func Differs(all []Result) bool {
	for _, r := range all {
		if len(r.Differences) > 0 {
			return true
		}
	}
	return false
}
