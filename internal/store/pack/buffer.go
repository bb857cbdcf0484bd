package pack

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Buffer holds a part of a stream. It is none of the memory that Go collects, since parts are large, and several are under way:
// the collector would let the program have about twice as much.
type Buffer struct {
	region  []byte // as the kernel gave it; nil if it is memory that Go collects
	content []byte
}

// spare are regions that are not in use. They are addresses, and hardly any memory.
var spare struct {
	sync.Mutex
	regions [][]byte
}

const mostSpare = 16

// NewBuffer gives one with room for some bytes.
func NewBuffer(room int) *Buffer {
	spare.Lock()
	defer spare.Unlock()
	for i, region := range spare.regions {
		if len(region) >= room && len(region) <= 2*room+os.Getpagesize() {
			spare.regions = append(spare.regions[:i], spare.regions[i+1:]...)
			return &Buffer{region, region[:0]}
		}
	}
	region, err := unix.Mmap(-1, 0, max(room, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return &Buffer{content: make([]byte, 0, room)}
	}
	return &Buffer{region, region[:0]}
}

// BufferOf gives one that holds a content.
func BufferOf(content []byte) *Buffer { return &Buffer{content: content} }

// Bytes gives the content, which must not be used when the buffer is not any more.
func (b *Buffer) Bytes() []byte { return b.content }

// Len gives the number of bytes in it.
func (b *Buffer) Len() int { return len(b.content) }

// Write appends.
func (b *Buffer) Write(p []byte) (int, error) {
	if len(b.content)+len(p) > cap(b.content) && b.region != nil { // a single command can be larger than a part
		larger := NewBuffer(2 * (len(b.content) + len(p)))
		larger.content = append(larger.content, b.content...)
		b.Free()
		*b = *larger
	}
	b.content = append(b.content, p...)
	return len(p), nil
}

// eat calls f for one piece of the content after the other, whose memory is given back then.
func (b *Buffer) eat(f func(piece []byte, last bool) error) error {
	const most = 1 << 20 // a multiple of the size of pages
	for at := 0; at == 0 || at < len(b.content); at += most {
		end := min(at+most, len(b.content))
		if err := f(b.content[at:end], end == len(b.content)); err != nil {
			return err
		}
		if b.region != nil && end == at+most {
			release(b.region[at:end])
		}
	}
	return nil
}

// Free gives the memory back. Nothing of the content may be used any more.
func (b *Buffer) Free() {
	region := b.region
	b.region, b.content = nil, nil
	if region == nil {
		return
	}
	spare.Lock()
	defer spare.Unlock()
	if len(spare.regions) == mostSpare {
		_ = unix.Munmap(region) // it fails for what is no region
		return
	}
	release(region)
	spare.regions = append(spare.regions, region)
}

// release gives the memory of a piece of a region back to the kernel. It may be written to again.
func release(piece []byte) {
	_ = unix.Madvise(piece, unix.MADV_DONTNEED) // it fails for locked memory, which stays
}
