package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/store/pack"
)

// An Order tells what is to be stored.
type Order struct {
	Source string        // see SourceName
	Set    []string      // see Manifest
	Name   string        // of the snapshot
	Key    string        // identifies the stream: equal keys, equal streams
	Until  time.Time     // nobody can delete the objects before, where the server can see to that; zero: they are not locked
	Class  string        // storage class of all but the manifest; "": the usual one
	Stored func(n int64) // is told of bytes of the stream that are stored
}

// An Upload stores a stream that is written to it. It ends with Commit, Abort or Stop.
type Upload struct {
	store *Store
	Order
	journal *journal
	there   map[string]int64 // sizes of the objects that an earlier attempt left
	ctx     context.Context
	cancel  context.CancelCauseFunc

	pipe *io.PipeWriter
	done chan struct{} // closed when the stream was read to its end, or to a failure
	sum  sendstream.Summary
	hash [16]byte

	storing sync.WaitGroup
	slots   chan struct{} // objects under way
	packing chan struct{} // those of them that are being compressed
	loose   atomic.Int32  // parts that are not compressed, since those before hardly shrank
	mu      sync.Mutex
	objects map[string]Part // what is stored, by key
	kept    int             // objects that were there already
	failure error           // of the bucket, the first one
}

const (
	underWay   = 4
	mostCPUs   = 2 // more would take more memory
	hardly     = 0.95
	tryAgainIn = 15 // parts
)

// A learner is a bucket that needs fewer requests once it knows the server.
type learner interface {
	// Learn may store once more what there is under a key.
	Learn(ctx context.Context, key string, content []byte)
}

// Begin begins to store a stream, or goes on where an earlier attempt ended.
func (s *Store) Begin(ctx context.Context, o Order) (*Upload, error) {
	if b, ok := s.bucket.(learner); ok {
		b.Learn(ctx, formatKey, s.format)
	}
	u := &Upload{store: s, Order: o}
	if err := u.open(ctx); err != nil {
		return nil, err
	}
	if len(u.there) > 0 {
		s.Log.Info(fmt.Sprintf("%s: %s goes on: %d objects of it are there already", s, o.Name, len(u.there)))
	}
	u.start(ctx)
	return u, nil
}

// open opens the journal, and looks for what is there. An attempt that became a backup, which is stored once more, is no beginning, nor
// is one for other recipients: one backup must not take two keys to read.
func (u *Upload) open(ctx context.Context) (err error) {
	for {
		if u.journal, err = u.store.openJournal(u.store.journalPath(u.Key+u.store.recipientsID()), u.Source, u.Name); err != nil {
			return err
		}
		if u.there = nil; len(u.journal.entries) == 0 {
			return nil
		}
		if u.there, err = u.store.sizes(ctx, u.journal.dir); err != nil {
			return errors.Join(err, u.journal.file.Close())
		}
		if _, committed := u.there[u.journal.dir+manifestName]; !committed {
			return nil
		}
		if err := u.journal.remove(); err != nil {
			return err
		}
	}
}

// start begins to read a stream from its beginning.
func (u *Upload) start(ctx context.Context) {
	u.ctx, u.cancel = context.WithCancelCause(ctx)
	r, w := io.Pipe()
	u.pipe, u.done = w, make(chan struct{})
	u.slots, u.packing = make(chan struct{}, underWay), make(chan struct{}, min(runtime.NumCPU(), mostCPUs))
	u.objects = make(map[string]Part)
	ended := context.AfterFunc(u.ctx, func() { r.CloseWithError(context.Cause(u.ctx)) })
	go func() {
		defer ended()
		defer close(u.done)
		err := u.read(r)
		if err != nil {
			u.cancel(err)
		}
		r.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
	}()
}

// Again makes the stream begin once more, after a connection was lost.
func (u *Upload) Again(ctx context.Context) (err error) {
	u.wait(errors.New("it begins once more"))
	u.there, err = u.store.sizes(ctx, u.journal.dir)
	u.start(ctx)
	return err
}

// Write takes the next bytes of the stream.
func (u *Upload) Write(p []byte) (int, error) { return u.pipe.Write(p) }

