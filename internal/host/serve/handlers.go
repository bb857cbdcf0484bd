package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// A handler answers the calls of a verb.
type handler struct {
	protocol.About
	do func(s *server, ctx context.Context, args wire.Raw, notify func(any)) (any, error)
}

// handlers are those of all verbs.
var handlers = byName(
	handle(protocol.Format, (*server).format),
	handleDir(protocol.Open, (*server).status),
	handle(protocol.Mkdir, (*server).mkdir),
	handleDir(protocol.Rmdir, (*server).rmdir),
	handleDir(protocol.List, (*server).list),
	handleTold(protocol.Lock, (*server).lock),
	handle(protocol.Unlock, (*server).unlock),
	handleDir(protocol.Nested, (*server).nested),
	handleDir(protocol.Changed, (*server).changed),
	handleDir(protocol.Take, (*server).take),
	handleDir(protocol.Delete, (*server).delete),
	handleTold(protocol.Send, (*server).send),
	handleDir(protocol.Measure, (*server).measure),
	handle(protocol.Receive, (*server).receive),
	handle(protocol.Close, (*server).closeStream),
	handleDir(protocol.Commit, (*server).commit),
	handleDir(protocol.Abort, (*server).abort),
	handleDir(protocol.Ledger, (*server).writeLedger),
	handleDir(protocol.Link, (*server).link),
	handleDir(protocol.ListSets, (*server).listSets),
	handleDir(protocol.MakeSet, (*server).makeSet),
	handleDir(protocol.Relink, (*server).relink),
	handleDir(protocol.RemoveSets, (*server).removeSets),
	handleDirTold(protocol.Changes, (*server).changes),
	handleDirTold(protocol.FindDamage, (*server).findDamage),
	handleDir(protocol.PutBlockBack, (*server).putBlockBack),
	handleDir(protocol.RewriteExtents, (*server).rewriteExtents),
	handleDir(protocol.CleanHealed, (*server).cleanHealed),
	handleDir(protocol.ReadPiece, (*server).readPiece),
	handleDir(protocol.Versions, (*server).versions),
	handleDirTold(protocol.Manifest, (*server).manifest),
	handleDir(protocol.Relatives, (*server).relatives),
	handleDir(protocol.Replace, (*server).replace),

	handle(protocol.Locate, (*server).locate),
	handleDir(protocol.Freed, (*server).freed),

	handleDir(protocol.Continue, (*server).continues),
	handleDir(protocol.Attributes, (*server).attributes),
	handleDir(protocol.SetAttributes, (*server).setAttributes),
	handleDir(protocol.ContinueTrees, (*server).continuesTrees),

	handleDir(protocol.FindFiles, (*server).findFiles),
	handleDirTold(protocol.PackFiles, (*server).packFiles),
	handleDir(protocol.PlaceFiles, (*server).placeFiles),
	handle(protocol.UnpackFiles, (*server).unpackFiles),
	handle(protocol.UnpackBatch, (*server).unpackBatch),
	handle(protocol.UnpackEnd, (*server).unpackEnd),
	handleDirTold(protocol.CopyFiles, (*server).copyFiles),

	handleDir(protocol.ListObjects, (*server).listObjects),
	handleDir(protocol.StatObject, (*server).statObject),
	handleDir(protocol.ReadObject, (*server).readObject),
	handleDir(protocol.PutObject, (*server).putObject),
	handle(protocol.WriteObject, (*server).writeObject),
	handle(protocol.EndObject, (*server).endObject),
	handleDir(protocol.DeleteObjects, (*server).deleteObjects),

	handle(protocol.OpenTrees, (*server).openTrees),
	handleDir(protocol.ListTrees, (*server).listTrees),
	handleDir(protocol.MarkTrees, (*server).markTrees),
	handleDir(protocol.BeginTree, (*server).beginTree),
	handleDir(protocol.GrowTree, (*server).growTree),
	handleDir(protocol.SavePartialTree, (*server).savePartialTree),
	handleDir(protocol.FollowTree, (*server).followTree),
	handleDirTold(protocol.FinishTree, (*server).finishTree),
	handleDir(protocol.DeleteTrees, (*server).deleteTrees),
	handleDirTold(protocol.VerifyTree, (*server).verifyTree),
	handleDir(protocol.MakeManifest, (*server).makeManifest),
	handleDirTold(protocol.DescribeTree, (*server).describeTree),
	handleDirTold(protocol.ExportTree, (*server).exportTree),
	handleDirTold(protocol.IndexTrees, (*server).indexTrees),
)

func byName(all ...handler) map[string]handler {
	m := make(map[string]handler, len(all))
	for _, h := range all {
		m[h.Name] = h
	}
	return m
}

// handleTold makes a handler that tells notices before it replies.
func handleTold[A, R, N any](v protocol.Verb[A, R, N], do func(s *server, ctx context.Context, args A, tell func(N)) (R, error)) handler {
	return handler{v.About, func(s *server, ctx context.Context, raw wire.Raw, notify func(any)) (any, error) {
		var args A
		if err := raw.Decode(&args); err != nil {
			return nil, err
		}
		return do(s, ctx, args, func(n N) { notify(n) })
	}}
}

func handle[A, R, N any](v protocol.Verb[A, R, N], do func(s *server, ctx context.Context, args A) (R, error)) handler {
	return handleTold(v, func(s *server, ctx context.Context, args A, _ func(N)) (R, error) { return do(s, ctx, args) })
}

// handleDirTold makes a handler that works on an open directory, and tells notices before it replies.
func handleDirTold[A inDir, R, N any](v protocol.Verb[A, R, N], do func(s *server, ctx context.Context, d *local.Dir, args A, tell func(N)) (R, error)) handler {
	return handleTold(v, func(s *server, ctx context.Context, args A, tell func(N)) (none R, err error) {
		d, err := s.open(args.In())
		if err != nil {
			return none, err
		}
		defer d.Close()
		return do(s, ctx, d, args, tell)
	})
}

func handleDir[A inDir, R, N any](v protocol.Verb[A, R, N], do func(s *server, ctx context.Context, d *local.Dir, args A) (R, error)) handler {
	return handleDirTold(v, func(s *server, ctx context.Context, d *local.Dir, args A, _ func(N)) (R, error) {
		return do(s, ctx, d, args)
	})
}

// inDir is what is asked about a directory.
type inDir interface{ In() protocol.Dir }
