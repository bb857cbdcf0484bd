package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/lock"
	"btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// ServeOptions are what an agent does for whoever calls.
type ServeOptions struct {
	Log          *slog.Logger
	Version      string
	Limits       Limits
	ResumeWindow time.Duration // how long an interrupted transfer is kept at most
	// Received is called when a backup has got its name, with the directory locked by the caller; may be nil.
	Received func(ctx context.Context, dir Dir, name string) error
}

// Serve is the agent: it answers one client on its standard streams, and returns when that is gone and nothing is kept for
// it any more. A session that carries a stream ends with the stream.
func Serve(ctx context.Context, stdin, stdout *os.File, o ServeOptions) error {
	session, err := sessionOf(stdin, stdout)
	if err != nil {
		return err
	}
	defer session.Close()
	hello := wire.Hello{Version: o.Version, Abilities: o.Limits.abilities()}
	met, err := wire.Accept(ctx, session, hello, wire.Options{})
	if err != nil {
		return err
	}
	var g greeting
	if err := met.Peer().Part.Decode(&g); err != nil {
		return err
	}
	if g.Join.Address != "" {
		if !strings.HasPrefix(g.Join.Address, addressStart) { // it could be the socket of any program
			return errNobody
		}
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
	s.keeping.Wait()
	return err
}

// sessionOf gives the standard streams in a form whose Close ends a Read that waits.
func sessionOf(stdin, stdout *os.File) (io.ReadWriteCloser, error) {
	in, err := unix.FcntlInt(stdin.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	out, err := unix.FcntlInt(stdout.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return duplex{pollable(in, "standard input"), pollable(out, "standard output"), nil}, nil
}

// server serves one client.
type server struct {
	o       ServeOptions
	local   *Local
	ctx     context.Context // of the process; that of a call ends with the call
	conn    *wire.Conn
	refusal error          // of every call
	keeping sync.WaitGroup // what is kept

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

// stream is what this client may close or abort: one kept here, or by another process.
type stream struct {
	kept  *kept // nil: elsewhere
	lease io.Closer
	name  streamName
}

func newServer(ctx context.Context, o ServeOptions, confine *confinement) *server {
	s := &server{o: o, local: NewLocal(o.Log), ctx: ctx, locks: make(map[uint64]heldLock), streams: make(map[string]*stream)}
	s.local.confine = confine
	return s
}

// disconnect gives up what belongs to the connection. What is kept waits for another one.
func (s *server) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		l.release()
	}
	for _, st := range s.streams {
		if st.kept != nil {
			st.kept.detach(st.name)
		} else {
			st.lease.Close()
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
		return nil, errors.New(unknownVerb(verb))
	}
	if err := cmp.Or(s.refusal, s.o.Limits.allow(h.role)); err != nil {
		return nil, toWire(err)
	}
	reply, err := h.do(s, ctx, args, notify)
	return reply, toWire(err)
}

// unknownVerb is what agents of any version say of a verb of a later one. The text is a part of the protocol.
func unknownVerb(verb string) string { return fmt.Sprintf("the verb %q is not known here", verb) }

// open opens a directory, which must be the one that it was before.
func (s *server) open(name dirName) (*localDir, error) {
	d, err := s.local.open(name.Path)
	if err != nil {
		return nil, err
	}
	place, err := d.identity()
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

func (s *server) list(ctx context.Context, d *localDir, _ dirName) (any, error) {
	content, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	reply := listReply{Status: d.status, Content: content}
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

func (s *server) lock(ctx context.Context, c lockCall, notify func(any)) (any, error) {
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
	s.locks[s.lastLock] = heldLock{d.status.Place, func() {
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

func (s *server) delete(ctx context.Context, d *localDir, c deleteCall) (any, error) {
	allowed, refusal := s.o.Limits.deletable(d, c.Names, c.Options)
	deleted, err := d.Delete(ctx, allowed, c.Options)
	reply := deleteReply{Deleted: deleted}
	if err := errors.Join(err, refusal); err != nil {
		reply.Failure, _ = toWire(err).(*wire.Error)
	}
	return reply, nil
}

// send sends a stream over sessions that are to join it.
func (s *server) send(ctx context.Context, c sendCall, notify func(any)) (any, error) {
	d, err := s.open(c.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.mustHold(c.Order.Snapshot, c.Order.Parent); err != nil {
		return nil, err
	}
	meeting, err := meet(newAddress())
	if err != nil {
		return nil, err
	}
	defer meeting.Close()
	name := streamName{meeting.address, newSecret()}
	sender := wire.NewSender(wire.SenderOptions{Offset: c.Order.After.Bytes, Compression: c.Compression})
	stop := context.AfterFunc(ctx, func() { sender.Abort(context.Cause(ctx)) })
	defer stop()
	go meeting.serve(joining(name.Secret, sender.Add))
	notify(name)
	summary, err := d.Send(ctx, c.Order, sender)
	if err == nil {
		err = sender.Close()
	} else {
		sender.Abort(err)
	}
	if errors.Is(err, wire.ErrBroken) {
		err = disconnected{err}
	}
	return summary, err
}

// receive begins to receive a stream over sessions that are to join it, or goes on with one that was interrupted.
func (s *server) receive(_ context.Context, c receiveCall, _ func(any)) (any, error) {
	if err := s.o.Limits.checkName(c.Order.Name); err != nil {
		return nil, err
	}
	d, err := s.open(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Order.Key = s.o.Limits.scope(c.Order.Key)
	address := keptAddress(d.status.Place, c.Order.Name)
	a, lease, err := ask(address, demand{Op: opTake, Key: c.Order.Key, Secret: c.Again.Secret})
	switch {
	case err == nil:
		d.Close()
		name := streamName{address, a.Secret}
		s.remember(&stream{lease: lease, name: name})
		return receiveReply{name, a.Taken}, nil
	case errors.Is(err, errNobody):
		if err := s.clear(d, c); err != nil {
			d.Close()
			return nil, err
		}
	case errors.Is(err, errOtherStream):
		if _, lease, err := ask(address, demand{Op: opAbort, Key: c.Order.Key}); err == nil {
			lease.Close()
		}
	default:
		d.Close()
		return nil, err
	}
	k, err := keep(s.ctx, d, c.Order, s.o.Limits.guard(d), s.o.ResumeWindow)
	if err != nil {
		d.Close()
		return nil, err
	}
	s.keeping.Add(1)
	k.gone = s.keeping.Done
	name, taken := k.attach()
	s.remember(&stream{kept: k, name: name})
	return receiveReply{name, taken}, nil
}

func (s *server) remember(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st.name.Secret] = st
}

func (s *server) find(name streamName) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[name.Secret]
}

func (s *server) forget(st *stream) {
	if st.lease != nil {
		st.lease.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.name.Secret)
}

func (s *server) closeStream(ctx context.Context, name streamName, _ func(any)) (any, error) {
	st := s.find(name)
	if st == nil {
		return nil, errNobody
	}
	if st.kept != nil {
		return st.kept.close(ctx)
	}
	a, c, err := ask(st.name.Address, demand{Op: opClose, Secret: name.Secret})
	if err != nil {
		return nil, err
	}
	c.Close()
	return a.Subvolume, nil
}

// done ends the keeping of a backup that has got its name.
func (s *server) done(name streamName) {
	st := s.find(name)
	switch {
	case st == nil:
		return
	case st.kept != nil:
		st.kept.end()
	default:
		if _, c, err := ask(name.Address, demand{Op: opDone, Secret: name.Secret}); err == nil {
			c.Close()
		}
	}
	s.forget(st)
}

// commit may be told twice, when the first reply was lost.
func (s *server) commit(ctx context.Context, d *localDir, c commitCall) (any, error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return nil, err
	}
	if info, err := d.subvolume(c.Name); err == nil && info.UUID == c.UUID {
		if err := d.commitRest(info, c); err != nil {
			return nil, err
		}
	} else {
		if err := d.mustBeReceived(c.Name, c.UUID); err != nil {
			return nil, err
		}
		if err := d.commit(c.Name, c.Origin); err != nil {
			return nil, err
		}
	}
	s.done(c.Stream)
	if s.o.Received == nil {
		return nil, nil
	}
	return nil, s.o.Received(ctx, d, c.Name)
}

// commitRest does what comes after the renaming, if that has not been done.
func (d *localDir) commitRest(backup btrfs.Subvolume, c commitCall) error {
	origins, err := ParseOrigins(d.file(originsFile))
	if err != nil {
		return BadOrigins(d.status.Path, err)
	}
	if _, known := origins[backup.ReceivedUUID]; known {
		return nil
	}
	if err := d.recordOrigin(c.Name, c.Origin); err != nil {
		return err
	}
	return btrfs.SyncFilesystem(d.dir)
}

func (s *server) abort(_ context.Context, d *localDir, c abortCall) (any, error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return nil, err
	}
	st := s.find(c.Stream)
	switch {
	case st == nil && d.isKept(c.Name):
		return nil, fmt.Errorf("%s is being received by another session", filepath.Join(d.status.Path, c.Name))
	case st == nil:
		return nil, d.discard(c.Name)
	case st.kept != nil:
		s.forget(st)
		return nil, st.kept.abort()
	}
	_, conn, err := ask(st.name.Address, demand{Op: opAbort, Secret: c.Stream.Secret})
	s.forget(st)
	if errors.Is(err, errNobody) {
		return nil, d.discard(c.Name)
	}
	if err == nil {
		conn.Close()
	}
	return nil, err
}

// joining lets sessions that know the secret join a stream.
func joining(secret string, add func(io.ReadWriteCloser)) reception {
	return func(v visitor) (response, func(), error) {
		if v.Op != opJoin || !sameSecret(v.Secret, secret) {
			return response{}, nil, errNobody
		}
		then, err := v.joins(add)
		return response{}, then, err
	}
}
