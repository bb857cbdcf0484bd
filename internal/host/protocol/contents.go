package protocol

import "github.com/btrfs-backup/btrfs-backup/internal/tree"

// The verbs for what subvolumes and copies of directories hold. What they do is what the methods of host.Contents do.
var (
	VerifyTree   = verb[VerifyTreeCall, tree.Verified, VerifyNotice]("verify-tree", Owner, once)
	MakeManifest = verb[NameCall, Nothing, Nothing]("make-manifest", Destination, repeatable) // which tells nothing of what is in it
	DescribeTree = verb[Dir, tree.Verified, DescribeNotice]("describe-tree", Owner, once)
)

type VerifyTreeCall struct {
	Dir
	Name    string
	Options tree.VerifyOptions
}

// VerifyNotice tells what was found since the last one, and how far it is.
type VerifyNotice struct {
	Found       []tree.Difference
	Read, Total int64 // bytes
}

// DescribeNotice has the next piece of the manifest, or is a VerifyNotice.
type DescribeNotice struct {
	VerifyNotice
	Manifest []byte
}
