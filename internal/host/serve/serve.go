package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// Options are what an agent does for whoever calls.
type Options struct {
	Log          *slog.Logger
	Version      string
	Limits       Limits
	Sessions     int           // at a time of a client with limits; 0: 100
	LockTime     time.Duration // after which such a client loses a lock; 0: a day
	AgainTime    time.Duration // after which such a client cannot tell what its backup is of; 0: a day
	ResumeWindow time.Duration // how long an interrupted transfer waits for its sender at most
	Keeps        string        // the policy of Received, as a client should know it; "": all stay
	// Received is called when a backup has got its name, with the directory locked by the caller; may be nil.
	Received func(ctx context.Context, dir host.Folder, name string) error
	// Finished is the same for a backup of a directory.
	Finished func(ctx context.Context, dir host.TreeBackups, made tree.Record) error
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
	crowded := o.crowded()
	switch {
	case g.Join.Address != "" && crowded != nil:
		return crowded
	case g.Join.Address != "":
		return join(g.Join, stdin, stdout)
	}
	if w := g.ResumeWindow; w > 0 && w < o.ResumeWindow {
		o.ResumeWindow = w
	}
	confine, refusal := o.Limits.confinement() // nil if it is refused, which the client shall see
	defer confine.Close()
	s := newServer(ctx, o, confine)
	s.refusal = cmp.Or(refusal, crowded)
	s.conn = met.Conn()
	err = s.conn.Serve(ctx, s.handle)
	s.disconnect()
	s.dropUnpackings()
	s.dropUploads()
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
	warned    sync.Once

	mu       sync.Mutex
	lastLock uint64
	locks    map[uint64]heldLock
	streams  map[string]*stream // by secret

	lastUnpacking uint64
	unpackings    map[uint64]*unpacking

	lastUpload uint64
	uploads    map[uint64]*upload
}

// heldLock is a lock on a directory that the client has.
type heldLock struct {
	at      btrfs.DirID
	release func()
}

// stream is what this client may close or abort: a transfer of this process, or of another one.
type stream struct {
	own   *transfer     // nil: of another process
	other *handoff.Conn // to that
	name  protocol.StreamName
}

func newServer(ctx context.Context, o Options, confine *confinement) *server {
	s := &server{o: o, ctx: ctx, confine: confine, locks: make(map[uint64]heldLock), streams: make(map[string]*stream),
		unpackings: make(map[uint64]*unpacking), uploads: make(map[uint64]*upload)}
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
	for id, l := range s.locks {
		l.release()
		delete(s.locks, id)
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
	h, ok := handlers[verb]
	if !ok {
		return nil, errors.New(protocol.UnknownVerb(verb))
	}
	if err := cmp.Or(s.refusal, s.o.Limits.allow(h.Role)); err != nil {
		return nil, protocol.ToWire(err)
	}
	reply, err := h.do(s, ctx, args, notify)
	return reply, protocol.ToWire(err)
}

// open opens a directory, which must be the one that it was before.
func (s *server) open(name protocol.Dir) (*local.Dir, error) {
	d, err := s.local.OpenDir(name.Path)
	if err != nil {
		return nil, err
	}
	if name.DirID != (btrfs.DirID{}) && name.DirID != d.Status().DirID {
		d.Close()
		return nil, fmt.Errorf("%s is another directory than before: was a filesystem mounted or unmounted?", name.Path)
	}
	return d, nil
}
