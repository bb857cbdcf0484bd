package protocol

import "github.com/btrfs-backup/btrfs-backup/internal/attributes"

// The verbs for attributes that no stream holds. What they do is what the methods of host.Attributed do. Lists are encoded.
var (
	Attributes    = verb[AttributesCall, []byte, Nothing]("attributes", Source, repeatable)
	SetAttributes = verb[SetAttributesCall, attributes.Report, Nothing]("set-attributes", Owner, repeatable)
)

type AttributesCall struct {
	Dir
	Name, Parent string
}

type SetAttributesCall struct {
	Dir
	Name string
	List []byte
}
