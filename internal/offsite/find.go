package offsite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// Found is a store, or a source or a backup in it. It must be closed.
type Found struct {
	io.Closer
	Place  Place // of the store
	Store  *store.Store
	Source string // its name in the store; "": the store is meant
	Name   string // of a backup; "": the source is meant, or the store
}

// String names what was found as people know it.
func (f *Found) String() string { return f.At(f.Source, f.Name) }

// At names a source of the store, and a backup of it unless its name is "", as people know them.
func (f *Found) At(source, name string) string {
	text := f.Place.String()
	for _, name := range []string{source, name} {
		if name != "" {
			text += "/" + name
		}
	}
	return text
}

// Find tells what a place means: the store there, or in the place above or the one above that; then what follows is the name of a
// source, and of a backup. Where there is none of all that, it is fs.ErrNotExist.
func Find(ctx context.Context, at Place, o store.Options) (*Found, error) {
	var names []string
	for in := at; in != nil && len(names) <= 2; {
		found, err := openIn(ctx, in, o)
		if err == nil {
			names = append(names, "", "")
			found.Source, found.Name = names[0], names[1]
			return found, nil
		}
		isMissing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
		if !isMissing && len(names) > 0 { // such as what these credentials may not look at
			break
		}
		if !isMissing {
			return nil, err
		}
		above, name := in.Above()
		names, in = append([]string{name}, names...), above
	}
	return nil, hint.New(missingError(fmt.Sprintf("there is no store in %s, nor above it", at)),
		"name the place of a store; of what is in it, PLACE/SOURCE or PLACE/SOURCE/BACKUP")
}

// missingError says in words that something does not exist.
type missingError string

func (e missingError) Error() string        { return string(e) }
func (e missingError) Is(target error) bool { return target == fs.ErrNotExist }

func openIn(ctx context.Context, at Place, o store.Options) (*Found, error) {
	bucket, closer, err := at.Open(ctx, nil)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, bucket, o)
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	return &Found{Closer: closer, Place: at, Store: s}, nil
}
