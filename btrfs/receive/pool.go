package receive

import (
	"context"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// mostHeld bounds what is kept for workers, in bytes.
	mostHeld = 16 << 20
	// together are so many pieces of work given to a worker at most, unless they are so many bytes: to wake it costs as much as to
	// write a small file.
	together, togetherBytes = 32, 256 << 10
)

// A pool does work. What is handed out first is begun first, so that work may wait for earlier work.
type pool struct {
	ctx          context.Context
	tolerate     func(error) bool
	queue        chan []*work
	batch        []*work // that was handed out, and is to be queued
	batched      int64   // bytes of it
	workers      sync.WaitGroup
	ended        sync.Once
	unshared     atomic.Int64
	uncompressed atomic.Int64
	buffers      [32]sync.Pool // of *[]byte, by the logarithm of their size

	mu      sync.Mutex
	freed   *sync.Cond
	held    int
	pending map[uint64][]*work // by inode
	reading map[uint64][]*work // by the inode that data is taken of
	failed  atomic.Pointer[Error]
}

func newPool(ctx context.Context, workers int, tolerate func(error) bool) *pool {
	if workers == 0 {
		workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	p := &pool{ctx: ctx, tolerate: tolerate, queue: make(chan []*work, mostHeld/openFile), pending: make(map[uint64][]*work), reading: make(map[uint64][]*work)}
	p.freed = sync.NewCond(&p.mu)
	for range workers {
		p.workers.Go(func() {
			for batch := range p.queue {
				for _, w := range batch {
					p.do(w)
				}
				p.done(batch)
			}
		})
	}
	return p
}

// keep copies data that is valid for the moment only.
func (p *pool) keep(data []byte) []byte { return append(p.buffer(len(data))[:0], data...) }

// buffer gives one of a length, which is to be given back. It has less than twice as much, or little.
func (p *pool) buffer(length int) []byte {
	const least = 512
	class := bits.Len(uint(max(length, least) - 1))
	if b, ok := p.buffers[class].Get().(*[]byte); ok {
		return (*b)[:length]
	}
	return make([]byte, length, 1<<class)
}

func (p *pool) giveBack(buffer []byte) {
	if cap(buffer) > 0 {
		p.buffers[bits.Len(uint(cap(buffer)-1))].Put(&buffer)
	}
}

// hand hands work out. It waits while much is held already.
func (p *pool) hand(w *work) {
	size := w.size + openFile
	p.mu.Lock()
	for p.held > 0 && p.held+size > mostHeld {
		p.submit()
		p.freed.Wait()
	}
	p.held += size
	p.pending[w.file.inode] = append(p.pending[w.file.inode], w)
	for _, inode := range w.reads {
		p.reading[inode] = append(p.reading[inode], w)
	}
	p.mu.Unlock()
	p.batch = append(p.batch, w)
	if p.batched += w.bytes; len(p.batch) == together || p.batched >= togetherBytes {
		p.submit()
	}
}

// submit lets workers have what was handed out. It is to be called before anything waits for that. It does not block: mostHeld bounds
// what is queued.
func (p *pool) submit() {
	if len(p.batch) > 0 {
		p.queue <- p.batch
		p.batch, p.batched = nil, 0
	}
}

// pendingOf gives the work for an inode that is not done.
func (p *pool) pendingOf(inode uint64) []*work {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pending[inode])
}

// useOf gives that which is not done for an inode, or takes data of it.
func (p *pool) useOf(inode uint64) []*work {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.pending[inode], p.reading[inode])
}

func (p *pool) isBusy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending) > 0
}

// waitFor waits until all that was handed out for an inode is done.
func (p *pool) waitFor(inode uint64) {
	all := p.pendingOf(inode)
	if len(all) > 0 {
		p.submit()
	}
	for _, w := range all {
		<-w.done
	}
}

func (p *pool) do(w *work) {
	for _, before := range w.after {
		<-before.done
	}
	for _, s := range w.steps {
		p.step(w.file, s)
	}
	w.file.leave()
	w.steps, w.after = nil, nil // later work refers to this one
	close(w.done)
}

// done forgets work.
func (p *pool) done(batch []*work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range batch {
		p.held -= w.size + openFile
		w.leave(p.pending, w.file.inode)
		for _, inode := range w.reads {
			w.leave(p.reading, inode)
		}
	}
	p.freed.Signal()
}

func (w *work) leave(all map[uint64][]*work, inode uint64) {
	rest := slices.DeleteFunc(all[inode], func(o *work) bool { return o == w })
	if all[inode] = rest; len(rest) == 0 {
		delete(all, inode)
	}
}

// areDone tells that all of some work is done.
func areDone(all []*work) bool {
	return !slices.ContainsFunc(all, func(w *work) bool {
		select {
		case <-w.done:
			return false
		default:
			return true
		}
	})
}

// step does a step unless an earlier one failed. Those before that one are done nevertheless: the first error is told.
func (p *pool) step(f *file, s step) {
	if failed := p.failed.Load(); (failed == nil || s.number < failed.Number) && p.ctx.Err() == nil {
		if err := s.do(f.fd); err != nil {
			p.fail(&Error{s.number, s.kind, f.path, s.xattr, err})
		}
	}
	if s.release != nil {
		s.release()
	}
	p.giveBack(s.data)
}

func (p *pool) fail(err *Error) {
	if p.tolerate != nil && p.tolerate(err) {
		return
	}
	for {
		before := p.failed.Load()
		if before != nil && before.Number <= err.Number || p.failed.CompareAndSwap(before, err) {
			return
		}
	}
}

// failure gives the error so far, if there is one.
func (p *pool) failure() error {
	if err := p.failed.Load(); err != nil {
		return err
	}
	return nil
}

// wait lets all be done that was handed out, and gives the first error. No more can be handed out.
func (p *pool) wait() error {
	p.ended.Do(func() {
		p.submit()
		close(p.queue)
	})
	p.workers.Wait()
	return p.failure()
}
