package object

import (
	"context"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"
)

var (
	listing         = operation{"listing", "s3:ListBucket"}
	listingVersions = operation{"listing", "s3:ListBucketVersions"}
)

// pageSize is how many objects a server tells at once, at the most.
const pageSize = 1000

// List visits versions where the server tells them: the oldest of each object, whatever became of it later. Where it does not, or
// these credentials may not see them, it visits the objects as they are.
func (s *S3) List(ctx context.Context, prefix string, visit func(Info) error) error {
	return s.list(ctx, &lister{prefix: s.full(prefix), visit: func(info Info, _ []version) error {
		key, ours := s.short(info.Key)
		if !ours {
			return nil
		}
		info.Key = key
		return visit(info)
	}})
}

// list visits objects by their keys on the server.
func (s *S3) list(ctx context.Context, l *lister) error {
	if s.versions.Load() != no {
		err := s.listAs(ctx, l, true)
		switch {
		case s.versions.Load() == yes:
			return err
		case err == nil && l.after != "":
			s.versions.Store(yes)
			return nil
		case err == nil: // a server that knows nothing of versions may answer like that
			if err := s.listAs(ctx, l, false); err != nil || l.after == "" {
				return err
			}
			s.versions.Store(no)
			return nil
		case l.failed != nil || l.after != "" || !l.unable:
			return err
		}
		s.o.Log.Info(fmt.Sprintf("%s: versions are not looked at, so what was overwritten is not noticed: %v", s, err))
		s.versions.Store(no)
	}
	return s.listAs(ctx, l, false)
}

// isUnable tells that a server does not list versions, or not for these credentials.
func isUnable(err error) bool {
	r, refused := refusal(err)
	return refused && !is(err, "NoSuchBucket") && credentialFault(r) == nil && (r.StatusCode == http.StatusForbidden && !is(err, "RequestTimeTooSkewed") ||
		r.StatusCode == http.StatusNotImplemented || r.StatusCode == http.StatusMethodNotAllowed || r.StatusCode == http.StatusBadRequest)
}

// listAs goes through the pages. What is tried again begins behind the last object that was visited.
func (s *S3) listAs(ctx context.Context, l *lister, versions bool) error {
	op := listing
	if versions {
		op = listingVersions
	}
	err := s.try(ctx, op, "", func(ctx context.Context, c *minio.Core) error {
		l.all = nil
		for found := range c.ListObjectsIter(ctx, s.place.Bucket, minio.ListObjectsOptions{Prefix: l.prefix, Recursive: true,
			MaxKeys: pageSize, WithVersions: versions, StartAfter: l.after}) {
			if found.Err != nil {
				l.unable = isUnable(found.Err)
				return found.Err
			}
			if l.take(found) != nil {
				return nil
			}
		}
		if ctx.Err() != nil { // which ends the objects, too
			return ctx.Err()
		}
		l.flush()
		return nil
	})
	if l.failed != nil {
		return l.failed
	}
	return err
}

// A version is one of an object, or a marker that it was deleted.
type version struct{ key, id string }

// A lister gathers the versions of each object.
type lister struct {
	prefix string
	visit  func(oldest Info, all []version) error // the newest first
	marker func(version)                          // may be nil

	after  string // the key of the last object that was visited
	info   Info   // of the oldest version so far
	all    []version
	failed error // of visit, or since the listing makes no sense
	unable bool  // the server does not list that, or not for these credentials
}

// take takes the next version. Markers come anywhere: some servers tell them behind all else that is on a page.
func (l *lister) take(found minio.ObjectInfo) error {
	v := version{found.Key, found.VersionID}
	if found.IsDeleteMarker {
		if l.marker != nil {
			l.marker(v)
		}
		return l.failed
	}
	if len(l.all) > 0 && l.all[0].key != v.key {
		l.flush()
	}
	if v.key == l.after { // some servers begin with what they are to begin behind
		return l.failed
	}
	if l.failed == nil && v.key < l.after {
		l.failed = fmt.Errorf("the server lists %q behind %q: it keeps no order", v.key, l.after)
	}
	l.all = append(l.all, v)
	l.info = Info{Ref: Ref{v.key, v.id}, Size: found.Size, Modified: found.LastModified, Class: class(found.StorageClass),
		Archived: isArchived(found), Versions: len(l.all)}
	return l.failed
}

// flush visits the object whose versions are complete.
func (l *lister) flush() {
	if len(l.all) == 0 || l.failed != nil {
		return
	}
	info, all := l.info, l.all
	l.all, l.after = nil, info.Key
	const none = "null" // the version of what was stored without any
	if info.Version == none && len(all) == 1 {
		info.Version = ""
	}
	l.failed = l.visit(info, all)
}

// class is the name of a storage class, "" for the usual one.
func class(name string) string {
	if name == "STANDARD" {
		return ""
	}
	return name
}

// isArchived tells by the class, and by what the server tells of a copy that was called back.
func isArchived(o minio.ObjectInfo) bool {
	archived := o.StorageClass == glacier || o.StorageClass == deepArchive || o.Headers.Get("x-amz-archive-status") != ""
	return archived && (o.Restore == nil || o.Restore.OngoingRestore)
}
