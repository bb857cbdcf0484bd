package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

var _ host.Objects = (*Host)(nil)

// piecesAhead is how many pieces of objects are under way at a time, and of one that is read.
const (
	piecesAhead = 16
	readAhead   = 4
)

// OpenObjects opens a folder of objects.
func (h *Host) OpenObjects(ctx context.Context, path string) (object.Bucket, io.Closer, error) {
	status, err := protocol.Open.Call(ctx, h, protocol.Dir{Path: path})
	if err != nil {
		return nil, nil, err
	}
	d := &dir{h, status}
	return &objects{d, make(chan struct{}, piecesAhead)}, d, nil
}

// objects is a bucket that is a folder of the machine. Any number of objects are read and written over the one connection: they
// are encrypted, and so not compressed.
type objects struct {
	dir  *dir
	room chan struct{} // holds a value for each piece under way
}

func (b *objects) String() string { return b.dir.host.String() + b.dir.status.Path }

func (b *objects) about(key string) protocol.ObjectCall {
	return protocol.ObjectCall{Dir: b.dir.name(), Key: key}
}

// enter waits for room for a piece.
func (b *objects) enter(ctx context.Context) error {
	select {
	case b.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *objects) leave() { <-b.room }

// named tells of an error of the connection what was under way. Others tell that themselves.
func (b *objects) named(doing, what string, err error) error {
	if errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable) {
		return fmt.Errorf("%s %s of %s: %w", doing, what, b, err)
	}
	return err
}

// List asks for pages, so that visit may call the host.
func (b *objects) List(ctx context.Context, prefix string, visit func(object.Info) error) error {
	call := protocol.ListObjectsCall{Dir: b.dir.name(), Prefix: prefix}
	for {
		page, err := protocol.ListObjects.Call(ctx, b.dir.host, call)
		if err != nil {
			return b.named("listing", prefix, err)
		}
		for _, i := range page.Objects {
			if err := visit(i); err != nil {
				return err
			}
			call.After = i.Key
		}
		if !page.More {
			return nil
		}
	}
}

// Stat finds out the SHA-256 there.
func (b *objects) Stat(ctx context.Context, r object.Ref) (object.Info, error) {
	info, err := protocol.StatObject.Call(ctx, b.dir.host, b.about(r.Key))
	return info, b.named("reading", r.Key, err)
}

