package wire

import (
	"context"
	"errors"
	"io"
	"sync"
)

const (
	maxInFlight      = 256      // calls
	maxInFlightBytes = 64 << 20 // of their arguments
)

// A Handler answers calls. Its context ends when the caller gives up or the stream ends. What it passes to notify reaches
// the caller before the reply, in this order; notify does not return before there is room, or nobody to tell.
type Handler func(ctx context.Context, verb string, args Raw, notify func(any)) (reply any, err error)

// server is the serving side's record of calls under way.
type server struct {
	*Conn
	handle Handler

	mu      sync.Mutex
	running map[uint64]context.CancelFunc
	bytes   int
	wg      sync.WaitGroup
}

// Serve answers calls, each in a goroutine of its own, until the stream ends, and waits for the handlers. It returns nil if
// the far side closed the stream, and the context's cause if that ended first, which closes it too.
func (c *Conn) Serve(ctx context.Context, handle Handler) error {
	caller := ctx
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	stop := context.AfterFunc(caller, func() { c.fail(context.Cause(caller)) })
	defer stop()
	s := &server{Conn: c, handle: handle, running: map[uint64]context.CancelFunc{}}
	go func() { c.fail(s.receive(ctx)) }()
	<-c.broken
	cancel()
	s.wg.Wait()
	switch cause := context.Cause(caller); {
	case cause != nil && errors.Is(c.err, cause):
		return cause
	case errors.Is(c.err, io.EOF):
		return nil
	}
	return c.err
}

// receive takes the client's messages and returns why there are no more.
func (s *server) receive(ctx context.Context) error {
	for {
		var m message
		if err := readFrame(s.in, s.readLimit, &m); err != nil {
			return err
		}
		switch m.Kind {
		case kindBeat:
		case kindCall:
			if err := s.begin(ctx, m); err != nil {
				return err
			}
		case kindCancel:
			s.mu.Lock()
			if cancel := s.running[m.ID]; cancel != nil {
				cancel()
			}
			s.mu.Unlock()
		default:
			return malformed("a message of kind %d from the client", m.Kind)
		}
	}
}

// begin starts the handler of a call, if there is room for one more. The refusal is sent before more is read, so that a
// client which does not listen cannot pile them up.
func (s *server) begin(ctx context.Context, m message) error {
	s.mu.Lock()
	_, twice := s.running[m.ID]
	full := len(s.running) >= maxInFlight || s.bytes+len(m.Body) > maxInFlightBytes
	ctx, cancel := context.WithCancel(ctx)
	if !twice && !full {
		s.running[m.ID] = cancel
		s.bytes += len(m.Body)
		s.wg.Add(1)
	}
	s.mu.Unlock()
	switch {
	case twice:
		cancel()
		return malformed("two calls with the number %d", m.ID)
	case full:
		defer cancel()
		return s.send(ctx, message{Kind: kindReply, ID: m.ID, Error: &Error{Text: "too many calls at a time"}})
	}
	go s.answer(ctx, cancel, m)
	return nil
}

func (s *server) answer(ctx context.Context, cancel context.CancelFunc, m message) {
	defer s.wg.Done()
	defer cancel()
	reply := message{Kind: kindReply, ID: m.ID}
	v, err := s.handle(ctx, m.Verb, m.Body, func(v any) { s.notify(ctx, m.ID, v) })
	if err == nil {
		reply.Body, err = Encode(v)
	}
	if err != nil {
		reply.Body, reply.Error = nil, errorOf(err)
	}
	s.mu.Lock()
	delete(s.running, m.ID)
	s.bytes -= len(m.Body)
	s.mu.Unlock()
	if err := s.send(context.Background(), reply); err != nil {
		reply.Body, reply.Error = nil, errorOf(err)
		_ = s.send(context.Background(), reply) // too long a reply; else there is nobody to tell
	}
}

func (s *server) notify(ctx context.Context, id uint64, v any) {
	body, err := Encode(v)
	if err != nil {
		panic(err)
	}
	_ = s.send(ctx, message{Kind: kindNotice, ID: id, Body: body})
}
