package main

import (
	"context"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"
)

// receivedIn is an engine.Receiving.
type receivedIn struct{ dir host.Folder }

func (r receivedIn) List(ctx context.Context) (btrfs.Listing, error) {
	content, err := r.dir.List(ctx)
	return content.Listing, err
}

func (r receivedIn) Origins(ctx context.Context) (map[btrfs.UUID]btrfs.UUID, error) {
	content, err := r.dir.List(ctx)
	if err != nil {
		return nil, err
	}
	origins, err := host.ParseOrigins(content.Origins)
	if err != nil { // which the sender tells, since it lists the folder, too
		return nil, nil
	}
	return origins, nil
}

func (r receivedIn) Delete(ctx context.Context, names []string) ([]string, error) {
	return r.dir.Delete(ctx, names, host.DeleteOptions{})
}
