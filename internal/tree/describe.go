package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/index"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"
)

// describe puts the manifest on disk, after new files took the space of older ones, and completes the record.
func (b *making) describe(ctx context.Context) error {
	draft, err := b.state.Create(state.ManifestFile(b.Name))
	if err != nil {
		return err
	}
	defer func() { draft.Abandon() }()
	found, err := b.survey(ctx, draft)
	if err != nil {
		return err
	}
	if err := b.checkChanged(found); err != nil {
		return err
	}
	b.record.Files, b.record.Bytes, b.record.Sticky = found.Files, found.Bytes, found.Sticky
	b.addLost(found)
	if b.Dedup && len(found.Fresh) > 0 {
		if draft, err = b.redraft(ctx, draft, found); err != nil {
			return err
		}
	}
	return draft.Commit()
}

// addLost adds to the record what the copy lost, but for files that are missing anyway.
func (b *making) addLost(found survey.Findings) {
	b.record.Missing += found.LostCount
	for _, loss := range found.Lost {
		dir, name := path.Split(loss.Path)
		complained := func(message string) bool { // rsync may name the file that it had before it got its name
			return strings.Contains(message, "/"+loss.Path+`"`) || strings.Contains(message, "/"+dir+"."+name+".")
		}
		if slices.ContainsFunc(b.Incomplete, complained) {
			b.record.Missing--
		} else if len(b.record.Incomplete) < maxIncomplete {
			b.record.Incomplete = append(b.record.Incomplete, fmt.Sprintf("%s: the destination did not keep its %s", loss.Path, loss.What))
		}
	}
}

// survey describes the tree in the draft of its manifest. If the manifest of the base turns out to be damaged, nothing
// that was taken from it can be relied on.
func (b *making) survey(ctx context.Context, draft *state.Draft) (survey.Findings, error) {
	if b.Grew {
		return b.surveyGrown(ctx, draft)
	}
	base, err := b.baseManifest()
	if err != nil {
		return survey.Findings{}, err
	}
	if base != nil {
		defer base.Close()
	}
	found, err := b.surveyUpon(ctx, base, draft)
	if ctx.Err() == nil && errors.As(err, new(*survey.BaseError)) {
		b.log.Warn(fmt.Sprintf("reading all files: %v", err))
		if err := cmp.Or(draft.Truncate(0), rewind(draft)); err != nil {
			return found, err
		}
		found, err = b.surveyUpon(ctx, nil, draft)
	}
	if err != nil {
		return found, err
	}
	return found, b.guard(found)
}

// baseManifest opens the manifest of the base, and gives nil if there is none.
func (b *making) baseManifest() (*os.File, error) {
	if b.Base == "" {
		return nil, nil
	}
	file, err := b.state.Open(state.ManifestFile(b.Base))
	if errors.Is(err, fs.ErrNotExist) {
		b.log.Warn(b.Base + " has no manifest: reading all files")
		return nil, nil
	}
	return file, err
}

func (b *making) surveyUpon(ctx context.Context, base *os.File, draft *state.Draft) (survey.Findings, error) {
	notes, err := b.notes(b.Name)
	if err != nil {
		b.log.Warn(fmt.Sprintf("reading all new files once more: %v", err))
	}
	o := b.surveyOptions(base)
	o.Read = notes.Find
	return survey.Tree(ctx, b.root, o, draft)
}

func (b *making) surveyOptions(base *os.File) survey.Options {
	return survey.Options{
		Base: base, Subvolume: b.subvolume, Original: b.Original, Holes: b.InPlace, Progress: b.progress,
		Unread: func(path string, err error) {
			b.log.Warn(fmt.Sprintf("%s: %s cannot be verified: %v", b.pathOf(b.Name), path, err))
		},
	}
}

// redraft begins a manifest that differs from a draft in the files that took the space of older ones.
func (b *making) redraft(ctx context.Context, draft *state.Draft, found survey.Findings) (*state.Draft, error) {
	file := state.ManifestFile(b.Name)
	if err := cmp.Or(rewind(draft), b.state.Remove(file+state.TemporaryEnd)); err != nil {
		return draft, err
	}
	second, err := b.state.Create(file)
	if err != nil {
		return draft, err
	}
	defer draft.Close()
	backup := index.Backup{Name: b.Name, Hidden: btrfs.Incoming(b.Name), Inodes: found.Inodes, Fresh: found.Fresh}
	b.record.Shared, err = b.contents().Share(ctx, backup, draft, second)
	return second, err
}

func rewind(draft *state.Draft) error {
	_, err := draft.Seek(0, io.SeekStart)
	return err
}
