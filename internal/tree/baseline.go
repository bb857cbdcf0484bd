package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"btrfs-backup/internal/manifest"
)

// baselineBatch is how many entries are decoded ahead at a time.
const baselineBatch = 256

// A baseline is the manifest of the backup before, as far as a walk in the same order has come.
type baseline struct {
	had, gone int64 // of its files that are no directories: all, and those that were passed over

	file    string
	batches chan []manifest.Entry // nil for no backup before
	rest    []manifest.Entry
	err     error // why batches ended early
}

// baseline begins to read the manifest of a backup, until the context ends. Without one, or with a missing one, it is empty.
func (f *Folder) baseline(ctx context.Context, base string) (*baseline, error) {
	if base == "" {
		return &baseline{}, nil
	}
	b := &baseline{file: f.statePath(ManifestFile(base))}
	file, err := f.openState(ManifestFile(base))
	if errors.Is(err, fs.ErrNotExist) {
		f.log.Warn(base + " has no manifest, so that all files have to be read")
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	b.batches = make(chan []manifest.Entry, 8)
	go func() {
		defer file.Close()
		defer close(b.batches)
		b.err = b.decode(ctx, file)
	}()
	return b, nil
}

func (b *baseline) decode(ctx context.Context, file io.Reader) error {
	r, err := manifest.NewReader(file)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		batch := make([]manifest.Entry, 0, baselineBatch)
		for len(batch) < cap(batch) && err == nil {
			var e manifest.Entry
			if e, err = r.Next(); err == nil {
				batch = append(batch, e)
			}
		}
		select {
		case b.batches <- batch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// peek gives the next entry; ok is false at the end.
func (b *baseline) peek() (e *manifest.Entry, ok bool, err error) {
	for len(b.rest) == 0 {
		if b.batches == nil {
			return nil, false, nil
		}
		if b.rest, ok = <-b.batches; !ok {
			if b.err != nil {
				return nil, false, &damagedError{b.file, b.err.Error()}
			}
			return nil, false, nil
		}
	}
	return &b.rest[0], true, nil
}

// advance passes over the entry that peek gave.
func (b *baseline) advance(gone bool) {
	if b.rest[0].Type != manifest.Directory {
		b.had++
		if gone {
			b.gone++
		}
	}
	b.rest = b.rest[1:]
}

// find gives what the backup before has where e is, nil for nothing. Paths must be asked for in order.
func (b *baseline) find(e *manifest.Entry) (*manifest.Entry, error) {
	for {
		old, ok, err := b.peek()
		if err != nil || !ok {
			return nil, err
		}
		order := manifest.Compare(old.Path, e.Path)
		if order > 0 {
			return nil, nil
		}
		b.advance(order < 0 || e.Type == manifest.Directory)
		if order == 0 {
			return old, nil
		}
	}
}

// skip passes over what is below a directory, of which nobody knows whether it is gone.
func (b *baseline) skip(dir string) error {
	for {
		old, ok, err := b.peek()
		if err != nil || !ok || !strings.HasPrefix(old.Path, dir+"/") {
			return err
		}
		b.advance(false)
	}
}

// end passes over all that is left.
func (b *baseline) end() error {
	for {
		if _, ok, err := b.peek(); err != nil || !ok {
			return err
		}
		b.advance(true)
	}
}
