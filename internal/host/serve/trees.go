package serve

import (
	"context"
	"sync"
	"time"

	"btrfs-backup/internal/host/local"
	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/internal/tree"
	"btrfs-backup/transport/wire"
)

var treeVerbs = map[string]handler{
	protocol.VerbOpenTrees: {treesRole, decoded((*server).openTrees)},
	protocol.VerbListTrees: inTrees(itself, func(ctx context.Context, d *local.Dir, _ protocol.DirName, _ func(any)) (any, error) {
		return d.ListTrees(ctx)
	}),
	protocol.VerbMarkTrees: inTrees(itself, func(ctx context.Context, d *local.Dir, _ protocol.DirName, _ func(any)) (any, error) {
		return d.MarkTrees(ctx)
	}),
	protocol.VerbBeginTree: inTrees(func(c protocol.BeginTreeCall) protocol.DirName { return c.Dir },
		func(ctx context.Context, d *local.Dir, c protocol.BeginTreeCall, _ func(any)) (any, error) {
			return d.BeginTree(ctx, c.Order)
		}),
	protocol.VerbKeepTree: inTrees(func(c protocol.TreeCall) protocol.DirName { return c.Dir },
		func(ctx context.Context, d *local.Dir, c protocol.TreeCall, _ func(any)) (any, error) {
			return nil, d.KeepTree(ctx, c.Name)
		}),
	protocol.VerbFollowTree: inTrees(func(c protocol.TreeCall) protocol.DirName { return c.Dir },
		func(ctx context.Context, d *local.Dir, c protocol.TreeCall, _ func(any)) (any, error) {
			return nil, d.FollowTree(ctx, c.Name)
		}),
	protocol.VerbFinishTree:  inTrees(func(c protocol.FinishTreeCall) protocol.DirName { return c.Dir }, finishTree),
	protocol.VerbDeleteTrees: inTrees(func(c protocol.DeleteTreesCall) protocol.DirName { return c.Dir }, deleteTrees),
	protocol.VerbVerifyTree:  inTrees(func(c protocol.VerifyTreeCall) protocol.DirName { return c.Dir }, verifyTree),
	protocol.VerbExportTree: inTrees(func(c protocol.TreeCall) protocol.DirName { return c.Dir },
		func(ctx context.Context, d *local.Dir, c protocol.TreeCall, notify func(any)) (any, error) {
			return nil, d.ExportTree(ctx, c.Name, notices(notify))
		}),
	protocol.VerbIndexTrees: inTrees(itself, indexTrees),
}

// inTrees makes a handler of a function that works on an open folder of trees.
func inTrees[A any](name func(A) protocol.DirName, do func(ctx context.Context, d *local.Dir, a A, notify func(any)) (any, error)) handler {
	return handler{treesRole, decoded(func(s *server, ctx context.Context, a A, notify func(any)) (any, error) {
		d, err := s.open(name(a))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return do(ctx, d, a, notify)
	})}
}

func (s *server) openTrees(_ context.Context, c protocol.OpenTreesCall, _ func(any)) (any, error) {
	d, err := s.local.OpenTreesDir(c.Path, c.Options)
	if err != nil {
		return nil, err
	}
	return d.Status(), d.Close()
}

func finishTree(ctx context.Context, d *local.Dir, c protocol.FinishTreeCall, notify func(any)) (any, error) {
	read := counting(notify)
	defer read.flush()
	return d.FinishTree(ctx, c.Result, read.add)
}

func indexTrees(ctx context.Context, d *local.Dir, _ protocol.DirName, notify func(any)) (any, error) {
	read := counting(notify)
	defer read.flush()
	return d.IndexTrees(ctx, tree.IndexOptions{Progress: read.add})
}

func deleteTrees(ctx context.Context, d *local.Dir, c protocol.DeleteTreesCall, _ func(any)) (any, error) {
	deleted, err := d.DeleteTrees(ctx, c.Names)
	reply := protocol.DeleteReply{Deleted: deleted}
	if err != nil {
		reply.Failure, _ = protocol.ToWire(err).(*wire.Error)
	}
	return reply, nil
}

func verifyTree(ctx context.Context, d *local.Dir, c protocol.VerifyTreeCall, notify func(any)) (any, error) {
	var told batch[protocol.VerifyNotice]
	told.notify, told.full = notify, func(n protocol.VerifyNotice) bool { return len(n.Found) >= maxDifferences }
	defer told.flush()
	return d.VerifyTree(ctx, c.Name, c.Options, func(diff tree.Difference) {
		told.change(func(n protocol.VerifyNotice) protocol.VerifyNotice {
			n.Found = append(n.Found, diff)
			return n
		})
	}, func(read, total int64) {
		told.change(func(n protocol.VerifyNotice) protocol.VerifyNotice {
			n.Read, n.Total = read, total
			return n
		})
	})
}

// notices is a writer that tells what is written to it.
type notices func(any)

func (n notices) Write(p []byte) (int, error) {
	n(p)
	return len(p), nil
}

// maxDifferences is how many a notice holds.
const maxDifferences = 256

// noticePause is how much time passes between two notices, unless there is much to tell.
const noticePause = 100 * time.Millisecond

// A batch collects what is to be told, so that a slow link has little to carry.
type batch[T any] struct {
	notify func(any)
	full   func(T) bool // tells that it cannot wait; may be nil

	mu     sync.Mutex
	value  T
	some   bool // value is to be told
	toldAt time.Time
}

// change changes what is to be told.
func (b *batch[T]) change(how func(T) T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.value, b.some = how(b.value), true
	if time.Since(b.toldAt) >= noticePause || b.full != nil && b.full(b.value) {
		b.tell()
	}
}

// flush tells the rest.
func (b *batch[T]) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.some {
		b.tell()
	}
}

func (b *batch[T]) tell() {
	b.notify(b.value)
	var empty T
	b.value, b.some, b.toldAt = empty, false, time.Now()
}

// byteCount tells a number of bytes piece by piece.
type byteCount struct{ batch[int64] }

func counting(notify func(any)) *byteCount {
	c := new(byteCount)
	c.notify = notify
	return c
}

func (c *byteCount) add(n int64) { c.change(func(sum int64) int64 { return sum + n }) }
