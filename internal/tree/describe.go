package tree

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"btrfs-backup/internal/manifest"
)

// describe puts the manifest on disk, after new files took the space of older ones, and completes the record.
func (b *making) describe(ctx context.Context) error {
	file := ManifestFile(b.Name)
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
	if b.Dedup && len(found.fresh) > 0 {
		if draft, err = b.redraft(ctx, draft, found); err != nil {
			return err
		}
	}
	return b.commitState(draft, file)
}

// survey describes the tree in the draft of its manifest. If the manifest of the backup before turns out to be damaged, nothing
// that was taken from it can be relied on.
func (b *making) survey(ctx context.Context, draft *os.File) (findings, error) {
	found, err := b.surveyUpon(ctx, b.Base, draft)
	if ctx.Err() != nil || !isDamaged(err) {
		return found, err
	}
	b.log.Warn(fmt.Sprintf("all files have to be read: %v", err))
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
	ahead, err := b.readAhead(b.Name)
	if err != nil {
		b.log.Warn(fmt.Sprintf("all new files are read once more: %v", err))
	}
	s := survey{root: b.root, base: before, ahead: ahead, subvolume: b.subvolume, holes: b.InPlace, progress: b.progress, unread: func(path string, err error) {
		b.log.Warn(fmt.Sprintf("%s: %s cannot be verified: %v", b.pathOf(b.Name), path, err))
	}}
	found, err := s.run(ctx, draft)
	if err != nil {
		return findings{}, err
	}
	return found, b.guard(before)
}

// redraft begins a manifest that differs from a draft in the files that took the space of older ones.
func (b *making) redraft(ctx context.Context, draft *os.File, found findings) (*os.File, error) {
	file := ManifestFile(b.Name)
	if err := cmp.Or(rewind(draft), b.removeState(file+temporaryEnd)); err != nil {
		return draft, err
	}
	second, err := b.createState(file)
	if err != nil {
		return draft, err
	}
	defer draft.Close()
	b.record.Shared, err = b.share(ctx, found, draft, second)
	return second, err
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

// rewrite copies a manifest, each entry as change gives it back.
func rewrite(to io.Writer, from io.Reader, change func(manifest.Entry) (manifest.Entry, error)) error {
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
		if err == nil {
			e, err = change(e)
		}
		if err == nil {
			err = w.Write(e)
		}
		if err != nil {
			return err
		}
	}
}
