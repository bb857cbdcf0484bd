package host

import (
	"context"

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
func inDir[A any](name func(A) dirName, do func(s *server, ctx context.Context, d *localDir, a A) (any, error)) func(*server, context.Context, wire.Raw, func(any)) (any, error) {
	return decoded(func(s *server, ctx context.Context, a A, _ func(any)) (any, error) {
		d, err := s.open(name(a))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return do(s, ctx, d, a)
	})
}

func itself(d dirName) dirName { return d }

var verbs = map[string]handler{
	verbFormat: {anyRole, decoded(func(s *server, ctx context.Context, _ struct{}, _ func(any)) (any, error) { return s.local.Format(ctx) })},
	verbOpen:   {anyRole, inDir(itself, func(_ *server, _ context.Context, d *localDir, _ dirName) (any, error) { return d.status, nil })},
	verbMkdir: {anyRole, decoded(func(s *server, ctx context.Context, path string, _ func(any)) (any, error) {
		return nil, s.local.MkdirAll(ctx, path)
	})},
	verbList:   {anyRole, inDir(itself, (*server).list)},
	verbLock:   {anyRole, decoded((*server).lock)},
	verbUnlock: {anyRole, decoded((*server).unlock)},
	verbNested: {sourceRole, inDir(itself, func(_ *server, ctx context.Context, d *localDir, _ dirName) (any, error) { return d.Nested(ctx) })},
	verbTake: {sourceRole, inDir(func(c takeCall) dirName { return c.Dir }, func(s *server, ctx context.Context, d *localDir, c takeCall) (any, error) {
		if err := s.o.Limits.checkName(c.Name); err != nil {
			return nil, err
		}
		return d.Take(ctx, c.Source, c.UUID, c.Name)
	})},
	verbDelete: {anyRole, inDir(func(c deleteCall) dirName { return c.Dir }, (*server).delete)},
	verbSend:   {sourceRole, decoded((*server).send)},
	verbMeasure: {sourceRole, inDir(func(c sendCall) dirName { return c.Dir }, func(_ *server, ctx context.Context, d *localDir, c sendCall) (any, error) {
		if err := d.mustHold(c.Order.Snapshot, c.Order.Parent); err != nil {
			return nil, err
		}
		return d.Measure(ctx, c.Order)
	})},
	verbReceive: {destinationRole, decoded((*server).receive)},
	verbClose:   {destinationRole, decoded((*server).closeStream)},
	verbCommit:  {destinationRole, inDir(func(c commitCall) dirName { return c.Dir }, (*server).commit)},
	verbAbort:   {destinationRole, inDir(func(c abortCall) dirName { return c.Dir }, (*server).abort)},
	verbLedger: {sourceRole, inDir(func(c ledgerCall) dirName { return c.Dir }, func(_ *server, ctx context.Context, d *localDir, c ledgerCall) (any, error) {
		return nil, d.WriteLedger(ctx, c.Content)
	})},
	verbLink: {sourceRole, inDir(func(c linkCall) dirName { return c.Dir }, func(s *server, ctx context.Context, d *localDir, c linkCall) (any, error) {
		if err := s.o.Limits.checkLink(c.Name, c.Target); err != nil {
			return nil, err
		}
		return nil, d.Link(ctx, c.Name, c.Target)
	})},
	verbSync: {anyRole, inDir(itself, func(_ *server, ctx context.Context, d *localDir, _ dirName) (any, error) { return nil, d.Sync(ctx) })},
}