// read cuts the stream, which is checked on the way.
func (u *Upload) read(from io.Reader) error {
	hash := xxh3.New()
	r := sendstream.NewReader(io.TeeReader(from, hash))
	cut := &cutter{size: int(u.store.partSize()), emit: u.emit}
	defer cut.drop()
	for begun := false; ; begun = true {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if !begun {
			if err := cut.add(sendstream.Header(r.Summary().Protocol)); err != nil {
				return err
			}
		}
		if err := cut.command(c); err != nil {
			return err
		}
	}
	if err := cut.finish(); err != nil {
		return err
	}
	u.sum, u.hash = r.Summary(), hash.Sum128().Bytes()
	return nil
}

// emit stores an object as soon as there is room for it, and a processor: parts that wait for one would take memory for nothing.
func (u *Upload) emit(kind string, n int, plain *pack.Buffer) error {
	for _, free := range []chan struct{}{u.slots, u.packing} {
		select {
		case free <- struct{}{}:
		case <-u.ctx.Done():
			plain.Free()
			return context.Cause(u.ctx)
		}
	}
	u.storing.Go(func() {
		defer func() { <-u.slots }()
		packed := sync.OnceFunc(func() { <-u.packing })
		defer packed()
		defer plain.Free()
		if err := u.put(partKey(u.journal.dir, kind, n), plain, packed); err != nil {
			u.cancel(err)
		}
	})
	return nil
}

// put stores an object, unless it is there, and tells when it needs no processor any more.
func (u *Upload) put(key string, plain *pack.Buffer, done func()) error {
	sum, length := xxh3.Hash128(plain.Bytes()).Bytes(), int64(plain.Len())
	if known, ok := u.journal.of(key); ok {
		size, there := u.there[key]
		same := bytes.Equal(known.Plain, sum[:]) && known.Length == length
		switch {
		case there && same && size == known.Size:
			u.note(key, Part{size, known.SHA256, length}, true)
			return nil
		case !same:
			return sendstream.ErrPrefixDiffers
		}
	}
	if _, there := u.there[key]; there {
		return fmt.Errorf("%w: nothing is known of %s", sendstream.ErrPrefixDiffers, path.Base(key))
	}
	packed, digest, err := u.pack(plain)
	if err != nil {
		return err
	}
	done()
	defer packed.Free()
	size := int64(packed.Len())
	if err := u.journal.write(entry{Key: key, Plain: sum[:], Length: length, Size: size, SHA256: digest}); err != nil {
		return err
	}
	err = u.store.putOnce(u.ctx, key, packed.Bytes(), object.PutOptions{SHA256: digest, Until: u.Until, Class: u.Class})
	if errors.Is(err, fs.ErrExist) {
		return errors.Join(errOvertaken, err)
	}
	if err != nil {
		return u.failed(err)
	}
	failpoint.Reach("stored")
	u.note(key, Part{size, digest, length}, false)
	return nil
}

// failed notes a failure of the bucket.
func (u *Upload) failed(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure == nil {
		u.failure = err
	}
	return err
}

// Failure gives the first failure of the bucket; nil if there was none, whatever else went wrong.
func (u *Upload) Failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failure
}

func (u *Upload) note(key string, p Part, kept bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.objects[key] = p
	if kept {
		u.kept++
	}
	if u.Stored != nil && strings.HasPrefix(path.Base(key), dataName) {
		u.Stored(p.Plain)
	}
}

// putOnce stores an object. One that is there is no failure if it is the same: the answer to an earlier request was lost.
func (s *Store) putOnce(ctx context.Context, key string, content []byte, o object.PutOptions) error {
	err := s.bucket.Put(ctx, key, content, o)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	digest := sha256.Sum256(content)
	if there, statErr := s.bucket.Stat(ctx, object.Ref{Key: key}); statErr == nil && bytes.Equal(there.SHA256, digest[:]) {
		return nil
	}
	return err
}

// errOvertaken is fs.ErrExist for a part: what an attempt sent before it was killed arrived after all. It begins anew.
var errOvertaken = fmt.Errorf("%w: an object arrived late", sendstream.ErrPrefixDiffers)

// pack compresses and encrypts a part, of which nothing is needed any more then, and gives the SHA-256 of what comes of it.
func (u *Upload) pack(plain *pack.Buffer) (packed *pack.Buffer, sum []byte, err error) {
	defer plain.Free()
	size := plain.Len()
	packed = pack.NewBuffer(size + size/1000 + 4096)
	hash := sha256.New()
	sealing, err := u.store.Recipients.Encrypt(io.MultiWriter(packed, hash))
	if err != nil {
		packed.Free()
		return nil, nil, fmt.Errorf("encrypting: %w", err)
	}
	if u.loose.Load() > 0 {
		u.loose.Add(-1)
		err = pack.Raw(sealing, plain)
	} else {
		err = pack.Compress(sealing, plain)
		if float64(packed.Len()) > hardly*float64(size) {
			u.loose.Store(tryAgainIn)
		}
	}
	if err = cmp.Or(err, sealing.Close()); err != nil {
		packed.Free()
		return nil, nil, fmt.Errorf("compressing and encrypting: %w", err)
	}
	return packed, hash.Sum(nil), nil
}

