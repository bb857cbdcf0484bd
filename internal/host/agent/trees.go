package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/internal/tree"
	"btrfs-backup/transport"
	"btrfs-backup/transport/wire"
)

var _ host.Trees = (*Host)(nil)

// OpenTrees opens a folder of backups of directory trees.
func (h *Host) OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (host.TreeDir, error) {
	d := &dir{host: h}
	if err := h.callTrees(ctx, protocol.VerbOpenTrees, protocol.OpenTreesCall{Path: path, Options: o}, &d.status, nil); err != nil {
		return nil, err
	}
	return d, nil
}

// callTrees makes a call about trees. Hours may have passed since the last one, with rsync at work: if the connection broke
// meanwhile, the locks that ended with it are taken again first.
func (h *Host) callTrees(ctx context.Context, verb string, args, reply any, notice func(wire.Raw)) error {
	err := h.callTreesOnce(ctx, verb, args, reply, notice)
	repeatable := slices.Contains([]string{protocol.VerbOpenTrees, protocol.VerbListTrees, protocol.VerbMarkTrees}, verb)
	if repeatable && errors.Is(err, transport.ErrDisconnected) && ctx.Err() == nil {
		h.o.Log.Debug(fmt.Sprintf("%s: %v; once more", h, err))
		err = h.callTreesOnce(ctx, verb, args, reply, notice)
	}
	if err != nil && err.Error() == protocol.UnknownVerb(verb) {
		return hint.New(fmt.Errorf("%s: its btrfs-backup is too old for backups of directories", h), "install the same version on both machines")
	}
	return err
}

func (h *Host) callTreesOnce(ctx context.Context, verb string, args, reply any, notice func(wire.Raw)) error {
	conn, err := h.reach(ctx)
	if err != nil {
		return err
	}
	return protocol.FromWire(conn.Call(ctx, verb, args, reply, notice))
}

// noticed gives what passes notices on to tell, which may be nil.
func noticed[T any](tell func(T)) func(wire.Raw) {
	if tell == nil {
		return nil
	}
	return func(n wire.Raw) {
		var v T
		if n.Decode(&v) == nil {
			tell(v)
		}
	}
}

func (d *dir) ListTrees(ctx context.Context) (l tree.Listing, err error) {
	err = d.host.callTrees(ctx, protocol.VerbListTrees, d.name(), &l, nil)
	return l, err
}

func (d *dir) MarkTrees(ctx context.Context) (id string, err error) {
	err = d.host.callTrees(ctx, protocol.VerbMarkTrees, d.name(), &id, nil)
	return id, err
}

func (d *dir) BeginTree(ctx context.Context, o tree.Order) (w tree.Work, err error) {
	err = d.host.callTrees(ctx, protocol.VerbBeginTree, protocol.BeginTreeCall{Dir: d.name(), Order: o}, &w, nil)
	return w, err
}

func (d *dir) KeepTree(ctx context.Context, name string) error {
	return d.host.callTrees(ctx, protocol.VerbKeepTree, protocol.TreeCall{Dir: d.name(), Name: name}, nil, nil)
}

func (d *dir) FollowTree(ctx context.Context, name string) error {
	return d.host.callTrees(ctx, protocol.VerbFollowTree, protocol.TreeCall{Dir: d.name(), Name: name}, nil, nil)
}

// FinishTree ends with the connection, on the far side too. What was copied stays for the next run to go on with.
func (d *dir) FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (record tree.Record, err error) {
	err = d.host.callTrees(ctx, protocol.VerbFinishTree, protocol.FinishTreeCall{Dir: d.name(), Result: r}, &record, noticed(progress))
	return record, err
}

func (d *dir) DeleteTrees(ctx context.Context, names []string) (deleted []string, err error) {
	var reply protocol.DeleteReply
	err = d.host.callTrees(ctx, protocol.VerbDeleteTrees, protocol.DeleteTreesCall{Dir: d.name(), Names: names}, &reply, nil)
	if err == nil && reply.Failure != nil {
		err = protocol.FromWire(reply.Failure)
	}
	return reply.Deleted, err
}

func (d *dir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (v tree.Verified, err error) {
	told := func(n protocol.VerifyNotice) {
		for _, diff := range n.Found {
			found(diff)
		}
		if n.Total > 0 { // else it is only about what was found
			progress(n.Read, n.Total)
		}
	}
	err = d.host.callTrees(ctx, protocol.VerbVerifyTree, protocol.VerifyTreeCall{Dir: d.name(), Name: name, Options: o}, &v, noticed(told))
	return v, err
}

func (d *dir) ExportTree(ctx context.Context, name string, w io.Writer) error {
	var writeErr error
	part := func(p []byte) {
		if writeErr == nil {
			_, writeErr = w.Write(p)
		}
	}
	err := d.host.callTrees(ctx, protocol.VerbExportTree, protocol.TreeCall{Dir: d.name(), Name: name}, nil, noticed(part))
	return cmp.Or(err, writeErr)
}

func (d *dir) IndexTrees(ctx context.Context, o tree.IndexOptions) (i tree.Indexed, err error) {
	err = d.host.callTrees(ctx, protocol.VerbIndexTrees, d.name(), &i, noticed(o.Progress))
	return i, err
}
