package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/handoff"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/local"
	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/lock"
	"btrfs-backup/transport/wire"
)

// Options are what an agent does for whoever calls.
type Options struct {
	Log          *slog.Logger
	Version      string
	Limits       Limits
	ResumeWindow time.Duration // how long an interrupted transfer waits for its sender at most
	// Received is called when a backup has got its name, with the directory locked by the caller; may be nil.
	Received func(ctx context.Context, dir host.Dir, name string) error
}

// Run is the agent: it answers one client on its standard streams, and returns when that is gone and nothing waits for
// it any more. A session that carries a stream ends with the stream.
func Run(ctx context.Context, stdin, stdout *os.File, o Options) error {
	session, err := handoff.Streams(stdin, stdout)
	if err != nil {
		return err
	}
	defer session.Close()
	hello := wire.Hello{Version: o.Version, Abilities: o.Limits.abilities()}
	met, err := wire.Accept(ctx, session, hello, wire.Options{})
	if err != nil {
		return err
	}
	var g protocol.Greeting
	if err := met.Peer().Part.Decode(&g); err != nil {
		return err
	}
	if g.Join.Address != "" {
		return join(g.Join, stdin, stdout)
	}
	if w := g.ResumeWindow; w > 0 && w < o.ResumeWindow {
		o.ResumeWindow = w
	}
	confine, refusal := o.Limits.confinement() // nil if it is refused, which the client shall see
	defer confine.Close()
	s := newServer(ctx, o, confine)
	s.refusal = refusal
	s.conn = met.Conn()
	err = s.conn.Serve(ctx, s.handle)
	s.disconnect()
	s.transfers.Wait()
	return err
}

// server serves one client.
type server struct {
	o         Options
	local     *local.Host
	confine   *confinement    // nil: none
	ctx       context.Context // of the process; that of a call ends with the call
	conn      *wire.Conn
	refusal   error          // of every call
	transfers sync.WaitGroup // those that are not at their end

	mu       sync.Mutex
	lastLock uint64
	locks    map[uint64]heldLock
	streams  map[string]*stream // by secret
}

// heldLock is a lock on a directory that the client has.
type heldLock struct {
	at      btrfs.Place
	release func()
}

// stream is what this client may close or abort: a transfer of this process, or of another one.
type stream struct {
	own   *transfer     // nil: of another process
	other *handoff.Conn // to that
	name  protocol.StreamName
}

func newServer(ctx context.Context, o Options, confine *confinement) *server {
	s := &server{o: o, ctx: ctx, confine: confine, locks: make(map[uint64]heldLock), streams: make(map[string]*stream)}
	s.local = local.New(o.Log)
	if confine != nil {
		s.local = local.NewConfined(o.Log, confine)
	}
	return s
}

// disconnect gives up what belongs to the connection. A transfer is parked.
func (s *server) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		l.release()
	}
	for _, st := range s.streams {
		if st.own != nil {
			st.own.detach(st.name)
		} else {
			st.other.Close()
		}
	}
}

// handle answers a call.
func (s *server) handle(ctx context.Context, verb string, args wire.Raw, notify func(any)) (any, error) {
	h, ok := verbs[verb]
	if !ok {
		h, ok = treeVerbs[verb]
	}
	if !ok {
		return nil, errors.New(protocol.UnknownVerb(verb))
	}
	if err := cmp.Or(s.refusal, s.o.Limits.allow(h.role)); err != nil {
		return nil, protocol.ToWire(err)
	}
	reply, err := h.do(s, ctx, args, notify)
	return reply, protocol.ToWire(err)
}

// open opens a directory, which must be the one that it was before.
func (s *server) open(name protocol.DirName) (*local.Dir, error) {
	d, err := s.local.OpenDir(name.Path)
	if err != nil {
		return nil, err
	}
	place, err := d.Identity()
	if err != nil {
		d.Close()
		return nil, err
	}
	if name.Place != (btrfs.Place{}) && name.Place != place {
		d.Close()
		return nil, fmt.Errorf("%s is another directory than before: was a filesystem mounted or unmounted?", name.Path)
	}
	return d, nil
}

func (s *server) list(ctx context.Context, d *local.Dir, _ protocol.DirName) (any, error) {
	content, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	reply := protocol.ListReply{Status: d.Status(), Content: content}
	in := make(map[uint64]bool)
	for _, sub := range content.InDirectory {
		in[sub.ID] = true
	}
	for i, sub := range content.All {
		if in[sub.ID] {
			reply.In = append(reply.In, i)
		}
	}
	reply.Content.InDirectory = nil
	return reply, nil
}

