package store

import "sync"

// buffers are used again, since they are large.
type buffers struct{ pool sync.Pool }

var plainBuffers, packedBuffers buffers

// get gives an empty buffer of at least a size.
func (b *buffers) get(size int64) []byte {
	if old, ok := b.pool.Get().(*[]byte); ok && int64(cap(*old)) >= size {
		return (*old)[:0]
	}
	return make([]byte, 0, size)
}

func (b *buffers) put(buffer []byte) { b.pool.Put(&buffer) }
