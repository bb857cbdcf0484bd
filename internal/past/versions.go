package past

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// An Order asks what one file was in snapshots or backups of a folder.
type Order struct {
	Names []string // of these, the newest first
	Path  string   // of the file in the newest one that has it
}

// A Version is what a file was in one snapshot or backup.
type Version struct {
	Name string // of the snapshot or backup
	// Path is that of the file in it: another one than in the Order if the same file had another name then.
	Path    string
	Type    manifest.Type
	Size    int64
	ModTime manifest.Time
	// Content is the same of all versions in the folder whose content is, and numbers them from 1.
	Content int
	SHA256  manifest.Digest // of the content, if it was read; zero: not known
	Failure string          // why nothing is known of it; "": it is
}

// most is how large a file may be for its content to be read, if nothing else tells whether it changed.
const most = 64 << 10

// Versions gives the versions of a file, of those that have it. Where a name has none, the file that has it in the one after is
// looked for by its inode, which needs CAP_SYS_ADMIN. Contents are told apart by sizes, times, and what holds them on the disk; small
// files are read.
func Versions(ctx context.Context, folder *os.File, o Order) ([]Version, error) {
	if o.Path == "" || o.Path == "." || !filepath.IsLocal(o.Path) || path.Clean(o.Path) != o.Path {
		return nil, &fs.PathError{Op: "open", Path: o.Path, Err: unix.EINVAL}
	}
	s := search{folder: folder, path: o.Path, contents: make(map[fingerprint]int)}
	for _, name := range o.Names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if name == "" || name == "." || name == ".." || path.Base(name) != name {
			return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EINVAL}
		}
		s.look(name)
	}
	s.tellContents()
	versions := make([]Version, len(s.found))
	for i, f := range s.found {
		versions[i] = f.Version
	}
	return versions, nil
}

// A search goes back from snapshot to snapshot.
type search struct {
	folder   *os.File
	path     string // of the file in the snapshot that was looked at last
	last     identity
	found    []found
	contents map[fingerprint]int
	count    int // of contents
}

// An identity is that of a file, whatever its name.
type identity struct {
	inode uint64
	born  manifest.Time
}

// found is a Version with what tells its content from others.
type found struct {
	Version
	identity
	change manifest.Time
}

// A fingerprint tells that contents are the same. Some of its fields are set, beside the size.
type fingerprint struct {
	size   int64
	sha    manifest.Digest
	disk   manifest.Digest // of where the content is
	mod    manifest.Time
	change manifest.Time
	inode  uint64
}

func (s *search) look(name string) {
	root, err := btrfs.OpenDirAt(s.folder, name)
	if err == nil {
		defer root.Close()
		err = s.lookInto(name, root)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		s.found = append(s.found, found{Version: Version{Name: name, Path: s.path, Failure: err.Error()}})
	}
}

func (s *search) lookInto(name string, root *os.File) error {
	f, err := stat(root, s.path)
	if errors.Is(err, fs.ErrNotExist) && s.last.inode != 0 {
		if other, ok := s.underOtherName(root); ok {
			f, err = other, nil
		}
	}
	if err != nil {
		return err
	}
	f.Name = name
	s.path, s.last = f.Path, f.identity
	s.found = append(s.found, f)
	return nil
}

// underOtherName finds the file that was looked at last.
func (s *search) underOtherName(root *os.File) (f found, ok bool) {
	if btrfs.CheckSubvolume(root) != nil {
		return f, false
	}
	paths, err := btrfs.PathsIn(root)
	if err != nil {
		return f, false
	}
	names, err := paths.Of(s.last.inode)
	if err != nil || len(names) == 0 {
		return f, false
	}
	slices.Sort(names)
	f, err = stat(root, names[0])
	return f, err == nil && f.identity == s.last
}