// Delete tells of what was not deleted there.
func (b *objects) Delete(ctx context.Context, keys []string) error {
	var errs []error
	for some := range slices.Chunk(keys, protocol.ObjectsPage) {
		_, err := protocol.DeleteObjects.Call(ctx, b.dir.host, protocol.DeleteObjectsCall{Dir: b.dir.name(), Keys: some})
		errs = append(errs, b.named("deleting", some[0], err))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// Put sends an object in pieces. If the connection breaks, all of it is sent again.
func (b *objects) Put(ctx context.Context, key string, content []byte, o object.PutOptions) error {
	call := protocol.PutObjectCall{ObjectCall: b.about(key), Size: int64(len(content)), SHA256: o.Sum(content), Replace: o.Replace}
	const attempts = 5
	for failed := 0; ; call.Again = true {
		err := b.put(ctx, call, content)
		if failed++; !errors.Is(err, transport.ErrDisconnected) || ctx.Err() != nil || failed == attempts {
			return b.named("storing", key, err)
		}
		b.dir.host.o.Log.Debug(fmt.Sprintf("%s: storing %s: %v; connecting again", b, key, err))
	}
}

// put sends it over one connection.
func (b *objects) put(ctx context.Context, call protocol.PutObjectCall, content []byte) error {
	conn, err := b.dir.host.reach(ctx)
	if err != nil {
		return err
	}
	on := protocol.Direct{Conn: conn}
	first := min(len(content), protocol.ObjectPiece)
	call.Content = content[:first]
	if err := b.enter(ctx); err != nil {
		return err
	}
	reply, err := b.begin(ctx, on, call)
	if err != nil || reply.Done {
		return err
	}
	err = b.write(ctx, on, reply.ID, content, first)
	if err != nil {
		go b.giveUp(on, reply.ID)
		return err
	}
	_, err = protocol.EndObject.Call(ctx, on, protocol.EndObjectCall{ID: reply.ID, Complete: true})
	return err
}

// begin sends the first piece. What was begun when ctx ended is given up as soon as it is known.
func (b *objects) begin(ctx context.Context, on protocol.Direct, call protocol.PutObjectCall) (protocol.PutObjectReply, error) {
	var reply protocol.PutObjectReply
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		defer b.leave()
		reply, err = protocol.PutObject.Call(context.WithoutCancel(ctx), on, call)
	}()
	select {
	case <-answered:
		return reply, err
	case <-ctx.Done():
	}
	go func() {
		if <-answered; err == nil && !reply.Done {
			b.giveUp(on, reply.ID)
		}
	}()
	return protocol.PutObjectReply{}, context.Cause(ctx)
}

// write sends the pieces from an offset on.
func (b *objects) write(ctx context.Context, on protocol.Direct, id uint64, content []byte, offset int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sending sync.WaitGroup
	for ; offset < len(content); offset += protocol.ObjectPiece {
		if b.enter(ctx) != nil {
			break
		}
		call := protocol.WriteObjectCall{ID: id, Offset: int64(offset), Content: content[offset:min(len(content), offset+protocol.ObjectPiece)]}
		sending.Go(func() {
			defer b.leave()
			if _, err := protocol.WriteObject.Call(ctx, on, call); err != nil {
				cancel(err)
			}
		})
	}
	sending.Wait()
	return context.Cause(ctx)
}

// giveUp removes what was sent. It goes with the connection otherwise.
func (b *objects) giveUp(on protocol.Direct, id uint64) {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, _ = protocol.EndObject.Call(ctx, on, protocol.EndObjectCall{ID: id})
}

// Get reads ahead of the reader, and goes on after a connection that broke.
func (b *objects) Get(ctx context.Context, r object.Ref, offset, length int64) (io.ReadCloser, error) {
	call := protocol.ReadObjectCall{ObjectCall: b.about(r.Key), Offset: offset, Length: protocol.ObjectPiece}
	if length >= 0 {
		call.Length = min(call.Length, length)
	}
	first, err := b.read(ctx, call)
	if err != nil {
		return nil, b.named("reading", r.Key, err)
	}
	end := first.Size
	if length >= 0 && length < first.Size-offset {
		end = offset + length
	}
	ctx, cancel := context.WithCancel(ctx)
	reader := &objectReader{bucket: b, ctx: ctx, cancel: cancel, rest: first.Content, end: end}
	call.Offset += int64(len(first.Content))
	call.Same = first.File
	reader.next = call
	return reader, nil
}

func (b *objects) read(ctx context.Context, call protocol.ReadObjectCall) (protocol.ReadObjectReply, error) {
	if err := b.enter(ctx); err != nil {
		return protocol.ReadObjectReply{}, err
	}
	defer b.leave()
	return protocol.ReadObject.Call(ctx, b.dir.host, call)
}

// objectReader is an object that is being read.
type objectReader struct {
	bucket *objects
	ctx    context.Context
	cancel context.CancelFunc
	rest   []byte
	next   protocol.ReadObjectCall // the one to make
	end    int64                   // where what is to be read ends
	ahead  []chan piece            // those under way, in order
	err    error
}

type piece struct {
	content []byte
	err     error
}

func (r *objectReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.ask()
		if len(r.ahead) == 0 {
			return 0, io.EOF
		}
		came := <-r.ahead[0]
		r.ahead = r.ahead[1:]
		r.rest, r.err = came.content, came.err
	}
	r.ask()
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// ask asks for what comes next.
func (r *objectReader) ask() {
	for len(r.ahead) < readAhead && r.next.Offset < r.end && r.err == nil {
		call := r.next
		call.Length = min(protocol.ObjectPiece, r.end-call.Offset)
		r.next.Offset += call.Length
		came := make(chan piece, 1)
		r.ahead = append(r.ahead, came)
		go func() {
			reply, err := r.bucket.read(r.ctx, call)
			if err == nil && int64(len(reply.Content)) != call.Length {
				err = fmt.Errorf("reading %s of %s: %w", call.Key, r.bucket, io.ErrUnexpectedEOF)
			}
			came <- piece{reply.Content, r.bucket.named("reading", call.Key, err)}
		}()
	}
}

// Close gives up what was not read.
func (r *objectReader) Close() error {
	r.cancel()
	r.rest, r.err = nil, errClosed
	return nil
}

var errClosed = errors.New("it is closed")
