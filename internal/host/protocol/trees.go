package protocol

import "btrfs-backup/internal/tree"

// The verbs of the agent for backups of directory trees, as those in verbs.go.
const (
	VerbOpenTrees   = "open-trees"   // OpenTreesCall -> Status
	VerbListTrees   = "list-trees"   // DirName -> tree.Listing
	VerbMarkTrees   = "mark-trees"   // DirName -> string
	VerbBeginTree   = "begin-tree"   // BeginTreeCall -> tree.Work
	VerbKeepTree    = "keep-tree"    // TreeCall
	VerbFollowTree  = "follow-tree"  // TreeCall; it ends when it is cancelled
	VerbFinishTree  = "finish-tree"  // FinishTreeCall -> tree.Record; bytes read since the last notice are a notice (int64)
	VerbDeleteTrees = "delete-trees" // DeleteTreesCall -> DeleteReply
	VerbVerifyTree  = "verify-tree"  // VerifyTreeCall -> tree.Verified; VerifyNotice
	VerbExportTree  = "export-tree"  // TreeCall; a []byte is a notice, a part of the list
	VerbIndexTrees  = "index-trees"  // DirName -> tree.Indexed; notices as of finish-tree
)

type OpenTreesCall struct {
	Path    string
	Options tree.OpenOptions
}

type BeginTreeCall struct {
	Dir   DirName
	Order tree.Order
}

type TreeCall struct {
	Dir  DirName
	Name string
}

type FinishTreeCall struct {
	Dir    DirName
	Result tree.Result
}

type DeleteTreesCall struct {
	Dir   DirName
	Names []string
}

type VerifyTreeCall struct {
	Dir     DirName
	Name    string
	Options tree.VerifyOptions
}

// VerifyNotice tells what was found since the last one, and how far it is.
type VerifyNotice struct {
	Found       []tree.Difference
	Read, Total int64 // bytes
}