// stat describes a file beneath a directory.
func stat(root *os.File, at string) (f found, err error) {
	dir, err := openDirOf(root, path.Dir(at))
	if err != nil {
		return f, err
	}
	defer dir.Close()
	var st unix.Statx_t
	err = unix.Statx(int(dir.Fd()), path.Base(at), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	if err != nil {
		return f, &fs.PathError{Op: "stat", Path: filepath.Join(root.Name(), at), Err: err}
	}
	f.Path, f.Size, f.ModTime, f.change = at, int64(st.Size), timeOf(st.Mtime), timeOf(st.Ctime)
	f.inode, f.born = st.Ino, timeOf(st.Btime)
	f.Type = manifest.Describe(at, &unix.Stat_t{Mode: uint32(st.Mode)}).Type
	return f, nil
}

func timeOf(t unix.StatxTimestamp) manifest.Time {
	return manifest.Time{Sec: t.Sec, Nsec: int32(t.Nsec)}
}

// tellContents numbers the contents. Only where two have one size and are not told to be one by inode and times, more is looked at.
func (s *search) tellContents() {
	known := make(map[fingerprint]int) // by inode and times
	kinds := make(map[int64]map[fingerprint]bool)
	for _, f := range s.found {
		if kinds[f.Size] == nil {
			kinds[f.Size] = make(map[fingerprint]bool)
		}
		kinds[f.Size][f.seen()] = true
	}
	for i := range s.found {
		f := &s.found[i]
		if f.Failure != "" {
			continue
		}
		seen := f.seen()
		if known[seen] == 0 {
			prints := []fingerprint{seen}
			if len(kinds[f.Size]) > 1 {
				prints = s.fingerprints(f)
			}
			known[seen] = s.number(prints)
		}
		f.Content = known[seen]
	}
}

// number gives the number of the content that any of the fingerprints tells, or a new one.
func (s *search) number(prints []fingerprint) (n int) {
	for _, p := range prints {
		n = cmp.Or(n, s.contents[p])
	}
	if n == 0 {
		s.count++
		n = s.count
	}
	for _, p := range prints {
		s.contents[p] = n
	}
	return n
}

// seen is what tells two versions to be one without looking at the file.
func (f *found) seen() fingerprint {
	return fingerprint{size: f.Size, mod: f.ModTime, change: f.change, inode: f.inode}
}

// fingerprints look at what a file holds, or where. Of a large file the time of modification tells it, too: a copy of it lies elsewhere.
func (s *search) fingerprints(f *found) []fingerprint {
	byTime := []fingerprint{{size: f.Size, mod: f.ModTime}}
	root, err := btrfs.OpenDirAt(s.folder, f.Name)
	if err != nil {
		return byTime
	}
	defer root.Close()
	if f.Type == manifest.Symlink {
		target, err := readlink(root, f.Path)
		if err != nil {
			return byTime
		}
		return []fingerprint{{size: f.Size, sha: sha256.Sum256([]byte(target))}}
	}
	if f.Type != manifest.Regular {
		return byTime
	}
	file, err := open(root, f.Path)
	if err != nil {
		return byTime
	}
	defer file.Close()
	if f.Size <= most {
		content, err := io.ReadAll(io.LimitReader(file, most+1))
		if err != nil || int64(len(content)) != f.Size {
			return byTime
		}
		f.SHA256 = sha256.Sum256(content)
		return []fingerprint{{size: f.Size, sha: f.SHA256}}
	}
	if btrfs.CheckFilesystem(file) != nil {
		return byTime
	}
	extents, err := btrfs.Extents(file, 0, f.Size)
	if err != nil {
		return byTime
	}
	return append(byTime, fingerprint{size: f.Size, disk: digest(extents)})
}

// digest sums up where the content of a file is.
func digest(extents []btrfs.Extent) manifest.Digest {
	h := sha256.New()
	var b []byte
	for _, e := range extents {
		if e.Unwritten { // it reads as a hole does
			continue
		}
		b = binary.LittleEndian.AppendUint64(b[:0], uint64(e.Offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Length))
		b = binary.LittleEndian.AppendUint64(b, e.Logical)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Skip))
		h.Write(b)
	}
	return manifest.Digest(h.Sum(nil))
}

// open opens a file beneath a directory for reading, and waits for nothing.
func open(root *os.File, at string) (*os.File, error) {
	dir, err := openDirOf(root, path.Dir(at))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(at), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root.Name(), at), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(root.Name(), at)), nil
}

func readlink(root *os.File, at string) (string, error) {
	dir, err := openDirOf(root, path.Dir(at))
	if err != nil {
		return "", err
	}
	defer dir.Close()
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), path.Base(at), target)
	return string(target[:max(n, 0)]), err
}
