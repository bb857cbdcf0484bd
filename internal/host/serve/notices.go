package serve

import (
	"sync"
	"time"
)

// noticePause is how much time passes between two notices, unless there is much to tell.
const noticePause = 100 * time.Millisecond

// A batch collects what is to be told, so that a slow link has little to carry.
type batch[T any] struct {
	tell func(T)
	full func(T) bool // tells that it cannot wait; may be nil

	mu     sync.Mutex
	value  T
	some   bool // value is to be told
	toldAt time.Time
}

// change changes what is to be told.
func (b *batch[T]) change(how func(*T)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	how(&b.value)
	b.some = true
	if time.Since(b.toldAt) >= noticePause || b.full != nil && b.full(b.value) {
		b.send()
	}
}

// flush tells the rest.
func (b *batch[T]) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.some {
		b.send()
	}
}

func (b *batch[T]) send() {
	b.tell(b.value)
	var empty T
	b.value, b.some, b.toldAt = empty, false, time.Now()
}

// byteCount tells a number of bytes piece by piece.
type byteCount struct{ batch[int64] }

func counting(tell func(int64)) *byteCount {
	c := new(byteCount)
	c.tell = tell
	return c
}

func (c *byteCount) add(n int64) { c.change(func(sum *int64) { *sum += n }) }
