package protocol

import "github.com/btrfs-backup/btrfs-backup/internal/heal"

// The verbs for damaged backups. What they do is what the methods of host.Healing do.
var (
	FindDamage     = verb[NameCall, heal.Searched, DamageNotice]("find-damage", Owner, once)
	PutBlockBack   = verb[PieceCall, []heal.Copy, Nothing]("put-block-back", Owner, once)
	RewriteExtents = verb[PiecesCall, heal.Rewritten, Nothing]("rewrite-extents", Owner, once)
	CleanHealed    = verb[Dir, Nothing, Nothing]("clean-healed", Owner, once)
	ReadPiece      = verb[PieceCall, heal.Piece, Nothing]("read-piece", Owner, repeatable)
)

type PieceCall struct {
	Dir
	Name  string
	Piece heal.Piece
}

type PiecesCall struct {
	Dir
	Name   string
	Pieces []heal.Piece
}

// DamageNotice tells what was found and read since the last one.
type DamageNotice struct {
	Found []heal.Damage
	Bytes int64
}
