package object

import (
	"context"
	"errors"
	"path"
	"slices"

	"github.com/minio/minio-go/v7"
)

var deleting = operation{"deleting", "s3:DeleteObject and s3:DeleteObjectVersion"}

// Delete deletes all versions of objects, the newest of each first: if that is interrupted, the one that counts is left. The server
// is told of a thousand at a time.
func (s *S3) Delete(ctx context.Context, keys []string) error {
	var errs []error
	var wanted []version
	known := make(map[string][]version) // by key on the server
	seen := make(map[string]bool)       // directories
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			errs = append(errs, err)
			continue
		}
		full := s.full(key)
		if dir := path.Dir(full); !covered(seen, dir) {
			seen[dir] = true
			if err := s.versionsIn(ctx, dir, known); err != nil {
				return errors.Join(append(errs, err)...)
			}
		}
		wanted = append(wanted, known[full]...)
		delete(known, full)
	}
	for batch := range slices.Chunk(wanted, pageSize) {
		if err := s.deleteVersions(ctx, batch); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// covered tells whether a directory or one above it was seen.
func covered(seen map[string]bool, dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if seen[dir] {
			return true
		}
	}
	return seen["."]
}

// versionsIn finds what is to be deleted of each object in a directory, or below: markers first, then versions.
func (s *S3) versionsIn(ctx context.Context, dir string, into map[string][]version) error {
	markers := make(map[version]bool) // what is listed again is told again
	l := lister{prefix: dir + "/", marker: func(v version) { markers[v] = true }, visit: func(info Info, all []version) error {
		into[info.Key] = all
		return nil
	}}
	if dir == "." {
		l.prefix = ""
	}
	if err := s.list(ctx, &l); err != nil {
		return err
	}
	for v := range markers {
		into[v.key] = append([]version{v}, into[v.key]...)
	}
	return nil
}

// deleteVersions deletes some in one request. An error tells of the first one that could not be deleted.
func (s *S3) deleteVersions(ctx context.Context, versions []version) error {
	var failed []minio.RemoveObjectResult
	err := s.try(ctx, deleting, "", func(ctx context.Context, c *minio.Core) error {
		failed = nil
		results, err := c.RemoveObjectsWithIter(ctx, s.place.Bucket, func(yield func(minio.ObjectInfo) bool) {
			for _, v := range versions {
				if !yield(minio.ObjectInfo{Key: v.key, VersionID: v.id}) {
					return
				}
			}
		}, minio.RemoveObjectsOptions{})
		if err != nil {
			return err
		}
		for r := range results {
			refused, ofOne := refusal(r.Err)
			switch {
			case r.Err == nil:
			case !ofOne, refused.StatusCode != 0, again(r.Err, 1): // of all, or worth to be tried again
				return r.Err
			default:
				failed = append(failed, r)
			}
		}
		return ctx.Err()
	})
	if err != nil || len(failed) == 0 {
		return err
	}
	key, _ := s.short(failed[0].ObjectName)
	return s.named(deleting, key, s.cause(deleting, key, failed[0].Err, &answer{}))
}
