package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"btrfs-backup/internal/manifest"
)

// describe puts the manifest on disk, after new files took the space of older ones, and completes the record.
func (b *making) describe(ctx context.Context) error {
	file := manifestFile(b.Name)
	draft, err := b.createState(file)
	if err != nil {
		return err
	}
	defer func() { b.abandonState(draft, file) }()
	found, err := b.survey(ctx, draft)
	if err != nil {
		return err
	}
	b.record.Files, b.record.Bytes = found.files, found.bytes
	if b.Dedup {
		var changed []manifest.Entry
		if changed, b.record.Shared, err = b.share(ctx, found); err != nil {
			return err
		}
		if len(changed) > 0 {
			if draft, err = b.redraft(draft, changed); err != nil {
				return err
			}
		}
	}
	return b.commitState(draft, file)
}

// survey describes the tree in the draft of its manifest. If the manifest of the backup before turns out to be damaged, nothing
// that was taken from it can be relied on.
func (b *making) survey(ctx context.Context, draft *os.File) (findings, error) {
	found, err := b.surveyUpon(ctx, b.Base, draft)
	var damaged *damagedError
	if ctx.Err() != nil || !errors.As(err, &damaged) {
		return found, err
	}
	b.log.Warn(fmt.Sprintf("all files have to be read: %v", damaged))
	if err := cmp.Or(draft.Truncate(0), rewind(draft)); err != nil {
		return findings{}, err
	}
	return b.surveyUpon(ctx, "", draft)
}

func (b *making) surveyUpon(ctx context.Context, base string, draft *os.File) (findings, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, err := b.baseline(ctx, base)
	if err != nil {
		return findings{}, err
	}
	s := survey{root: b.root, base: before, subvolume: b.subvolume, progress: b.progress, unread: func(path string, err error) {
		b.log.Warn(fmt.Sprintf("%s: %s cannot be verified: %v", b.pathOf(b.Name), path, err))
	}}
	found, err := s.run(ctx, draft)
	if err != nil {
		return findings{}, err
	}
	return found, b.guard(before)
}

// redraft begins a manifest that differs from a draft in the entries given, which are in order.
func (b *making) redraft(draft *os.File, changed []manifest.Entry) (*os.File, error) {
	file := manifestFile(b.Name)
	if err := cmp.Or(rewind(draft), b.removeState(file+temporaryEnd)); err != nil {
		return draft, err
	}
	second, err := b.createState(file)
	if err != nil {
		return draft, err
	}
	defer draft.Close()
	return second, replaceEntries(second, draft, changed)
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

// replaceEntries copies a manifest with other entries in place of those of the same path.
func replaceEntries(to io.Writer, from io.Reader, changed []manifest.Entry) error {
	r, err := manifest.NewReader(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := manifest.NewWriter(to)
	if err != nil {
		return err
	}
	for {
		e, err := r.Next()
		if err == io.EOF {
			return w.Close()
		}
		if err != nil {
			return err
		}
		if len(changed) > 0 && changed[0].Path == e.Path {
			e, changed = changed[0], changed[1:]
		}
		if err := w.Write(e); err != nil {
			return err
		}
	}
}
