package protocol

import (
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// The verbs for folders of backups of directory trees. What they do is what the methods of host.TreeDir do.
var (
	OpenTrees       = verb[OpenTreesCall, host.Status, Nothing]("open-trees", Trees, repeatable)
	ListTrees       = verb[Dir, tree.Listing, Nothing]("list-trees", Trees, repeatable)
	MarkTrees       = verb[Dir, string, Nothing]("mark-trees", Trees, repeatable)
	BeginTree       = verb[BeginTreeCall, tree.Work, Nothing]("begin-tree", Trees, once)
	GrowTree        = verb[GrowTreeCall, Nothing, Nothing]("grow-tree", Trees, once)
	SavePartialTree = verb[NameCall, Nothing, Nothing]("save-partial-tree", Trees, once)
	FollowTree      = verb[NameCall, Nothing, Nothing]("follow-tree", Trees, once) // until it is cancelled
	FinishTree      = verb[FinishTreeCall, tree.Record, BytesRead]("finish-tree", Trees, once)
	DeleteTrees     = verb[DeleteTreesCall, DeleteReply, Nothing]("delete-trees", Trees, once)
	ExportTree      = verb[NameCall, Nothing, []byte]("export-tree", Trees, once) // the list, piece by piece
	IndexTrees      = verb[Dir, tree.Indexed, BytesRead]("index-trees", Trees, once)
)

type OpenTreesCall struct {
	Path    string
	Options tree.OpenOptions
}

type BeginTreeCall struct {
	Dir
	Order tree.Order
}

type GrowTreeCall struct {
	Dir
	Growth tree.Growth
}

type FinishTreeCall struct {
	Dir
	Result tree.Result
}

type DeleteTreesCall struct {
	Dir
	Names []string
}

// BytesRead are those read since the last notice.
type BytesRead = int64
