package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/tree"
	"btrfs-backup/transport"
	"btrfs-backup/transport/wire"
)

var _ Trees = (*Agent)(nil)

// OpenTrees opens a folder of backups of directory trees.
func (a *Agent) OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (TreeDir, error) {
	d := &agentDir{host: a}
	if err := a.callTrees(ctx, verbOpenTrees, openTreesCall{path, o}, &d.status, nil); err != nil {
		return nil, err
	}
	return d, nil
}

// Rsync makes the machine reachable for an rsync on this one; the agent has no part in it.
func (a *Agent) Rsync(ctx context.Context) (*RsyncLink, error) {
	return rsyncShell(ctx, a.machine, a.o.Sudo)
}

// callTrees makes a call about trees. Hours may have passed since the last one, with rsync at work: if the connection broke
// meanwhile, the locks that ended with it are taken again first.
func (a *Agent) callTrees(ctx context.Context, verb string, args, reply any, notice func(wire.Raw)) error {
	err := a.callTreesOnce(ctx, verb, args, reply, notice)
	repeatable := slices.Contains([]string{verbOpenTrees, verbListTrees, verbMarkTrees}, verb)
	if repeatable && errors.Is(err, transport.ErrDisconnected) && ctx.Err() == nil {
		a.o.Log.Debug(fmt.Sprintf("%s: %v; once more", a, err))
		err = a.callTreesOnce(ctx, verb, args, reply, notice)
	}
	if err != nil && err.Error() == unknownVerb(verb) {
		return hint.New(fmt.Errorf("%s: its btrfs-backup is too old for backups of directories", a), "install the same version on both machines")
	}
	return err
}

func (a *Agent) callTreesOnce(ctx context.Context, verb string, args, reply any, notice func(wire.Raw)) error {
	conn, err := a.reach(ctx)
	if err != nil {
		return err
	}
	return fromWire(conn.Call(ctx, verb, args, reply, notice))
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

func (d *agentDir) ListTrees(ctx context.Context) (l tree.Listing, err error) {
	err = d.host.callTrees(ctx, verbListTrees, d.name(), &l, nil)
	return l, err
}

func (d *agentDir) MarkTrees(ctx context.Context) (id string, err error) {
	err = d.host.callTrees(ctx, verbMarkTrees, d.name(), &id, nil)
	return id, err
}

func (d *agentDir) BeginTree(ctx context.Context, o tree.Order) (w tree.Work, err error) {
	err = d.host.callTrees(ctx, verbBeginTree, beginTreeCall{d.name(), o}, &w, nil)
	return w, err
}

func (d *agentDir) KeepTree(ctx context.Context, name string) error {
	return d.host.callTrees(ctx, verbKeepTree, treeCall{d.name(), name}, nil, nil)
}

func (d *agentDir) FollowTree(ctx context.Context, name string) error {
	return d.host.callTrees(ctx, verbFollowTree, treeCall{d.name(), name}, nil, nil)
}

// FinishTree ends with the connection, on the far side too. What was copied stays for the next run to go on with.
func (d *agentDir) FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (record tree.Record, err error) {
	err = d.host.callTrees(ctx, verbFinishTree, finishTreeCall{d.name(), r}, &record, noticed(progress))
	return record, err
}

func (d *agentDir) DeleteTrees(ctx context.Context, names []string) (deleted []string, err error) {
	var reply deleteReply
	err = d.host.callTrees(ctx, verbDeleteTrees, deleteTreesCall{d.name(), names}, &reply, nil)
	if err == nil && reply.Failure != nil {
		err = fromWire(reply.Failure)
	}
	return reply.Deleted, err
}

func (d *agentDir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (v tree.Verified, err error) {
	told := func(n verifyNotice) {
		for _, diff := range n.Found {
			found(diff)
		}
		if n.Total > 0 { // else it is only about what was found
			progress(n.Read, n.Total)
		}
	}
	err = d.host.callTrees(ctx, verbVerifyTree, verifyTreeCall{d.name(), name, o}, &v, noticed(told))
	return v, err
}

func (d *agentDir) ExportTree(ctx context.Context, name string, w io.Writer) error {
	var writeErr error
	part := func(p []byte) {
		if writeErr == nil {
			_, writeErr = w.Write(p)
		}
	}
	err := d.host.callTrees(ctx, verbExportTree, treeCall{d.name(), name}, nil, noticed(part))
	return cmp.Or(err, writeErr)
}

func (d *agentDir) IndexTrees(ctx context.Context, o tree.IndexOptions) (i tree.Indexed, err error) {
	err = d.host.callTrees(ctx, verbIndexTrees, d.name(), &i, noticed(o.Progress))
	return i, err
}
