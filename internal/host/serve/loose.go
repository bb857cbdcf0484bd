package serve

import (
	"context"
	"errors"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) findFiles(ctx context.Context, d *local.Dir, c protocol.SelectCall) ([]files.Found, error) {
	return d.Loose().FindFiles(ctx, c.Selection)
}

func (s *server) packFiles(ctx context.Context, d *local.Dir, c protocol.SelectCall, tell func(protocol.PackNotice)) (files.Packed, error) {
	return d.Loose().PackFiles(ctx, c.Selection, func(bytes int64) { tell(protocol.PackNotice{Total: bytes}) }, func(records []files.Record) error {
		tell(protocol.PackNotice{Records: records})
		return context.Cause(ctx)
	})
}

func (s *server) placeFiles(ctx context.Context, d *local.Dir, c protocol.OrderCall) ([]files.Placed, error) {
	return d.Loose().PlaceFiles(ctx, c.Order)
}

func (s *server) copyFiles(ctx context.Context, d *local.Dir, c protocol.CopyFilesCall, tell func(protocol.CopyFilesNotice)) (protocol.CopyFilesReply, error) {
	told := batch[protocol.CopyFilesNotice]{tell: tell}
	packed, report, err := d.Loose().CopyFiles(ctx, c.Selection, c.To, func(done, total int64) {
		told.change(func(n *protocol.CopyFilesNotice) { n.Done, n.Total = done, total })
	})
	told.flush()
	return protocol.CopyFilesReply{Packed: packed, Report: report}.Fail(err), nil
}

// unpacking is one that a client feeds with batches.
type unpacking struct {
	dir   *local.Dir
	under host.Unpacking

	mu   sync.Mutex
	turn *sync.Cond
	next uint64 // number of the batch whose turn it is
	err  error  // why no more are taken
}

// unpackFiles begins an unpacking, which ends with the connection.
func (s *server) unpackFiles(ctx context.Context, c protocol.OrderCall) (id uint64, err error) {
	d, err := s.open(c.Dir)
	if err != nil {
		return 0, err
	}
	under, err := d.Loose().UnpackFiles(ctx, c.Order, c.Placed)
	if err != nil {
		d.Close()
		return 0, err
	}
	u := &unpacking{dir: d, under: under}
	u.turn = sync.NewCond(&u.mu)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastUnpacking++
	s.unpackings[s.lastUnpacking] = u
	return s.lastUnpacking, nil
}

var errNoUnpacking = errors.New("no such restore is under way")

func (s *server) unpackBatch(ctx context.Context, c protocol.UnpackBatchCall) (none protocol.Nothing, err error) {
	s.mu.Lock()
	u := s.unpackings[c.ID]
	s.mu.Unlock()
	if u == nil {
		return none, errNoUnpacking
	}
	return none, u.take(ctx, c.Number, c.Records)
}

// take waits for the turn of a batch.
func (u *unpacking) take(ctx context.Context, number uint64, records []files.Record) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.turn.Broadcast()
	})
	defer stop()
	for u.next != number && u.err == nil && ctx.Err() == nil {
		u.turn.Wait()
	}
	switch {
	case u.err != nil:
		return u.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	u.err = u.under.Take(ctx, records)
	u.next++
	u.turn.Broadcast()
	return u.err
}

func (u *unpacking) end(ctx context.Context, complete bool) (files.Report, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	report, err := u.under.End(ctx, complete && u.err == nil)
	u.err = errNoUnpacking
	u.turn.Broadcast()
	return report, errors.Join(err, u.dir.Close())
}

func (s *server) unpackEnd(ctx context.Context, c protocol.UnpackEndCall) (protocol.CopyFilesReply, error) {
	s.mu.Lock()
	u := s.unpackings[c.ID]
	delete(s.unpackings, c.ID)
	s.mu.Unlock()
	if u == nil {
		return protocol.CopyFilesReply{}, errNoUnpacking
	}
	report, err := u.end(ctx, c.Complete)
	return protocol.CopyFilesReply{Report: report}.Fail(err), nil
}

// dropUnpackings gives up what ended with the connection.
func (s *server) dropUnpackings() {
	s.mu.Lock()
	unpackings := s.unpackings
	s.unpackings = nil
	s.mu.Unlock()
	for _, u := range unpackings {
		_, _ = u.end(s.ctx, false)
	}
}
