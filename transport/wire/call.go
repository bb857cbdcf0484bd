package wire

import (
	"context"
	"fmt"
	"sync"
)

// An inbox holds what came for a call: notices, then the reply.
type inbox struct {
	mu    sync.Mutex
	queue []message
	bytes int
	gone  bool          // nobody looks any more
	some  chan struct{} // holds a value if the queue may have become not empty
	room  chan struct{} // the same for not full
}

// maxInbox is how many bytes wait for a slow Call before the connection does. One message more is let in, however long.
const maxInbox = 1 << 20

func newInbox() *inbox {
	return &inbox{some: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put tells whether there was room.
func (b *inbox) put(m message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return true
	}
	if b.bytes > maxInbox {
		return false
	}
	b.queue = append(b.queue, m)
	b.bytes += inboxEntry + len(m.Body)
	signal(b.some)
	return true
}

// inboxEntry is about what an empty message takes.
const inboxEntry = 128

func (b *inbox) take() (m message, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return message{}, false
	}
	m = b.queue[0]
	b.queue = b.queue[1:]
	b.bytes -= inboxEntry + len(m.Body)
	signal(b.room)
	return m, true
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone, b.queue = true, nil
	signal(b.room)
}

// Call asks the far side, and waits for the reply, which is decoded into reply unless that is nil. Notices that come before
// the reply are given to notice, one after the other; while it takes its time, all calls of the connection may wait, so it
// must not itself call. It may be nil.
//
// The error is an *Error if the far side reports one, the context's cause if that ends first (the far side is told, but not
// waited for), and ErrBroken if the connection ends.
func (c *Conn) Call(ctx context.Context, verb string, args, reply any, notice func(Raw)) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	body, err := Encode(args)
	if err != nil {
		return fmt.Errorf("calling %s: %w", verb, err)
	}
	id, in := c.enroll()
	defer c.forget(id, in)
	if err := c.send(ctx, message{Kind: kindCall, ID: id, Verb: verb, Body: body}); err != nil {
		return callError(ctx, verb, err)
	}
	for {
		m, err := c.await(ctx, in)
		switch {
		case err != nil:
			if ctx.Err() != nil {
				go func() { _ = c.send(context.Background(), message{Kind: kindCancel, ID: id}) }()
			}
			return callError(ctx, verb, err)
		case m.Kind == kindReply:
			return m.result(verb, reply)
		case notice != nil:
			notice(m.Body)
		}
	}
}

func callError(ctx context.Context, verb string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("calling %s: %w", verb, err)
}

// await waits for the next message. What came before the connection broke counts.
func (c *Conn) await(ctx context.Context, in *inbox) (message, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return message{}, err
		}
		var ended error
		select {
		case <-c.broken:
			ended = c.err
		default:
		}
		if m, ok := in.take(); ok {
			return m, nil
		}
		if ended != nil {
			return message{}, ended
		}
		select {
		case <-in.some:
		case <-ctx.Done():
		case <-c.broken:
		}
	}
}

func (m message) result(verb string, reply any) error {
	if m.Error != nil {
		return m.Error
	}
	if reply == nil {
		return nil
	}
	if err := m.Body.Decode(reply); err != nil {
		return fmt.Errorf("reply to %s: %w", verb, err)
	}
	return nil
}

func (c *Conn) enroll() (uint64, *inbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	in := newInbox()
	c.calls[c.last] = in
	return c.last, in
}

func (c *Conn) forget(id uint64, in *inbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
	in.close()
}

// listen receives what the server says, until the stream ends.
func (c *Conn) listen() {
	for {
		var m message
		if err := readFrame(c.in, c.readLimit, &m); err != nil {
			c.fail(err)
			return
		}
		switch m.Kind {
		case kindBeat:
		case kindNotice, kindReply:
			c.deliver(m)
		default:
			c.fail(malformed("a message of kind %d from the server", m.Kind))
			return
		}
	}
}

// deliver gives a message to its call. One whose call was given up is late, no more.
func (c *Conn) deliver(m message) {
	c.mu.Lock()
	in := c.calls[m.ID]
	c.mu.Unlock()
	if in == nil || in.put(m) {
		return
	}
	c.stuck.Store(true)
	for !in.put(m) {
		select {
		case <-in.room:
		case <-c.broken:
			return
		}
	}
	c.hear() // what waited in the stream meanwhile was not silence
	c.stuck.Store(false)
}
