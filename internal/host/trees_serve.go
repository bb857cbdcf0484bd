package host

import (
	"context"
	"sync"
	"time"

	"btrfs-backup/internal/tree"
	"btrfs-backup/transport/wire"
)

// The verbs of the agent for backups of directory trees, as those in verbs.go.
const (
	verbOpenTrees   = "open-trees"   // openTreesCall -> Status
	verbListTrees   = "list-trees"   // dirName -> tree.Listing
	verbMarkTrees   = "mark-trees"   // dirName -> string
	verbBeginTree   = "begin-tree"   // beginTreeCall -> tree.Work
	verbKeepTree    = "keep-tree"    // treeCall
	verbFollowTree  = "follow-tree"  // treeCall; it ends when it is cancelled
	verbFinishTree  = "finish-tree"  // finishTreeCall -> tree.Record; bytes read since the last notice are a notice (int64)
	verbDeleteTrees = "delete-trees" // deleteTreesCall -> deleteReply
	verbVerifyTree  = "verify-tree"  // verifyTreeCall -> tree.Verified; verifyNotice
	verbExportTree  = "export-tree"  // treeCall; a []byte is a notice, a part of the list
	verbIndexTrees  = "index-trees"  // dirName -> tree.Indexed; notices as of finish-tree
)

type openTreesCall struct {
	Path    string
	Options tree.OpenOptions
}

type beginTreeCall struct {
	Dir   dirName
	Order tree.Order
}

type treeCall struct {
	Dir  dirName
	Name string
}

type finishTreeCall struct {
	Dir    dirName
	Result tree.Result
}

type deleteTreesCall struct {
	Dir   dirName
	Names []string
}

type verifyTreeCall struct {
	Dir     dirName
	Name    string
	Options tree.VerifyOptions
}

// verifyNotice tells what was found since the last one, and how far it is.
type verifyNotice struct {
	Found       []tree.Difference
	Read, Total int64 // bytes
}

var treeVerbs = map[string]handler{
	verbOpenTrees: {treesRole, decoded((*server).openTrees)},
	verbListTrees: inTrees(itself, func(ctx context.Context, d *localDir, _ dirName, _ func(any)) (any, error) { return d.ListTrees(ctx) }),
	verbMarkTrees: inTrees(itself, func(ctx context.Context, d *localDir, _ dirName, _ func(any)) (any, error) { return d.MarkTrees(ctx) }),
	verbBeginTree: inTrees(func(c beginTreeCall) dirName { return c.Dir },
		func(ctx context.Context, d *localDir, c beginTreeCall, _ func(any)) (any, error) {
			return d.BeginTree(ctx, c.Order)
		}),
	verbKeepTree: inTrees(func(c treeCall) dirName { return c.Dir },
		func(ctx context.Context, d *localDir, c treeCall, _ func(any)) (any, error) {
			return nil, d.KeepTree(ctx, c.Name)
		}),
	verbFollowTree: inTrees(func(c treeCall) dirName { return c.Dir },
		func(ctx context.Context, d *localDir, c treeCall, _ func(any)) (any, error) {
			return nil, d.FollowTree(ctx, c.Name)
		}),
	verbFinishTree:  inTrees(func(c finishTreeCall) dirName { return c.Dir }, finishTree),
	verbDeleteTrees: inTrees(func(c deleteTreesCall) dirName { return c.Dir }, deleteTrees),
	verbVerifyTree:  inTrees(func(c verifyTreeCall) dirName { return c.Dir }, verifyTree),
	verbExportTree: inTrees(func(c treeCall) dirName { return c.Dir },
		func(ctx context.Context, d *localDir, c treeCall, notify func(any)) (any, error) {
			return nil, d.ExportTree(ctx, c.Name, notices(notify))
		}),
	verbIndexTrees: inTrees(itself, indexTrees),
}

// inTrees makes a handler of a function that works on an open folder of trees.
func inTrees[A any](name func(A) dirName, do func(ctx context.Context, d *localDir, a A, notify func(any)) (any, error)) handler {
	return handler{treesRole, decoded(func(s *server, ctx context.Context, a A, notify func(any)) (any, error) {
		d, err := s.open(name(a))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return do(ctx, d, a, notify)
	})}
}

func (s *server) openTrees(_ context.Context, c openTreesCall, _ func(any)) (any, error) {
	d, err := s.local.openTrees(c.Path, c.Options)
	if err != nil {
		return nil, err
	}
	return d.status, d.Close()
}

func finishTree(ctx context.Context, d *localDir, c finishTreeCall, notify func(any)) (any, error) {
	read := counting(notify)
	defer read.flush()
	return d.FinishTree(ctx, c.Result, read.add)
}

func indexTrees(ctx context.Context, d *localDir, _ dirName, notify func(any)) (any, error) {
	read := counting(notify)
	defer read.flush()
	return d.IndexTrees(ctx, tree.IndexOptions{Progress: read.add})
}

func deleteTrees(ctx context.Context, d *localDir, c deleteTreesCall, _ func(any)) (any, error) {
	deleted, err := d.DeleteTrees(ctx, c.Names)
	reply := deleteReply{Deleted: deleted}
	if err != nil {
		reply.Failure, _ = toWire(err).(*wire.Error)
	}
	return reply, nil
}

func verifyTree(ctx context.Context, d *localDir, c verifyTreeCall, notify func(any)) (any, error) {
	var told batch[verifyNotice]
	told.notify, told.full = notify, func(n verifyNotice) bool { return len(n.Found) >= maxDifferences }
	defer told.flush()
	return d.VerifyTree(ctx, c.Name, c.Options, func(diff tree.Difference) {
		told.change(func(n verifyNotice) verifyNotice {
			n.Found = append(n.Found, diff)
			return n
		})
	}, func(read, total int64) {
		told.change(func(n verifyNotice) verifyNotice {
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