// wait ends all that goes on.
func (u *Upload) wait(why error) {
	u.cancel(why)
	u.pipe.CloseWithError(why)
	<-u.done
	u.storing.Wait()
}

// Close ends the stream, waits until all of it is stored, and tells what it is.
func (u *Upload) Close() (sendstream.Summary, error) {
	u.pipe.Close()
	<-u.done
	u.storing.Wait()
	return u.sum, context.Cause(u.ctx)
}

// Dir gives the directory of its objects.
func (u *Upload) Dir() string { return u.journal.dir }

// Kept gives how many objects were there from an earlier attempt.
func (u *Upload) Kept() int { return u.kept }

// Commit makes a backup of what was stored. Source is the subvolume of which the snapshot was taken.
func (u *Upload) Commit(ctx context.Context, source btrfs.UUID, made time.Time, p Private) (_ *Backup, err error) {
	u.cancel(errors.New("it is complete"))
	p.Stream = u.hash[:]
	m := &Manifest{Version: version, Dir: u.journal.dir, Name: u.Name, UUID: u.sum.UUID, TransID: u.sum.TransID, Parent: u.sum.ParentUUID,
		ParentID: u.sum.ParentTransID, Source: source, Made: made.UTC(), Locked: u.Until, Protocol: u.sum.Protocol, Bytes: u.sum.Bytes,
		Parts: u.stored(dataName), Names: u.stored(namesName), Set: u.Set, Attributes: p.Attributes != nil, For: u.store.recipientsID(),
		Signer: u.store.Signer.PublicKey()}
	if m.Sealed, err = u.store.sealPrivate(p); err != nil {
		return nil, err
	}
	if m.Sequence, err = u.store.sequence(ctx, u.Source); err != nil {
		return nil, u.failed(err)
	}
	if err := u.store.commit(ctx, u.Source, m); err != nil {
		return nil, u.failed(err)
	}
	if err := u.journal.remove(); err != nil {
		u.store.Log.Debug("removing a journal: " + err.Error())
	}
	return &Backup{Manifest: *m, Committed: m.Made}, nil
}

// commit signs and stores a manifest, whose objects are stored, and adds it to the index.
func (s *Store) commit(ctx context.Context, source string, m *Manifest) error {
	content, err := s.encode(m)
	if err != nil {
		return err
	}
	failpoint.Reach("all stored")
	if err := s.putOnce(ctx, m.Dir+manifestName, content, object.PutOptions{Until: m.Locked}); err != nil {
		return err
	}
	failpoint.Reach("manifest stored")
	if err := s.changeIndex(ctx, source, func(manifests map[string][]byte) { manifests[m.Dir] = content }); err != nil {
		s.Log.Warn(fmt.Sprintf("%s: %s is stored, but not in the index, so that listing takes longer: %v", s, m.Name, err))
	}
	return nil
}

// stored gives the parts of a kind, in order.
func (u *Upload) stored(kind string) (parts []Part) {
	for {
		p, ok := u.objects[partKey(u.journal.dir, kind, len(parts))]
		if !ok {
			return parts
		}
		parts = append(parts, p)
	}
}

// Stop ends the upload. What was stored stays for a later one.
func (u *Upload) Stop() error {
	u.wait(errors.New("the transfer was given up"))
	return u.journal.file.Close()
}

// Abort ends the upload, and removes what was stored, as far as that is allowed.
func (u *Upload) Abort(ctx context.Context) error {
	u.wait(errors.New("the transfer was given up"))
	keys := []string{u.journal.dir + manifestName} // first: it may have been stored although that failed
	err := u.store.bucket.List(ctx, u.journal.dir, func(i object.Info) error { keys = append(keys, i.Key); return nil })
	if err == nil {
		err = u.store.bucket.Delete(ctx, keys)
	}
	if errors.Is(err, fs.ErrPermission) {
		u.store.Log.Debug("removing what was stored: " + err.Error())
		err = nil
	}
	return errors.Join(err, u.journal.remove())
}
