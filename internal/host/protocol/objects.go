package protocol

import (
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// The verbs for folders of objects. What they do is what the methods of object.Bucket do, in pieces: no object is in one message
// unless it is small. The folder is opened by Open.
var (
	ListObjects   = verb[ListObjectsCall, ListObjectsReply, Nothing]("list-objects", Any, repeatable)
	StatObject    = verb[ObjectCall, object.Info, Nothing]("stat-object", Any, repeatable)
	ReadObject    = verb[ReadObjectCall, ReadObjectReply, Nothing]("read-object", Any, repeatable)
	PutObject     = verb[PutObjectCall, PutObjectReply, Nothing]("put-object", Destination, once)
	WriteObject   = verb[WriteObjectCall, Nothing, Nothing]("write-object", Destination, once)
	EndObject     = verb[EndObjectCall, Nothing, Nothing]("end-object", Destination, once)
	DeleteObjects = verb[DeleteObjectsCall, Nothing, Nothing]("delete-objects", Destination, repeatable)
)

const (
	// ObjectPiece is how many bytes of an object are in a message.
	ObjectPiece = 1 << 20
	// ObjectsPage is how many objects are listed or deleted by a call.
	ObjectsPage = 5000
)

// ObjectCall is about an object in a directory.
type ObjectCall struct {
	Dir
	Key string
}

type ListObjectsCall struct {
	Dir
	Prefix, After string
}

type ListObjectsReply struct {
	Objects []object.Info
	More    bool
}

type ReadObjectCall struct {
	ObjectCall
	Offset, Length int64  // no more than ObjectPiece is read
	Same           string // what File was before: what has got the key meanwhile is not read; "": anything
}

type ReadObjectReply struct {
	Content []byte
	Size    int64 // of the object
	File    string
}

// PutObjectCall begins to store an object.
type PutObjectCall struct {
	ObjectCall
	Size    int64
	SHA256  []byte
	Replace bool
	Again   bool   // the connection broke: what has the key and the content is that very object
	Content []byte // the first piece
}

type PutObjectReply struct {
	Done bool   // it is stored
	ID   uint64 // for what follows, on the same connection
}

type WriteObjectCall struct {
	ID      uint64
	Offset  int64
	Content []byte
}

type EndObjectCall struct {
	ID       uint64
	Complete bool // else it is given up
}

type DeleteObjectsCall struct {
	Dir
	Keys []string
}