func (s *server) lock(ctx context.Context, c protocol.LockCall, notify func(any)) (any, error) {
	d, err := s.open(c.Dir)
	if err != nil {
		return nil, err
	}
	var waiting func(*lock.HeldError)
	if c.Wait {
		waiting = func(held *lock.HeldError) { notify(held) }
	}
	release, err := d.Lock(ctx, waiting)
	if err != nil {
		d.Close()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastLock++
	s.locks[s.lastLock] = heldLock{d.Status().Place, func() {
		_ = release() // closing gives it up anyway
		d.Close()
	}}
	return s.lastLock, nil
}

func (s *server) unlock(_ context.Context, id uint64, _ func(any)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.locks[id]; ok {
		l.release()
		delete(s.locks, id)
	}
	return nil, nil
}

func (s *server) delete(ctx context.Context, d *local.Dir, c protocol.DeleteCall) (any, error) {
	allowed, refusal := s.o.Limits.deletable(d, c.Names, c.Options)
	deleted, err := d.Delete(ctx, allowed, c.Options)
	reply := protocol.DeleteReply{Deleted: deleted}
	if err := errors.Join(err, refusal); err != nil {
		reply.Failure, _ = protocol.ToWire(err).(*wire.Error)
	}
	return reply, nil
}

// send sends a stream over sessions that are to join it.
func (s *server) send(ctx context.Context, c protocol.SendCall, notify func(any)) (any, error) {
	d, err := s.open(c.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.MustHold(c.Order.Snapshot, c.Order.Parent); err != nil {
		return nil, err
	}
	listener, err := handoff.Listen(handoff.NewAddress())
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	name := protocol.StreamName{Address: listener.Address, Secret: handoff.NewSecret()}
	sender := wire.NewSender(wire.SenderOptions{Offset: c.Order.After.Bytes, Compression: c.Compression})
	stop := context.AfterFunc(ctx, func() { sender.Abort(context.Cause(ctx)) })
	defer stop()
	go listener.Serve(joining(name.Secret, sender.Add).serve)
	notify(name)
	summary, err := d.Send(ctx, c.Order, sender)
	if err == nil {
		err = sender.Close()
	} else {
		sender.Abort(err)
	}
	if errors.Is(err, wire.ErrBroken) {
		err = protocol.Disconnected(err)
	}
	return summary, err
}

// receive begins to receive a stream over sessions that are to join it, or goes on with one that was interrupted.
func (s *server) receive(_ context.Context, c protocol.ReceiveCall, _ func(any)) (any, error) {
	if err := s.o.Limits.checkName(c.Order.Name); err != nil {
		return nil, err
	}
	d, err := s.open(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Order.Key = s.o.Limits.scope(c.Order.Key)
	address := d.ParkedAddress(c.Order.Name)
	a, other, err := ask(address, request{Op: opResume, Key: c.Order.Key, Secret: c.Again.Secret})
	switch {
	case err == nil:
		d.Close()
		name := protocol.StreamName{Address: address, Secret: a.Secret}
		s.remember(&stream{other: other, name: name})
		return protocol.ReceiveReply{Stream: name, Taken: a.Taken}, nil
	case errors.Is(err, handoff.ErrNobody):
		if err := s.clear(d, c); err != nil {
			d.Close()
			return nil, err
		}
	case errors.Is(err, errOtherStream):
		_ = tell(address, request{Op: opAbort, Key: c.Order.Key}) // if it fails, so does what follows
	default:
		d.Close()
		return nil, err
	}
	t, err := s.beginTransfer(d, c.Order)
	if err != nil {
		d.Close()
		return nil, err
	}
	s.transfers.Add(1)
	t.gone = s.transfers.Done
	name, taken := t.attach()
	s.remember(&stream{own: t, name: name})
	return protocol.ReceiveReply{Stream: name, Taken: taken}, nil
}

func (s *server) remember(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st.name.Secret] = st
}

func (s *server) find(name protocol.StreamName) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[name.Secret]
}

func (s *server) forget(st *stream) {
	if st.other != nil {
		st.other.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.name.Secret)
}

func (s *server) closeStream(ctx context.Context, name protocol.StreamName, _ func(any)) (any, error) {
	st := s.find(name)
	if st == nil {
		return nil, handoff.ErrNobody
	}
	if st.own != nil {
		return st.own.close(ctx)
	}
	a, c, err := ask(st.name.Address, request{Op: opClose, Secret: name.Secret})
	if err != nil {
		return nil, err
	}
	c.Close()
	return a.Subvolume, nil
}

// done ends the transfer of a backup that has got its name.
func (s *server) done(name protocol.StreamName) {
	st := s.find(name)
	switch {
	case st == nil:
		return
	case st.own != nil:
		st.own.end()
	default:
		_ = tell(name.Address, request{Op: opDone, Secret: name.Secret}) // nothing waits there any more
	}
	s.forget(st)
}

// commit may be told twice, when the first reply was lost.
func (s *server) commit(ctx context.Context, d *local.Dir, c protocol.CommitCall) (any, error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return nil, err
	}
	if info, err := d.Subvolume(c.Name); err == nil && info.UUID == c.UUID {
		if err := d.FinishCommit(info, c.Name, c.Origin); err != nil {
			return nil, err
		}
	} else {
		if err := d.MustBeReceived(c.Name, c.UUID); err != nil {
			return nil, err
		}
		if err := d.Commit(c.Name, c.Origin); err != nil {
			return nil, err
		}
	}
	s.done(c.Stream)
	if s.o.Received == nil {
		return nil, nil
	}
	return nil, s.o.Received(ctx, d, c.Name)
}

func (s *server) abort(_ context.Context, d *local.Dir, c protocol.AbortCall) (any, error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return nil, err
	}
	st := s.find(c.Stream)
	switch {
	case st == nil && d.IsParked(c.Name):
		return nil, fmt.Errorf("%s is being received by another session", filepath.Join(d.Status().Path, c.Name))
	case st == nil:
		return nil, d.Discard(c.Name)
	case st.own != nil:
		s.forget(st)
		return nil, st.own.abort()
	}
	err := tell(st.name.Address, request{Op: opAbort, Secret: c.Stream.Secret})
	s.forget(st)
	if errors.Is(err, handoff.ErrNobody) {
		return nil, d.Discard(c.Name)
	}
	return nil, err
}
