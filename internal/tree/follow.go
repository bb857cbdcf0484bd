package tree

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

const (
	// settled is how long nothing must have changed a file for it to be read. The times of changes are far more precise, so that
	// every later change is told by another time.
	settled = 2 * time.Second
	// followPause is how long a follower rests between two passes.
	followPause = time.Second
)

// aheadFile is where Follow leaves what it read, until the backup is finished: for each file its inode, the time of its last change
// in nanoseconds, both in 64 bits, little endian, and its SHA-256. It keeps the name of a draft, which the next Begin removes.
func aheadFile(name string) string { return manifestsDir + "/" + name + ".ahead" }

const aheadSize = 8 + 8 + len(manifest.Digest{})

// Follow reads files in the directory that Begin gave while they are copied there, and are still in memory, so that Finish need not
// read them. It pays where much is new, and is not for files that are changed in place, which have their names before they are
// complete. It goes on until the context ends, which is no error. Without it, or after an error, nothing is amiss.
func (f *Folder) Follow(ctx context.Context, name string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("following the copy of %s: %w", f.pathOf(name), err)
		}
	}()
	root, err := f.incoming(name)
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := f.createState(aheadFile(name))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := checkClock(file, time.Now()); err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	follower := follower{ctx: ctx, out: out, content: make([]byte, readSize), names: make([]byte, 64<<10)}
	top := followed{name: "."}
	for {
		err := follower.pass(&openDir{fd: int(root.Fd())}, &top)
		flushErr := out.Flush()
		switch {
		case ctx.Err() != nil:
			return flushErr
		case err != nil || flushErr != nil:
			return cmp.Or(err, flushErr)
		}
		rest(ctx, followPause)
	}
}

// checkClock refuses the filesystem of a file that was made just now if its clock is another, as it may be on another machine:
// times of changes do not tell there how long ago they were.
func checkClock(file *os.File, now time.Time) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if off := now.Sub(time.Unix(st.Ctim.Unix())).Abs(); off > settled/2 {
		return fmt.Errorf("the clock of its filesystem is off by %s", off)
	}
	return nil
}

// rest waits, or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A follower reads files soon after they were written.
type follower struct {
	ctx            context.Context
	out            io.Writer // of records of aheadFile
	content, names []byte    // buffers
}

// A followed directory is one that a follower knows.
type followed struct {
	name  string
	dirs  []*followed // sorted by name
	until int64       // what changed before was looked at, in nanoseconds
}

// pass reads the files below a directory that settled since the last pass.
func (f *follower) pass(parent *openDir, d *followed) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	fd, err := parent.open(d.name, unix.O_DIRECTORY)
	if err != nil {
		return nil // it is gone, or Finish will tell
	}
	dir := newOpenDir(fd)
	defer dir.release()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil
	}
	if st.Ctim.Nano() >= d.until { // rsync renames each file when it is complete
		if err := f.look(dir, d); err != nil {
			return err
		}
	}
	for _, below := range d.dirs {
		if err := f.pass(dir, below); err != nil {
			return err
		}
	}
	return nil
}

// look reads the files of a directory that settled since it was last looked at, and notes the directories in it.
func (f *follower) look(dir *openDir, d *followed) error {
	names, err := dir.names(f.names)
	if err != nil {
		return nil
	}
	since, known := d.until, d.dirs
	d.until, d.dirs = time.Now().Add(-settled).UnixNano(), nil
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue // gone
		}
		changed := st.Ctim.Nano()
		switch e := manifest.Describe(name, &st); {
		case e.Type == manifest.Directory:
			d.dirs = append(d.dirs, below(known, name))
		case e.Type == manifest.Regular && e.Links == 1 && since <= changed && changed < d.until && !isTemporary(name):
			if err := f.read(dir, name, e, changed); err != nil {
				return err
			}
		}
	}
	return nil
}

// below gives the directory of that name, of those that are known or else a new one.
func below(known []*followed, name string) *followed {
	i, found := slices.BinarySearchFunc(known, name, func(d *followed, name string) int { return strings.Compare(d.name, name) })
	if found {
		return known[i]
	}
	return &followed{name: name}
}

// read records the content of a file. One that cannot be read, or is changed meanwhile, is left to Finish.
func (f *follower) read(dir *openDir, name string, e manifest.Entry, changed int64) error {
	sum, err := hashFile(f.ctx, dir, name, e, f.content, func([]byte) {})
	if err != nil {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		return nil
	}
	record := binary.LittleEndian.AppendUint64(make([]byte, 0, aheadSize), e.Inode)
	record = binary.LittleEndian.AppendUint64(record, uint64(changed))
	_, err = f.out.Write(append(record, sum[:]...))
	return err
}

// isTemporary tells a name such as rsync gives a file while it writes that (rsync/receiver.c: get_tmpname): ".NAME.123456".
func isTemporary(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	return strings.HasPrefix(name, ".") && dot > 0 && len(name)-dot == len(".123456")
}

// An ahead is what Follow read of the files of a directory, by inode.
type ahead []aheadRecord

type aheadRecord struct {
	inode   uint64
	changed int64
	sha256  manifest.Digest
}

// readAhead reads what Follow left; nothing if there is nothing.
func (f *Folder) readAhead(name string) (ahead, error) {
	file, err := f.openState(aheadFile(name) + temporaryEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	records := make(ahead, 0, info.Size()/int64(aheadSize))
	in := bufio.NewReader(file)
	for b := [aheadSize]byte{}; ; {
		if _, err := io.ReadFull(in, b[:]); err == io.EOF || err == io.ErrUnexpectedEOF { // a part is of no use
			break
		} else if err != nil {
			return nil, err
		}
		records = append(records, aheadRecord{
			inode:   binary.LittleEndian.Uint64(b[:]),
			changed: int64(binary.LittleEndian.Uint64(b[8:])),
			sha256:  manifest.Digest(b[16:]),
		})
	}
	slices.SortFunc(records, aheadRecord.compare)
	return records, nil
}

func (r aheadRecord) compare(with aheadRecord) int {
	return cmp.Or(cmp.Compare(r.inode, with.inode), cmp.Compare(r.changed, with.changed))
}

// find gives the SHA-256 of a file, if it has not changed since it was read.
func (a ahead) find(e *manifest.Entry) (sum manifest.Digest, ok bool) {
	want := aheadRecord{inode: e.Inode, changed: e.ChangeTime.Sec*1e9 + int64(e.ChangeTime.Nsec)}
	i, ok := slices.BinarySearchFunc(a, want, aheadRecord.compare)
	if ok {
		sum = a[i].sha256
	}
	return sum, ok
}
