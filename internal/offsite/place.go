package offsite

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/time/rate"
)

// Folder is a store in a folder of a machine.
type Folder struct {
	Name string
	Host host.Host
	Path string // absolute
	// Limit is of bytes that are stored; nil: there is none.
	Limit *rate.Limiter
	// MountPoint is where the filesystem must be mounted that the folder is on; "": any will do.
	MountPoint string
}

func (f Folder) String() string { return f.Name }

// Open opens the folder.
func (f Folder) Open(ctx context.Context, _ func(n int64)) (object.Bucket, io.Closer, error) {
	if err := f.checkMounted(ctx); err != nil {
		return nil, nil, err
	}
	b, closer, err := host.Bucket(ctx, f.Host, f.Path)
	if err != nil {
		return nil, nil, err
	}
	return object.Limit(b, f.Limit), closer, nil
}

// Create makes the folder.
func (f Folder) Create(ctx context.Context) error {
	if err := f.checkMounted(ctx); err != nil {
		return err
	}
	return f.Host.MkdirAll(ctx, f.Path)
}

// checkMounted fails unless the folder is, or would be, on the filesystem that is to be mounted.
func (f Folder) checkMounted(ctx context.Context) error {
	trees, ok := f.Host.(host.Trees)
	if f.MountPoint == "" || !ok {
		return nil
	}
	dir, err := trees.OpenTrees(ctx, f.Path, tree.OpenOptions{MountPoint: f.MountPoint})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what is above it is
	}
	if err != nil {
		return err
	}
	return dir.Close()
}

// Above gives the folder above.
func (f Folder) Above() (Place, string) {
	if f.Path == "/" {
		return nil, ""
	}
	name := path.Base(f.Path)
	f.Name, f.Path = strings.TrimSuffix(f.Name, "/"+name), path.Dir(f.Path)
	return f, name
}

// Server is a store in a bucket of an S3-compatible server.
type Server struct {
	Name string // the place, see object.ParsePlace
	object.S3Options
}

func (s Server) String() string { return s.Name }

// Open makes no request.
func (s Server) Open(ctx context.Context, wire func(n int64)) (object.Bucket, io.Closer, error) {
	s.Wire = wire
	b, err := object.OpenS3(ctx, s.Name, s.S3Options)
	return b, b, err
}

// Create leaves the bucket to whoever has an account: it is there.
func (Server) Create(context.Context) error { return nil }

// Above gives the prefix above.
func (s Server) Above() (Place, string) {
	at, err := object.ParsePlace(s.Name)
	if err != nil || at.Prefix == "" {
		return nil, ""
	}
	name := path.Base(at.Prefix)
	at.Prefix = strings.TrimPrefix(path.Dir(at.Prefix), ".")
	s.Name = at.String()
	return s, name
}
