package receive

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// mostHeld bounds the data that is kept for workers.
	mostHeld = 16 << 20
	// mostQueued bounds the files that are open for them.
	mostQueued = 256
	// small is what is copied rather than kept in a buffer that is used again.
	small = 8 << 10
)

// A pool does work. What is handed out first is begun first, so that work may wait for earlier work.
type pool struct {
	ctx      context.Context
	tolerate func(error) bool
	queue    chan *work
	workers  sync.WaitGroup
	ended    sync.Once
	unshared atomic.Int64
	buffers  sync.Pool // of *[]byte

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
	p := &pool{ctx: ctx, tolerate: tolerate, queue: make(chan *work, mostQueued), pending: make(map[uint64][]*work), reading: make(map[uint64][]*work)}
	p.freed = sync.NewCond(&p.mu)
	for range workers {
		p.workers.Go(func() {
			for w := range p.queue {
				p.do(w)
			}
		})
	}
	return p
}

// hold counts what a step keeps. It waits while much is held already.
func (p *pool) hold(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held > 0 && p.held+size > mostHeld {
		p.freed.Wait()
	}
	p.held += size
}

// keep copies data that is valid for the moment only.
func (p *pool) keep(data []byte) []byte {
	if len(data) <= small {
		return slices.Clone(data)
	}
	return append(p.buffer(len(data))[:0], data...)
}

// buffer gives one of a length, which is to be given back.
func (p *pool) buffer(length int) []byte {
	if b, ok := p.buffers.Get().(*[]byte); ok && cap(*b) >= length {
		return (*b)[:length]
	}
	return make([]byte, length, max(length, 192<<10))
}

func (p *pool) giveBack(buffer []byte) {
	if cap(buffer) > small {
		p.buffers.Put(&buffer)
	}
}

func (p *pool) free(s step) {
	p.giveBack(s.data)
	p.mu.Lock()
	p.held -= s.size
	p.mu.Unlock()
	p.freed.Signal()
}

func (p *pool) hand(w *work) {
	p.mu.Lock()
	p.pending[w.file.inode] = append(p.pending[w.file.inode], w)
	for _, inode := range w.reads {
		p.reading[inode] = append(p.reading[inode], w)
	}
	p.mu.Unlock()
	p.queue <- w
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
	for _, w := range p.pendingOf(inode) {
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
	p.mu.Lock()
	w.leave(p.pending, w.file.inode)
	for _, inode := range w.reads {
		w.leave(p.reading, inode)
	}
	p.mu.Unlock()
	w.file.leave()
	w.steps, w.after = nil, nil // later work refers to this one
	close(w.done)
}

func (w *work) leave(all map[uint64][]*work, inode uint64) {
	rest := slices.DeleteFunc(all[inode], func(o *work) bool { return o == w })
	if all[inode] = rest; len(rest) == 0 {
		delete(all, inode)
	}
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
	p.free(s)
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
	p.ended.Do(func() { close(p.queue) })
	p.workers.Wait()
	return p.failure()
}
