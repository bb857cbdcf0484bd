package serve

import (
	"context"

	"btrfs-backup/internal/host/local"
	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/transport/wire"
)

// A role is what a verb is for.
type role int

const (
	anyRole role = iota
	sourceRole
	destinationRole
	treesRole
)

type handler struct {
	role role
	do   func(s *server, ctx context.Context, args wire.Raw, notify func(any)) (any, error)
}

// decoded makes a handler of a function whose argument has a type.
func decoded[A any](do func(s *server, ctx context.Context, a A, notify func(any)) (any, error)) func(*server, context.Context, wire.Raw, func(any)) (any, error) {
	return func(s *server, ctx context.Context, args wire.Raw, notify func(any)) (any, error) {
		var a A
		if err := args.Decode(&a); err != nil {
			return nil, err
		}
		return do(s, ctx, a, notify)
	}
}

// inDir makes a handler of a function that works on an open directory.
func inDir[A any](name func(A) protocol.DirName, do func(s *server, ctx context.Context, d *local.Dir, a A) (any, error)) func(*server, context.Context, wire.Raw, func(any)) (any, error) {
	return decoded(func(s *server, ctx context.Context, a A, _ func(any)) (any, error) {
		d, err := s.open(name(a))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return do(s, ctx, d, a)
	})
}

func itself(d protocol.DirName) protocol.DirName { return d }

var verbs = map[string]handler{
	protocol.VerbFormat: {anyRole, decoded(func(s *server, ctx context.Context, _ struct{}, _ func(any)) (any, error) { return s.local.Format(ctx) })},
	protocol.VerbOpen: {anyRole, inDir(itself, func(_ *server, _ context.Context, d *local.Dir, _ protocol.DirName) (any, error) {
		return d.Status(), nil
	})},
	protocol.VerbMkdir: {anyRole, decoded(func(s *server, ctx context.Context, path string, _ func(any)) (any, error) {
		return nil, s.local.MkdirAll(ctx, path)
	})},
	protocol.VerbList:   {anyRole, inDir(itself, (*server).list)},
	protocol.VerbLock:   {anyRole, decoded((*server).lock)},
	protocol.VerbUnlock: {anyRole, decoded((*server).unlock)},
	protocol.VerbNested: {sourceRole, inDir(itself, func(_ *server, ctx context.Context, d *local.Dir, _ protocol.DirName) (any, error) {
		return d.Nested(ctx)
	})},
	protocol.VerbTake: {sourceRole, inDir(func(c protocol.TakeCall) protocol.DirName { return c.Dir }, func(s *server, ctx context.Context, d *local.Dir, c protocol.TakeCall) (any, error) {
		if err := s.o.Limits.checkName(c.Name); err != nil {
			return nil, err
		}
		return d.Take(ctx, c.Source, c.UUID, c.Name)
	})},
	protocol.VerbDelete: {anyRole, inDir(func(c protocol.DeleteCall) protocol.DirName { return c.Dir }, (*server).delete)},
	protocol.VerbSend:   {sourceRole, decoded((*server).send)},
	protocol.VerbMeasure: {sourceRole, inDir(func(c protocol.SendCall) protocol.DirName { return c.Dir }, func(_ *server, ctx context.Context, d *local.Dir, c protocol.SendCall) (any, error) {
		if err := d.MustHold(c.Order.Snapshot, c.Order.Parent); err != nil {
			return nil, err
		}
		return d.Measure(ctx, c.Order)
	})},
	protocol.VerbReceive: {destinationRole, decoded((*server).receive)},
	protocol.VerbClose:   {destinationRole, decoded((*server).closeStream)},
	protocol.VerbCommit:  {destinationRole, inDir(func(c protocol.CommitCall) protocol.DirName { return c.Dir }, (*server).commit)},
	protocol.VerbAbort:   {destinationRole, inDir(func(c protocol.AbortCall) protocol.DirName { return c.Dir }, (*server).abort)},
	protocol.VerbLedger: {sourceRole, inDir(func(c protocol.LedgerCall) protocol.DirName { return c.Dir }, func(_ *server, ctx context.Context, d *local.Dir, c protocol.LedgerCall) (any, error) {
		return nil, d.WriteLedger(ctx, c.Content)
	})},
	protocol.VerbLink: {sourceRole, inDir(func(c protocol.LinkCall) protocol.DirName { return c.Dir }, func(s *server, ctx context.Context, d *local.Dir, c protocol.LinkCall) (any, error) {
		if err := s.o.Limits.checkLink(c.Name, c.Target); err != nil {
			return nil, err
		}
		return nil, d.Link(ctx, c.Name, c.Target)
	})},
	protocol.VerbSync: {anyRole, inDir(itself, func(_ *server, ctx context.Context, d *local.Dir, _ protocol.DirName) (any, error) {
		return nil, d.Sync(ctx)
	})},
}
