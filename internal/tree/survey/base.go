package survey

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// baseBatch is how many entries are decoded ahead at a time.
const baseBatch = 256

// A baseManifest is the manifest of the base, as far as a walk in the same order has come.
type baseManifest struct {
	had, gone int64 // of its files that are no directories: all, and those that were passed over
	passed    bool  // something was passed over

	file    string
	batches chan []manifest.Entry // nil for no base
	rest    []manifest.Entry
	err     error // why batches ended early
}

// A BaseError tells that the manifest of the base is damaged.
type BaseError struct {
	file  string
	cause error
}

func (e *BaseError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.file, e.cause) }

// readBase begins to read a manifest, until the context ends or close. Without one it is empty.
func readBase(ctx context.Context, file *os.File) *baseManifest {
	if file == nil {
		return &baseManifest{}
	}
	b := &baseManifest{file: file.Name(), batches: make(chan []manifest.Entry, 8)}
	go func() {
		defer close(b.batches)
		b.err = b.decode(ctx, file)
	}()
	return b
}

// close waits until the manifest is not read any more, after the context has ended.
func (b *baseManifest) close() {
	if b.batches != nil {
		for range b.batches {
		}
	}
}

func (b *baseManifest) decode(ctx context.Context, file io.Reader) error {
	r, err := manifest.NewReader(file)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		batch := make([]manifest.Entry, 0, baseBatch)
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
func (b *baseManifest) peek() (e *manifest.Entry, ok bool, err error) {
	for len(b.rest) == 0 {
		if b.batches == nil {
			return nil, false, nil
		}
		if b.rest, ok = <-b.batches; !ok {
			if b.err != nil {
				return nil, false, &BaseError{b.file, b.err}
			}
			return nil, false, nil
		}
	}
	return &b.rest[0], true, nil
}

// advance passes over the entry that peek gave.
func (b *baseManifest) advance(gone bool) {
	b.passed = b.passed || gone
	if b.rest[0].Type != manifest.Directory {
		b.had++
		if gone {
			b.gone++
		}
	}
	b.rest = b.rest[1:]
}

// find gives what the base has where e is, nil for nothing. Paths must be asked for in order.
func (b *baseManifest) find(e *manifest.Entry) (*manifest.Entry, error) {
	for {
		old, ok, err := b.peek()
		if err != nil || !ok {
			return nil, err
		}
		order := manifest.Compare(old.Path, e.Path)
		if order > 0 {
			return nil, nil
		}
		b.advance(order < 0 || e.Type == manifest.Directory && b.rest[0].Type != manifest.Directory)
		if order == 0 {
			return old, nil
		}
	}
}

// skip passes over what is below a directory, of which nobody knows whether it is gone.
func (b *baseManifest) skip(dir string) error {
	for {
		old, ok, err := b.peek()
		if err != nil || !ok || !strings.HasPrefix(old.Path, dir+"/") {
			return err
		}
		b.advance(false)
	}
}

// end passes over all that is left.
func (b *baseManifest) end() error {
	for {
		if _, ok, err := b.peek(); err != nil || !ok {
			return err
		}
		b.advance(true)
	}
}
