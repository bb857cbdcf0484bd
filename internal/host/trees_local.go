package host

import (
	"context"
	"encoding/binary"
	"io"
	"os"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

var _ Trees = (*Local)(nil)

// OpenTrees opens a folder of backups of directory trees, on any filesystem.
func (l *Local) OpenTrees(_ context.Context, path string, o tree.OpenOptions) (TreeDir, error) {
	d, err := l.openTrees(path, o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (l *Local) openTrees(path string, o tree.OpenOptions) (*localDir, error) {
	dir, err := tree.Open(path, o)
	if err != nil {
		return nil, err
	}
	d := &localDir{host: l, dir: dir}
	if d.status, err = describe(dir); err == nil {
		d.status.Place, err = d.identity()
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return d, nil
}

// identity is the place of a directory. Where there are no subvolumes it is made up, and means nothing elsewhere.
func (d *localDir) identity() (btrfs.Place, error) {
	if d.status.Btrfs {
		return d.status.Place, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.dir.Fd()), &st); err != nil {
		return btrfs.Place{}, os.NewSyscallError("fstat", err)
	}
	p := btrfs.Place{Inode: st.Ino}
	binary.BigEndian.PutUint64(p.Filesystem[:], st.Dev)
	return p, nil
}

// Rsync gives a link that needs nothing.
func (l *Local) Rsync(context.Context) (*RsyncLink, error) { return &RsyncLink{}, nil }

func (d *localDir) trees() *tree.Folder { return tree.New(d.dir, d.host.log) }

func (d *localDir) ListTrees(ctx context.Context) (tree.Listing, error) { return d.trees().List(ctx) }

func (d *localDir) MarkTrees(ctx context.Context) (id string, err error) { return d.trees().Mark(ctx) }

func (d *localDir) BeginTree(ctx context.Context, o tree.Order) (tree.Work, error) {
	return d.trees().Begin(ctx, o)
}

func (d *localDir) KeepTree(ctx context.Context, name string) error {
	return d.trees().SavePartial(ctx, name)
}

func (d *localDir) FollowTree(ctx context.Context, name string) error {
	return d.trees().Follow(ctx, name)
}

func (d *localDir) FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (tree.Record, error) {
	return d.trees().Finish(ctx, r, progress)
}

func (d *localDir) DeleteTrees(ctx context.Context, names []string) (deleted []string, err error) {
	return d.trees().Delete(ctx, names)
}

func (d *localDir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	return d.trees().Verify(ctx, name, o, found, progress)
}

func (d *localDir) ExportTree(ctx context.Context, name string, w io.Writer) error {
	return d.trees().Export(ctx, name, w)
}

func (d *localDir) IndexTrees(ctx context.Context, o tree.IndexOptions) (tree.Indexed, error) {
	return d.trees().Index(ctx, o)
}
