// Package files gets single files and trees back out of backups: Pack reads what was chosen, Unpack writes it, on the same machine or on
// two. Between them goes a sequence of records; within one filesystem extents are shared in place of being read.
//
// Nothing is believed of a backup, nor of records from another machine. Both sides work by descriptors, beneath a directory that is
// open: no symbolic link is followed in a backup, nor in the target, and no name leads elsewhere. What stands under a final name is
// complete; work in progress has no name, or a hidden one. Nothing that exists is written over, unless that is asked for; then it is
// replaced at once by what is complete. Memory does not grow with what is restored, but for names of files with several names.
package files

import (
	"errors"
	"fmt"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// A Selection is what is to be read: paths beneath a backup, as Clean gives them.
type Selection struct {
	Backup string // its name in the directory that is open
	Paths  []string
}

// A Found is what a chosen path is in a backup.
type Found struct {
	Path  string
	Entry         // without extended attributes
	Above []Entry // the directories that it lies in, from the top, each with its name
}

// An Entry describes a file or directory.
type Entry struct {
	Depth   int           `cbor:"1,keyasint,omitempty"` // 0: a chosen path itself; 1: it lies in that; and so on
	Name    string        `cbor:"2,keyasint,omitempty"` // in the directory that it lies in; of a chosen path, it says nothing
	Type    manifest.Type `cbor:"3,keyasint,omitempty"`
	Mode    uint32        `cbor:"4,keyasint,omitempty"` // the permissions with the setuid, setgid and sticky bits
	UID     uint32        `cbor:"5,keyasint,omitempty"`
	GID     uint32        `cbor:"6,keyasint,omitempty"`
	Size    int64         `cbor:"7,keyasint,omitempty"` // of a regular file
	ModTime manifest.Time `cbor:"8,keyasint,omitempty"`
	UseTime manifest.Time `cbor:"9,keyasint,omitempty"`
	Target  string        `cbor:"10,keyasint,omitempty"` // of a symbolic link
	Device  uint64        `cbor:"11,keyasint,omitempty"` // as in st_rdev

	Xattrs []manifest.Xattr `cbor:"12,keyasint,omitempty"`
	// Link is equal for all names of one file, and 0 of a file of which one name was chosen. The content follows the first.
	Link uint32 `cbor:"13,keyasint,omitempty"`
	Item int    `cbor:"14,keyasint,omitempty"` // at the depth 0: the place of the chosen path in the selection

	Flags btrfs.Flags `cbor:"15,keyasint,omitempty"` // that are on record beside the backup
}

// A Record is a step of a restore: an entry begins, content of the regular file that began last, or its end.
type Record struct {
	Entry   *Entry `cbor:"1,keyasint,omitempty"`
	At      int64  `cbor:"2,keyasint,omitempty"` // where Content belongs; what comes between two is a hole
	Content []byte `cbor:"3,keyasint,omitempty"`
	End     bool   `cbor:"4,keyasint,omitempty"` // the file is complete
	// Failed tells that the file could not be read: what came of it is nothing.
	Failed bool `cbor:"5,keyasint,omitempty"`
}

// ErrMalformed is in errors of records that no Pack makes.
var ErrMalformed = errors.New("refused: the records of the backup are malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Clean gives a path beneath a backup the form that all here have: relative, "." being all of the backup. It refuses what leads out.
func Clean(path string) (string, error) {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case name == "..":
			return "", fmt.Errorf("%q: .. is not understood in the path of a backup", path)
		case strings.IndexByte(name, 0) >= 0:
			return "", fmt.Errorf("%q: no file has such a name", path)
		case name != "" && name != ".":
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ".", nil
	}
	return strings.Join(names, "/"), nil
}

const (
	maxDepth  = 8 << 10 // of directories
	maxXattrs = 1 << 20 // bytes of names and values of one file
	maxName   = 255     // bytes; linux/limits.h: NAME_MAX
	maxTarget = 4095    // the same: PATH_MAX, with the byte at the end
)

// check refuses an entry that no Pack makes.
func (e *Entry) check() error {
	device := e.Type == manifest.BlockDevice || e.Type == manifest.CharDevice
	switch {
	case e.Depth < 0 || e.Depth > maxDepth:
		return malformed("an entry at the depth %d", e.Depth)
	case e.Depth > 0 && !isName(e.Name):
		return malformed("%q is no name", e.Name)
	case !isType(e.Type):
		return malformed("a file of the type %q", string(e.Type))
	case e.Mode > 0o7777:
		return malformed("the mode %o", e.Mode)
	case e.Size < 0 || e.Type != manifest.Regular && e.Size != 0:
		return malformed("a %s of %d bytes", e.Type, e.Size)
	case (e.Type == manifest.Symlink) != (e.Target != "") || len(e.Target) > maxTarget || strings.IndexByte(e.Target, 0) >= 0:
		return malformed("a %s with the target %q", e.Type, e.Target)
	case !device && e.Device != 0:
		return malformed("a %s with a device number", e.Type)
	case !isTime(e.ModTime) || !isTime(e.UseTime):
		return malformed("nanoseconds out of range")
	case e.Type == manifest.Directory && e.Link != 0:
		return malformed("a directory with several names")
	}
	return checkXattrs(e.Xattrs)
}

func checkXattrs(xattrs []manifest.Xattr) error {
	bytes := 0
	for _, x := range xattrs {
		bytes += len(x.Name) + len(x.Value)
		ofTheSystem := strings.HasPrefix(x.Name, "system.") && x.Name != accessACL && x.Name != defaultACL
		if x.Name == "" || len(x.Name) > maxName || strings.IndexByte(x.Name, 0) >= 0 || ofTheSystem || bytes > maxXattrs {
			return malformed("the extended attribute %q", x.Name)
		}
	}
	return nil
}

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

func isName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

func isType(t manifest.Type) bool {
	switch t {
	case manifest.Regular, manifest.Directory, manifest.Symlink, manifest.BlockDevice, manifest.CharDevice, manifest.FIFO, manifest.Socket:
		return true
	}
	return false
}

func isTime(t manifest.Time) bool { return t.Nsec >= 0 && t.Nsec < 1e9 }

// A Problem is something about one file that not all was done of.
type Problem struct {
	Path string `json:"path"` // beneath the backup
	What string `json:"what"`
}

// Problems are those of many files, the first ones by name.
type Problems struct {
	First []Problem `json:"first,omitempty"`
	Count int       `json:"count,omitempty"`
}

// mostProblems is how many are named.
const mostProblems = 1000

func (p *Problems) add(path, format string, args ...any) {
	p.Count++
	if len(p.First) < mostProblems {
		p.First = append(p.First, Problem{path, fmt.Sprintf(format, args...)})
	}
}
