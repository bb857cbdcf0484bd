// Package object keeps objects in a bucket: in one of an S3-compatible server, or in a folder.
//
// An object is written once and as a whole, under a key that no other gets; what is replaced on purpose says so. What was put is on
// disk, and is what was to be put, since its SHA-256 goes with it. A key consists of names that are separated by slashes; no name
// begins with a dot.
//
// Errors say what could not be done with which key. A missing object is fs.ErrNotExist, one that is in the way is fs.ErrExist, what
// the credentials do not allow is fs.ErrPermission. A server that cannot be reached, or that refuses for a while, is
// transport.ErrUnreachable: it was tried again for some time before.
package object

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Bucket holds objects.
type Bucket interface {
	// String names the place as people know it.
	String() string
	// List visits the objects whose keys begin with a prefix, ordered by key. Where a server keeps several versions of one, it is the
	// oldest: whoever stole the credentials can only add newer ones. An error of visit ends it, and is returned.
	List(ctx context.Context, prefix string, visit func(Info) error) error
	// Get reads length bytes of an object from an offset on; a length below 0 is all that follows. The reader must be closed.
	Get(ctx context.Context, r Ref, offset, length int64) (io.ReadCloser, error)
	// Put writes an object. It keeps nothing of the content.
	Put(ctx context.Context, key string, content []byte, o PutOptions) error
	// Stat looks at an object, and finds out its SHA-256 unless that would mean to transfer it.
	Stat(ctx context.Context, r Ref) (Info, error)
	// Delete deletes what it can of objects, in this order, and all versions of each. One that is missing is no failure.
	Delete(ctx context.Context, keys []string) error
}

// A Ref names an object.
type Ref struct {
	Key     string
	Version string // "": the newest
}

// Info tells of an object.
type Info struct {
	Ref
	Size     int64
	Modified time.Time
	SHA256   []byte    // nil: it is not known
	Locked   time.Time // until then nobody can delete it; zero: it is not locked, or that was not asked for
	Class    string    // storage class of the server; "" is the usual one
	Archived bool      // it must be called back before it can be read
	Versions int       // how many there are of it, if the server keeps several
}

// PutOptions tell how an object is kept.
type PutOptions struct {
	SHA256  []byte    // of the content, if it is known
	Replace bool      // one under the same key
	Until   time.Time // locked until then, where the server can; zero: not at all
	Class   string    // storage class of the server; "" is the usual one
}

// An ArchivedError tells that an object must be called back from an archive before it can be read, which was asked for.
type ArchivedError struct {
	Key   string
	Ready time.Time // when it can be read, by what the server usually takes; zero: unknown
}

func (e *ArchivedError) Error() string {
	return fmt.Sprintf("%s is in an archive, and was called back", e.Key)
}

// What a bucket of backups holds, as whoever guards it needs to know.
const (
	CanaryKey     = "canary"   // is put first
	FormatKey     = "format"   // is put next: then it is a store
	IndexPrefix   = "index/"   // what is below can be made again, and is replaced
	BackupsPrefix = "backups/" // backups, of each what ManifestName tells, and parts
	ManifestName  = "manifest"
)

// ErrBadContent says that what a server received, or a folder holds, is not what was put.
var ErrBadContent = errors.New("the content is not what was put")

// ErrTooLarge says that an object is larger than a small one can be.
var ErrTooLarge = errors.New("is too large")

// CheckKey refuses what is no key.
func CheckKey(key string) error {
	for name := range strings.SplitSeq(key, "/") {
		if name == "" || strings.HasPrefix(name, ".") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return fmt.Errorf("%q is no key of an object", key)
		}
	}
	return nil
}

// Read gives the content of a small object.
func Read(ctx context.Context, b Bucket, r Ref) (content []byte, err error) {
	const most = 256 << 20
	body, err := b.Get(ctx, r, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	content, err = io.ReadAll(io.LimitReader(body, most+1))
	if err == nil && len(content) > most {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", r.Key, b, err)
	}
	return content, nil
}

// sumOf gives the SHA-256 of a reader.
func sumOf(r io.Reader) ([]byte, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}
