// Package verify compares a tree with its manifest. What it could not read it never passes.
package verify

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Options tell how a tree is verified.
type Options struct {
	Fast bool // of a copy of a directory, do not read contents; of a subvolume, only what is new since a verified one
	Part Part // of the contents that is read
	// Since is the name of a subvolume in the folder: only contents are read that differ from that.
	Since string
	// Only are the paths whose contents are read; nil: all. What gives a tree makes them of Since.
	Only map[string]struct{} `cbor:"-"`
	// Also are paths whose contents are read although Since may have them: they were damaged there.
	Also []string
}

// ReadAlso adds Also to Only.
func (o Options) ReadAlso() {
	for _, path := range o.Also {
		if o.Only != nil {
			o.Only[path] = struct{}{}
		}
	}
}

// reads tells whether the content of a file is to be read.
func (o Options) reads(path string) bool {
	if o.Only != nil {
		if _, chosen := o.Only[path]; !chosen {
			return false
		}
	}
	return !o.Fast && o.Part.Has(path)
}

// A Difference is one thing in which a tree differs from its manifest.
type Difference struct {
	Path   string  `json:"path"`
	Kind   Kind    `json:"kind"`
	Want   string  `json:"want,omitempty"`
	Got    string  `json:"got,omitempty"`
	Damage *Damage `json:"damage,omitempty"`
}

// A Damage is a part of a file that the disk does not give.
type Damage struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
	// Shared are the other files on the filesystem with the same damage: their paths from the folder, or with a slash before them from the
	// top of the filesystem.
	Shared []string `json:"shared,omitempty"`
}

// A Kind is in what a file differs.
type Kind string

// The kinds of differences.
const (
	Missing      Kind = "missing"
	Unexpected   Kind = "unexpected"
	OtherType    Kind = "type"
	OtherSize    Kind = "size"
	OtherTime    Kind = "time"
	OtherMode    Kind = "mode"
	OtherOwner   Kind = "owner"
	OtherTarget  Kind = "target"
	OtherDevice  Kind = "device"
	OtherLinks   Kind = "links"
	OtherXattrs  Kind = "xattrs"
	OtherContent Kind = "content"
	Damaged      Kind = "damaged"
	NotReadable  Kind = "not readable"
	Altered      Kind = "altered" // a subvolume since it was received, of which no manifest tells in what
)

// Verified sums a verification up.
type Verified struct {
	Files       int64 // all but directories
	Bytes       int64 // read
	Differences int64
	Basis       Basis  // what it was compared with
	NotKept     string // why a manifest that was made is not kept; "" if it is, or was there
	Since       string // the verified subvolume that all contents are shared with that were not read; "": none
}

// A Basis is what a tree was compared with.
type Basis string

// The bases.
const (
	ByManifest Basis = "manifest"      // from when the backup was made, or first verified
	ByReading  Basis = "checksums"     // of the filesystem alone
	ByMaking   Basis = "manifest made" // now: the checksums of the filesystem, and later the manifest
)

// readersAtOnce is how many files are read at a time: while one waits for a disk, another one is hashed.
const readersAtOnce = 4

// Tree compares the tree at root with its manifest, and borrows both. It tells found of each difference before it returns, in the
// order of manifest.Compare, and sums up the entries of the manifest and what was read.
//
// progress is told how many bytes were read, and how many there are to read. Its calls and those of found never
// overlap.
//
// What the manifest has no entry for is Unexpected, each file of it. What is mounted in the tree, or is a subvolume of its own,
// is not looked into. A file of another type differs in nothing else; one of another size is not read. Of what cannot be read
// it tells NotReadable: that is a difference, too. A manifest that is damaged is an error before anything is compared.
func Tree(ctx context.Context, root *os.File, of io.ReadSeeker, o Options, found func(Difference), progress func(read, total int64)) (v Verified, err error) {
	linked, total, err := preview(ctx, of, o.reads)
	if err != nil {
		return v, err
	}
	if _, err := of.Seek(0, io.SeekStart); err != nil {
		return v, err
	}
	entries, err := manifest.NewReader(of)
	if err != nil {
		return v, err
	}
	defer entries.Close()
	c := &comparison{
		ctx: ctx, reads: o.reads, entries: entries, linkage: newLinkage(linked), known: make(map[uint64]*rereading),
		toRead: make(chan *rereading), checked: make(chan checkedFile, 256),
	}
	var telling sync.Mutex
	c.progress = func(read, skipped int64) {
		telling.Lock()
		defer telling.Unlock()
		v.Bytes += read
		total -= skipped
		progress(v.Bytes, total)
	}
	err = c.run(root, func(d Difference) {
		telling.Lock()
		defer telling.Unlock()
		v.Differences++
		found(d)
	})
	v.Files = c.files
	return v, err
}

