package object

import (
	"bytes"
	"context"
	"crypto/md5" // #nosec G501: servers tell it of what they keep
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/minio/minio-go/v7"
)

var (
	storing = operation{"storing", "s3:PutObject"}
	locking = operation{"storing", "s3:PutObject and s3:PutObjectRetention"}
)

// Put sends the SHA-256 with the content, so that the server refuses what was damaged on the way. A server that does not honour
// If-None-Match is asked beforehand what there is: two who store under one key at the same time are not noticed there.
func (s *S3) Put(ctx context.Context, key string, content []byte, o PutOptions) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	u := upload{s, key, content, o.Sum(content), o}
	if o.Replace {
		return u.send(ctx, false)
	}
	honoured := s.condition.Load()
	if honoured != yes {
		found, err := s.look(ctx, key)
		if found != nil {
			return s.named(storing, key, errExists)
		}
		// Without the permission to look, the condition must do.
		if err != nil && (honoured == no || !errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	err := u.send(ctx, honoured != no)
	const small = 64 << 10
	if err == nil && honoured == unknown && len(content) <= small {
		u.probe(ctx)
	}
	return err
}

// Sum gives the SHA-256 of the content.
func (o PutOptions) Sum(content []byte) []byte {
	if o.SHA256 != nil {
		return o.SHA256
	}
	sum := sha256.Sum256(content)
	return sum[:]
}

var errExists = told{"there is such an object already", fs.ErrExist}

// An upload is of an object that is not there yet.
type upload struct {
	s       *S3
	key     string
	content []byte
	sum     []byte
	o       PutOptions
}

// send stores the object, with the condition that there is none. If there is one after all, and an earlier attempt went wrong
// on the way, that one may have arrived.
func (u upload) send(ctx context.Context, conditional bool) error {
	op, attempts := storing, 0
	if u.locks() {
		op = locking
	}
	err := u.s.try(ctx, op, u.key, func(ctx context.Context, c *minio.Core) error {
		// A server that refuses does so before it has read what is sent, so that its answer may be lost with the connection.
		if attempts++; attempts > 1 && u.arrived(ctx, c) {
			return nil
		}
		err := u.once(ctx, c, conditional)
		if conditional && isRefusedCondition(err) {
			u.s.noCondition()
			conditional = false
			return u.once(ctx, c, false)
		}
		return err
	})
	if errors.Is(err, fs.ErrExist) && attempts > 1 {
		if found, err := u.s.look(ctx, u.key); err == nil && found.has(u.content, u.sum) {
			return nil
		}
	}
	return err
}

// arrived tells that an earlier attempt stored the object after all.
func (u upload) arrived(ctx context.Context, c *minio.Core) bool {
	found, err := c.StatObject(ctx, u.s.place.Bucket, u.s.full(u.key), minio.StatObjectOptions{Checksum: true})
	return err == nil && (&finding{found.Size, checksum(found), found.ETag}).has(u.content, u.sum)
}

func (u upload) locks() bool { return u.s.o.LockMode != Unlocked && !u.o.Until.IsZero() }

// isRefusedCondition tells that a server knows no If-None-Match: it was asked what there is before.
func isRefusedCondition(err error) bool {
	r, refused := refusal(err)
	return refused && (is(err, "NotImplemented") || r.StatusCode == 501)
}

func (s *S3) noCondition() {
	if s.condition.Swap(no) != no {
		s.o.Log.Warn(fmt.Sprintf("%s: the server does not honour If-None-Match, so only one machine at a time should store there", s))
	}
}

func (u upload) once(ctx context.Context, c *minio.Core, conditional bool) error {
	o := minio.PutObjectOptions{DisableContentSha256: true, StorageClass: u.o.Class,
		UserMetadata: map[string]string{"x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(u.sum)}}
	if u.locks() {
		o.Mode, o.RetainUntilDate = minio.RetentionMode(strings.ToUpper(string(u.s.o.LockMode))), u.o.Until
	}
	if conditional {
		o.SetMatchETagExcept("*")
	}
	_, err := c.PutObject(ctx, u.s.place.Bucket, u.s.full(u.key), bytes.NewReader(u.content), int64(len(u.content)), "",
		hex.EncodeToString(u.sum), o)
	return err
}

// Learn finds out whether the server honours If-None-Match, by storing once more what there is under a key. Unless that is known, each
// key is looked at before something is stored there.
func (s *S3) Learn(ctx context.Context, key string, content []byte) {
	if s.condition.Load() != unknown {
		return
	}
	sum := sha256.Sum256(content)
	upload{s, key, content, sum[:], PutOptions{}}.probe(ctx)
}

// probe finds out whether the server honours the condition, by storing once more what was just stored.
func (u upload) probe(ctx context.Context) {
	c, err := u.s.inRegion()
	if err != nil {
		return
	}
	switch err := u.once(ctx, c, true); {
	case err == nil:
		u.s.noCondition()
	case is(err, "PreconditionFailed"):
		u.s.condition.Store(yes)
	}
}

// A finding is what there is under a key.
type finding struct {
	size int64
	sum  []byte // its SHA-256; nil: unknown
	etag string
}

// has tells whether it certainly is the content with the sum.
func (f *finding) has(content, sum []byte) bool {
	if f == nil || f.size != int64(len(content)) {
		return false
	}
	if f.sum != nil {
		return bytes.Equal(f.sum, sum)
	}
	of := md5.Sum(content) // #nosec G401
	return strings.EqualFold(f.etag, hex.EncodeToString(of[:]))
}

// look tells what there is under a key, nil if there is nothing. It lists if these credentials may not look at the object.
func (s *S3) look(ctx context.Context, key string) (*finding, error) {
	info, etag, err := s.stat(ctx, Ref{Key: key})
	switch {
	case err == nil:
		return &finding{info.Size, info.SHA256, etag}, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case !errors.Is(err, fs.ErrPermission):
		return nil, err
	}
	var found *finding
	err = s.try(ctx, listing, "", func(ctx context.Context, c *minio.Core) error {
		for o := range c.ListObjectsIter(ctx, s.place.Bucket, minio.ListObjectsOptions{Prefix: s.full(key), Recursive: true, MaxKeys: 1}) {
			if o.Err == nil && o.Key == s.full(key) {
				found = &finding{o.Size, nil, o.ETag}
			}
			return o.Err
		}
		return ctx.Err()
	})
	return found, err
}
