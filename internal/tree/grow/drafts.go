package grow

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// What is known of a tree that grew stays in three files until the backup is finished: manifests of what was taken over, and the paths
// of the rest. They keep the names of drafts, which the next partial copy removes.
const (
	keptEnd  = ".kept"
	movedEnd = ".moved"
	anewEnd  = ".anew"
)

// Into makes a tree out of the backup base in a folder, and leaves what is known of it there under the name of the backup to be. All that
// is open is borrowed. After an error, the directory is empty as it was before, unless the context ended.
func Into(ctx context.Context, folder *os.File, name, base string, into *os.File, c Changes) error {
	if err := c.check(); err != nil {
		return err
	}
	if btrfs.CheckFilesystem(folder) == nil {
		return errors.New("on btrfs, a backup begins as a snapshot of its base")
	}
	switch _, err := into.Readdirnames(1); {
	case err == nil:
		return errors.New("something was copied already")
	case err != io.EOF:
		return err
	}
	err := fill(ctx, folder, name, base, into, c)
	if hidden := btrfs.Incoming(name); err != nil && ctx.Err() == nil {
		err = errors.Join(err, Forget(folder, name), walk.Remove(ctx, folder, hidden), unix.Mkdirat(int(folder.Fd()), hidden, 0o700))
	}
	return err
}

func fill(ctx context.Context, folder *os.File, name, base string, into *os.File, c Changes) error {
	files := state.In(folder)
	o := Order{Changes: c, Into: into}
	var err error
	if o.Base, err = btrfs.OpenDirAt(folder, base); err != nil {
		return err
	}
	defer o.Base.Close()
	entries, err := files.Open(state.ManifestFile(base))
	if err != nil {
		return err
	}
	defer entries.Close()
	o.Manifest = entries
	anew := slices.Clone(c.Anew)
	slices.SortFunc(anew, manifest.Compare)
	return leave(files, name, keptEnd, func(kept io.Writer) error {
		return leave(files, name, movedEnd, func(moved io.Writer) error {
			return leave(files, name, anewEnd, func(list io.Writer) error {
				o.Kept, o.Moved = kept, moved
				_, err := io.WriteString(list, strings.Join(slices.Compact(anew), "\x00"))
				return cmp.Or(err, Tree(ctx, o))
			})
		})
	})
}

// leave lets write write one of the files.
func leave(files state.Files, name, end string, write func(io.Writer) error) error {
	draft, err := files.Create(state.Manifests + "/" + name + end)
	if err != nil {
		return err
	}
	defer draft.Close()
	out := bufio.NewWriter(draft)
	return cmp.Or(write(out), out.Flush())
}

// Taken are the manifests of what was taken over. They must be closed.
type Taken []*os.File

// Known gives what Into left: what was taken over, and the paths of the rest, in the order of manifest.Compare.
func Known(folder *os.File, name string) (taken Taken, anew []string, err error) {
	for _, end := range [...]string{keptEnd, movedEnd, anewEnd} {
		file, err := state.In(folder).Open(state.Manifests + "/" + name + end + state.TemporaryEnd)
		if err != nil {
			return nil, nil, errors.Join(err, taken.Close())
		}
		taken = append(taken, file)
	}
	list := taken[len(taken)-1]
	text, err := io.ReadAll(list)
	if err != nil {
		return nil, nil, errors.Join(err, taken.Close())
	}
	if len(text) > 0 {
		anew = strings.Split(string(text), "\x00")
	}
	return taken, anew, nil
}

// Readers read the manifests.
func (t Taken) Readers() []io.Reader { return []io.Reader{t[0], t[1]} }

// Close closes them.
func (t Taken) Close() (err error) {
	for _, file := range t {
		err = errors.Join(err, file.Close())
	}
	return err
}

// Forget removes what Into left.
func Forget(folder *os.File, name string) (err error) {
	for _, end := range [...]string{keptEnd, movedEnd, anewEnd} {
		err = errors.Join(err, state.In(folder).Remove(state.Manifests+"/"+name+end+state.TemporaryEnd))
	}
	return err
}
