package object

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	glacier     = "GLACIER"
	deepArchive = "DEEP_ARCHIVE"
	tiering     = "INTELLIGENT_TIERING"
)

var (
	reading        = operation{"reading", "s3:GetObject"}
	readingVersion = operation{"reading", "s3:GetObjectVersion"}
	callingBack    = operation{"calling back", "s3:RestoreObject"}
)

func (r Ref) reading() operation {
	if r.Version != "" {
		return readingVersion
	}
	return reading
}

// Stat asks for the checksum that was stored with the object.
func (s *S3) Stat(ctx context.Context, r Ref) (Info, error) {
	info, _, err := s.stat(ctx, r)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return info, s.why(ctx, r, err)
	}
	return info, err
}

// why asks once more what failed, in a way that is answered with words: the bucket may be missing, or the key be wrong.
func (s *S3) why(ctx context.Context, r Ref, err error) error {
	if CheckKey(r.Key) != nil {
		return err
	}
	b := &body{s: s, ctx: ctx, ref: r, left: 1}
	if said := b.open(); said != nil {
		return said
	}
	return errors.Join(err, b.Close())
}

func (s *S3) stat(ctx context.Context, r Ref) (info Info, etag string, err error) {
	if err := CheckKey(r.Key); err != nil {
		return Info{}, "", err
	}
	err = s.try(ctx, r.reading(), r.Key, func(ctx context.Context, c *minio.Core) error {
		found, err := c.StatObject(ctx, s.place.Bucket, s.full(r.Key), minio.StatObjectOptions{VersionID: r.Version, Checksum: true})
		if err != nil {
			return err
		}
		info = Info{Ref: r, Size: found.Size, Modified: found.LastModified, Class: class(found.Headers.Get("x-amz-storage-class")),
			SHA256: checksum(found)}
		found.StorageClass = info.Class
		info.Archived = isArchived(found)
		info.Locked, _ = time.Parse(time.RFC3339, found.Headers.Get("x-amz-object-lock-retain-until-date"))
		etag = found.ETag
		return nil
	})
	return info, etag, err
}

// checksum is that of the whole object, nil if the server has none.
func checksum(o minio.ObjectInfo) []byte {
	const size = 32
	sum, err := base64.StdEncoding.DecodeString(o.ChecksumSHA256) // no Base64 is that of parts, with their number
	if err != nil || len(sum) != size {
		return nil
	}
	return sum
}

// Get goes on where the connection broke. An object in an archive is called back, and the error is an *ArchivedError.
func (s *S3) Get(ctx context.Context, r Ref, offset, length int64) (io.ReadCloser, error) {
	if err := CheckKey(r.Key); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.Stat(ctx, r)
		return io.NopCloser(bytes.NewReader(nil)), err
	}
	b := &body{s: s, ctx: ctx, ref: r, offset: offset, left: length}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// body is what is read of an object.
type body struct {
	s      *S3
	ctx    context.Context
	ref    Ref
	etag   string // of what is read; "" before the first answer
	offset int64  // in the object, of what is read next
	left   int64  // how much there is to be read; below 0: all that follows
	now    io.ReadCloser
	idle   int // how often it was opened without a byte since
}

func (b *body) open() error {
	var archived bool
	err := b.s.try(b.ctx, b.ref.reading(), b.ref.Key, func(ctx context.Context, c *minio.Core) error {
		var o minio.GetObjectOptions
		o.VersionID = b.ref.Version
		ranged := b.offset > 0 || b.left > 0
		if ranged {
			o.Set("Range", b.bytes())
		}
		if b.etag != "" {
			o.Set("If-Match", strconv.Quote(b.etag))
		}
		content, info, header, err := c.GetObject(ctx, b.s.place.Bucket, b.s.full(b.ref.Key), o)
		switch {
		case is(err, "InvalidRange"):
			b.now, b.left = io.NopCloser(bytes.NewReader(nil)), 0
			return nil
		case is(err, "InvalidObjectState"):
			archived = true
			return nil
		case err != nil:
			return err
		}
		b.now, b.etag = content, info.ETag
		return b.begin(info, ranged && header.Get("Content-Range") == "")
	})
	if archived {
		return b.s.callBack(b.ctx, b.ref)
	}
	return err
}

// bytes is the range in the words of HTTP.
func (b *body) bytes() string {
	if b.left < 0 {
		return fmt.Sprintf("bytes=%d-", b.offset)
	}
	return fmt.Sprintf("bytes=%d-%d", b.offset, b.offset+b.left-1)
}

// begin takes an answer, in which all may be in place of what was asked for.
func (b *body) begin(info minio.ObjectInfo, all bool) error {
	rest := info.Size // below 0: unknown
	if all {
		if _, err := io.CopyN(io.Discard, b.now, b.offset); err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(err, b.now.Close())
		}
		rest = max(info.Size-b.offset, -1)
	}
	if b.left < 0 || rest >= 0 && rest < b.left {
		b.left = rest
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	const mostIdle = 5
	for {
		if b.left == 0 {
			return 0, io.EOF
		}
		if b.left > 0 {
			p = p[:min(int64(len(p)), b.left)]
		}
		n, err := b.now.Read(p)
		b.offset += int64(n)
		if b.left > 0 {
			b.left -= int64(n)
		}
		if n > 0 {
			b.idle = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && b.left < 0 {
			return 0, io.EOF
		}
		if b.ctx.Err() != nil {
			return 0, b.s.named(reading, b.ref.Key, context.Cause(b.ctx))
		}
		if b.idle++; b.idle > mostIdle {
			return 0, b.s.named(reading, b.ref.Key, b.s.broken(err))
		}
		_ = b.now.Close() // it broke
		if err := b.open(); err != nil {
			return 0, err
		}
	}
}

func (b *body) Close() error { return b.now.Close() }

// callBack asks for a copy of an object in an archive.
func (s *S3) callBack(ctx context.Context, r Ref) error {
	class := ""
	if info, err := s.Stat(ctx, r); err == nil {
		class = info.Class
	}
	const days = 7 // the copy is kept
	request := minio.RestoreRequest{}
	if class != tiering {
		request.SetDays(days)
	}
	request.SetGlacierJobParameters(minio.GlacierJobParameters{Tier: minio.TierStandard})
	err := s.try(ctx, callingBack, r.Key, func(ctx context.Context, c *minio.Core) error {
		err := c.RestoreObject(ctx, s.place.Bucket, s.full(r.Key), r.Version, request)
		if is(err, "RestoreAlreadyInProgress") {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.named(reading, r.Key, &ArchivedError{Key: r.Key, Ready: ready(class)})
}

// ready is when Amazon has brought back what is asked for now. https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
func ready(class string) time.Time {
	switch class {
	case glacier, tiering:
		return time.Now().Add(5 * time.Hour)
	case deepArchive:
		return time.Now().Add(12 * time.Hour)
	}
	return time.Time{}
}
