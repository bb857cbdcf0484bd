package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// Stream gives the stream of a backup, as it was. Each part is compared with its SHA-256 before anything of it is decrypted, and the whole
// with the sum that was taken when it was stored before it ends. Parts are fetched ahead as soon as the first one was read. It must be
// closed.
func (s *Store) Stream(ctx context.Context, m *Manifest, ids seal.Identities) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	return &reader{store: s, manifest: m, ids: ids, ctx: ctx, cancel: cancel, sum: xxh3.New()}
}

// A reader reads the parts of a backup one behind the other.
type reader struct {
	store    *Store
	manifest *Manifest
	ids      seal.Identities
	ctx      context.Context
	cancel   context.CancelFunc

	part  io.Reader // the current one; nil between two
	left  int64     // bytes of the stream that are to come of it
	next  int       // the one after it
	ahead []chan fetched
	begun int // parts that are being fetched, or were
	sum   *xxh3.Hasher
	err   error // the end: nothing is read behind an error, or a part would be missing that nobody misses
}

type fetched struct {
	content []byte
	err     error
}

func (r *reader) Read(p []byte) (n int, err error) {
	for n == 0 && r.err == nil {
		n, r.err = r.read(p)
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// read reads from the current part, or begins the next one.
func (r *reader) read(p []byte) (n int, err error) {
	if r.part == nil {
		if r.next == len(r.manifest.Parts) {
			return 0, r.end()
		}
		return 0, r.open()
	}
	n, err = r.part.Read(p)
	_, _ = r.sum.Write(p[:n]) // which never fails
	if r.left -= int64(n); errors.Is(err, io.EOF) {
		r.part, err = nil, nil
		if r.left != 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		err = fmt.Errorf("reading part %d of %s: %w", r.next-1, r.manifest.Name, err)
	}
	return n, err
}

// end is io.EOF if what was read is what was stored.
func (r *reader) end() error {
	private, err := r.manifest.Private(r.ids)
	if err != nil {
		return err
	}
	if got := r.sum.Sum128().Bytes(); !bytes.Equal(got[:], private.Stream) {
		return &PartError{r.manifest, fmt.Errorf("the stream %w: it is another one than was stored", ErrDamaged)}
	}
	return io.EOF
}

// open begins the next part.
func (r *reader) open() error {
	ahead := underWay
	if r.next == 0 {
		ahead = 1 // perhaps no more than the head of the stream is wanted
	}
	for r.begun < min(r.next+ahead, len(r.manifest.Parts)) {
		n, result := r.begun, make(chan fetched, 1)
		r.ahead, r.begun = append(r.ahead, result), r.begun+1
		go func() {
			content, err := r.store.fetch(r.ctx, anObject{partKey(r.manifest.Dir, dataName, n), r.manifest.Parts[n]})
			result <- fetched{content, err}
		}()
	}
	got := <-r.ahead[0]
	r.ahead, r.next = r.ahead[1:], r.next+1
	if got.err != nil {
		return &PartError{r.manifest, got.err}
	}
	plain, err := unpack(bytes.NewReader(got.content), r.ids)
	if err != nil {
		return fmt.Errorf("reading part %d of %s: %w", r.next-1, r.manifest.Name, err)
	}
	r.part, r.left = plain, r.manifest.Parts[r.next-1].Plain
	return nil
}

// Close ends the fetching.
func (r *reader) Close() error {
	r.cancel()
	return nil
}

// ErrDamaged says that an object is not what the manifest tells.
var ErrDamaged = errors.New("is damaged")

// isMissing is what may be wrong with an object.
const isMissing = "it is missing"

// A PartError tells of which backup a part could not be fetched.
type PartError struct {
	Backup *Manifest
	Err    error
}

func (e *PartError) Error() string { return e.Backup.Name + ": " + e.Err.Error() }
func (e *PartError) Unwrap() error { return e.Err }

// A LostError tells that a backup cannot be restored since another one cannot.
type LostError struct{ On, Why string }

func (e *LostError) Error() string { return e.On + ", on which it builds, " + e.Why }

// damaged tells what is wrong with an object.
func (s *Store) damaged(key, why string) error {
	return fmt.Errorf("%s of %s %w: %s", path.Base(key), s, ErrDamaged, why)
}

// fetch reads an object, and compares it with what the manifest tells. One that is missing is damaged.
func (s *Store) fetch(ctx context.Context, o anObject) (content []byte, err error) {
	err = s.tryVersions(ctx, o.key, func(r object.Ref) (err error) {
		content, err = s.fetchVersion(ctx, r, o)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = s.damaged(o.key, isMissing)
	}
	return content, err
}

// tryVersions reads the newest version of an object or, if that is damaged or missing, the oldest one: where the server keeps versions,
// whoever stole the credentials can only add newer ones.
func (s *Store) tryVersions(ctx context.Context, key string, read func(object.Ref) error) error {
	err := read(object.Ref{Key: key})
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	first, listErr := s.first(ctx, key)
	switch {
	case listErr == nil && first.Version != "":
		return read(first)
	case listErr != nil && !errors.Is(listErr, fs.ErrNotExist):
		return listErr
	}
	return err
}

// first gives the oldest version of an object.
func (s *Store) first(ctx context.Context, key string) (first object.Ref, err error) {
	errFound := errors.New("found")
	err = s.bucket.List(ctx, key, func(i object.Info) error {
		if i.Key != key {
			return nil
		}
		first = i.Ref
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return first, nil
	case err == nil:
		err = fmt.Errorf("%s of %s: %w", key, s, fs.ErrNotExist)
	}
	return first, err
}

func (s *Store) fetchVersion(ctx context.Context, r object.Ref, o anObject) (content []byte, err error) {
	body, err := s.bucket.Get(ctx, r, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	content = make([]byte, o.Size)
	if n, err := io.ReadFull(body, content); errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, s.damaged(o.key, fmt.Sprintf("it has %d bytes in place of %d", n, o.Size))
	} else if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", o.key, s, err)
	}
	if sum := sha256.Sum256(content); !bytes.Equal(sum[:], o.SHA256) {
		return nil, s.damaged(o.key, "it has another SHA-256")
	}
	return content, nil
}

// unpack decrypts and decompresses.
func unpack(from io.Reader, ids seal.Identities) (io.ReadCloser, error) {
	plain, err := ids.Decrypt(from)
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPartSize))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