// preview reads a manifest to its end, so that a damaged one is found before anything is compared with it. It gives the inodes of
// files that have several paths (all others can be forgotten when they have been read), and the bytes of the files that are to be read.
func preview(ctx context.Context, file io.Reader, reads func(path string) bool) (linked map[uint64]*name, total int64, err error) {
	type sized struct {
		inode uint64
		bytes int64 // to be read
	}
	var several []sized
	err = eachEntry(ctx, file, func(e manifest.Entry) error {
		if !reads(e.Path) {
			e.Size = 0
		}
		if e.Links > 1 && e.Type != manifest.Directory {
			several = append(several, sized{e.Inode, e.Size})
		} else {
			total += e.Size
		}
		return nil
	})
	slices.SortFunc(several, func(a, b sized) int {
		return cmp.Or(cmp.Compare(a.inode, b.inode), cmp.Compare(b.bytes, a.bytes))
	})
	linked = make(map[uint64]*name)
	for i, s := range several {
		if i > 0 && s.inode == several[i-1].inode {
			linked[s.inode] = nil
		} else {
			total += s.bytes
		}
	}
	return linked, total, err
}

func eachEntry(ctx context.Context, file io.Reader, do func(manifest.Entry) error) error {
	entries, err := manifest.NewReader(file)
	if err != nil {
		return err
	}
	defer entries.Close()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = do(e)
		}
		if err != nil {
			return err
		}
	}
}

// run tells found from this goroutine, while others walk and read.
func (c *comparison) run(root *os.File, found func(Difference)) error {
	var readers sync.WaitGroup
	for range readersAtOnce {
		readers.Go(func() {
			buffer := make([]byte, walk.ReadSize)
			for r := range c.toRead {
				r.read(c.ctx, buffer, c.progress)
			}
		})
	}
	var walked error
	go func() {
		defer close(c.checked)
		defer close(c.toRead)
		walked = c.walk(root)
	}()
	for file := range c.checked {
		file.judgeContent()
		for _, d := range file.differences {
			found(d)
		}
	}
	readers.Wait()
	if walked == nil && c.ctx.Err() != nil {
		walked = context.Cause(c.ctx) // a content that was not read to its end was not judged
	}
	return walked
}

// Export writes a list of the regular files of a manifest with their SHA-256. "sha256sum --check", run in the tree, reads it. With
// an error, the list is incomplete. Sparse files have another digest in the manifest: those of the tree at root are compared with that,
// and read as a whole.
func Export(ctx context.Context, root *os.File, of io.Reader, to io.Writer) error {
	list := bufio.NewWriter(to)
	err := eachEntry(ctx, of, func(e manifest.Entry) error {
		if e.Sparse {
			if err := unsparse(ctx, root, &e); err != nil {
				return fmt.Errorf("reading %q: %w", e.Path, err)
			}
		}
		return manifest.Sum(list, e)
	})
	if err != nil {
		return err
	}
	return list.Flush()
}

// unsparse gives an entry the SHA-256 of the whole content.
func unsparse(ctx context.Context, root *os.File, e *manifest.Entry) error {
	file, err := btrfs.OpenUnmounted(root, e.Path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := make([]byte, walk.ReadSize)
	sum, err := e.Content(ctx, int(file.Fd()), buffer, manifest.Watcher{})
	if err == nil && sum != e.SHA256 {
		err = errors.New("its content is not that of the manifest")
	}
	if err != nil {
		return err
	}
	e.Sparse = false
	e.SHA256, err = e.Content(ctx, int(file.Fd()), buffer, manifest.Watcher{})
	return err
}
