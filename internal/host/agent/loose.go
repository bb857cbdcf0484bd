package agent

import (
	"cmp"
	"context"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (d *dir) FindFiles(ctx context.Context, s files.Selection) ([]files.Found, error) {
	return protocol.FindFiles.Call(ctx, d.host, protocol.SelectCall{Dir: d.name(), Selection: s})
}

// PackFiles ends with the connection.
func (d *dir) PackFiles(ctx context.Context, s files.Selection, total func(int64), take func([]files.Record) error) (files.Packed, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return protocol.PackFiles.CallTold(ctx, d.host, protocol.SelectCall{Dir: d.name(), Selection: s}, func(n protocol.PackNotice) {
		if n.Total > 0 && total != nil {
			total(n.Total)
		}
		if len(n.Records) > 0 && ctx.Err() == nil {
			if err := take(n.Records); err != nil {
				cancel(err)
			}
		}
	})
}

func (d *dir) PlaceFiles(ctx context.Context, o files.Order) ([]files.Placed, error) {
	return protocol.PlaceFiles.Call(ctx, d.host, protocol.OrderCall{Dir: d.name(), Order: o})
}

// CopyFiles is done there alone.
func (d *dir) CopyFiles(ctx context.Context, s files.Selection, to host.FilesTarget, progress func(done, total int64)) (files.Packed, files.Report, error) {
	reply, err := protocol.CopyFiles.CallTold(ctx, d.host, protocol.CopyFilesCall{Dir: d.name(), Selection: s, To: to}, func(n protocol.CopyFilesNotice) {
		if progress != nil {
			progress(n.Done, n.Total)
		}
	})
	return reply.Packed, reply.Report, cmp.Or(err, reply.Err())
}

// batchesAhead is how many batches are under way, so that a far machine need not wait for each.
const batchesAhead = 4

// UnpackFiles writes on the connection that it begins on, and ends with that.
func (d *dir) UnpackFiles(ctx context.Context, o files.Order, placed []files.Placed) (host.Unpacking, error) {
	conn, err := d.host.reach(ctx)
	if err != nil {
		return nil, err
	}
	on := protocol.Direct{Conn: conn}
	id, err := protocol.UnpackFiles.Call(ctx, on, protocol.OrderCall{Dir: d.name(), Order: o, Placed: placed})
	if err != nil {
		return nil, err
	}
	return &unpacking{on: on, id: id, room: make(chan struct{}, batchesAhead)}, nil
}

type unpacking struct {
	on     protocol.Direct
	id     uint64
	number uint64
	room   chan struct{}
	calls  sync.WaitGroup

	mu  sync.Mutex
	err error // the first
}

func (u *unpacking) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *unpacking) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil && u.err == nil {
		u.err = err
	}
}

// Take does not wait for the records to be written.
func (u *unpacking) Take(ctx context.Context, records []files.Record) error {
	select {
	case u.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	call := protocol.UnpackBatchCall{ID: u.id, Number: u.number, Records: records}
	u.number++
	u.calls.Go(func() {
		defer func() { <-u.room }()
		_, err := protocol.UnpackBatch.Call(ctx, u.on, call)
		u.fail(err)
	})
	return u.failure()
}

func (u *unpacking) End(ctx context.Context, complete bool) (files.Report, error) {
	u.calls.Wait()
	failed := u.failure()
	reply, err := protocol.UnpackEnd.Call(ctx, u.on, protocol.UnpackEndCall{ID: u.id, Complete: complete && failed == nil})
	return reply.Report, cmp.Or(failed, err, reply.Err())
}
