package tree

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// Verify compares a backup with its manifest. It tells found of each difference before it returns, in the order of
// manifest.Compare, and sums up the entries of the manifest and what was read.
//
// progress is told how many bytes were read, and how many there are to read. Its calls and those of found never
// overlap.
//
// What the manifest has no entry for is Unexpected, each file of it. What is mounted in the backup, or is a subvolume of its own,
// is not looked into. A file of another type differs in nothing else; one of another size is not read. Of what cannot be read
// it tells NotReadable: that is a difference, too.
//
// A backup without a manifest is ErrNoManifest. A manifest that is damaged is an error before anything is compared. The name may
// be that of a link to a backup, such as .latest.
func (f *Folder) Verify(ctx context.Context, name string, o VerifyOptions, found func(Difference), progress func(read, total int64)) (Verified, error) {
	v, err := f.verify(ctx, name, o, found, progress)
	if err != nil {
		return v, fmt.Errorf("verifying %s: %w", f.pathOf(name), err)
	}
	return v, nil
}

func (f *Folder) verify(ctx context.Context, name string, o VerifyOptions, found func(Difference), progress func(read, total int64)) (v Verified, err error) {
	name = f.resolve(name)
	if err := CheckName(name); err != nil {
		return v, err
	}
	root, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return v, err
	}
	defer root.Close()
	file, err := f.openManifest(name)
	if err != nil {
		return v, err
	}
	defer file.Close()
	linked, total, err := preview(ctx, file)
	if err != nil {
		return v, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return v, err
	}
	entries, err := manifest.NewReader(file)
	if err != nil {
		return v, err
	}
	defer entries.Close()
	c := &comparison{
		fast: o.Fast, entries: entries, linked: linked, known: make(map[inode]*rereading),
		toRead: make(chan *rereading), checked: make(chan checkedFile, 256),
	}
	var telling sync.Mutex
	c.progress = func(n int64) {
		telling.Lock()
		defer telling.Unlock()
		v.Bytes += n
		progress(v.Bytes, total)
	}
	err = c.run(ctx, root, func(d Difference) {
		telling.Lock()
		defer telling.Unlock()
		v.Differences++
		found(d)
	})
	v.Files = c.files
	return v, err
}

// resolve gives what a link in the folder points to; any other name is given back.
func (f *Folder) resolve(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.dir.Fd()), name, target)
	if err != nil {
		return name
	}
	return string(target[:n])
}

// openManifest opens the manifest of a backup. Its absence is ErrNoManifest.
func (f *Folder) openManifest(name string) (*os.File, error) {
	file, err := f.openState(ManifestFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoManifest
	}
	return file, err
}

// preview reads a manifest to its end, so that a damaged one is found before anything is compared with it. It gives the inodes of
// regular files that have several paths (all others can be forgotten when they have been read), and the bytes of all files.
func preview(ctx context.Context, file io.Reader) (linked map[uint64]bool, total int64, err error) {
	type sized struct {
		inode uint64
		bytes int64
	}
	var several []sized
	err = eachEntry(ctx, file, func(e manifest.Entry) error {
		if e.Links > 1 && e.Type == manifest.Regular {
			several = append(several, sized{e.Inode, e.Size})
		} else {
			total += e.Size
		}
		return nil
	})
	slices.SortFunc(several, func(a, b sized) int { return cmp.Compare(a.inode, b.inode) })
	linked = make(map[uint64]bool)
	for i, s := range several {
		if i > 0 && s.inode == several[i-1].inode {
			linked[s.inode] = true
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
func (c *comparison) run(ctx context.Context, root *os.File, found func(Difference)) error {
	var readers sync.WaitGroup
	for range readersAtOnce {
		readers.Go(func() {
			buffer := make([]byte, readSize)
			for r := range c.toRead {
				r.read(ctx, buffer, c.progress)
			}
		})
	}
	var walked error
	go func() {
		defer close(c.checked)
		defer close(c.toRead)
		walked = c.walk(ctx, root)
	}()
	for file := range c.checked {
		file.judgeContent()
		for _, d := range file.differences {
			found(d)
		}
	}
	readers.Wait()
	if walked == nil && ctx.Err() != nil {
		walked = context.Cause(ctx) // a content that was not read to its end was not judged
	}
	return walked
}

// Export writes a list of the regular files of a backup with their SHA-256, as on record in its manifest. "sha256sum --check",
// run in the backup, reads it. With an error, the list is incomplete.
func (f *Folder) Export(ctx context.Context, name string, w io.Writer) error {
	if err := f.export(ctx, name, w); err != nil {
		return fmt.Errorf("exporting the checksums of %s: %w", f.pathOf(name), err)
	}
	return nil
}

func (f *Folder) export(ctx context.Context, name string, w io.Writer) error {
	name = f.resolve(name)
	if err := CheckName(name); err != nil {
		return err
	}
	file, err := f.openManifest(name)
	if err != nil {
		return err
	}
	defer file.Close()
	list := bufio.NewWriter(w)
	if err := eachEntry(ctx, file, func(e manifest.Entry) error { return manifest.Sum(list, e) }); err != nil {
		return err
	}
	return list.Flush()
}
