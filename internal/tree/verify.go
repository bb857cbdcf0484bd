package tree

import (
	"bufio"
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
// What the manifest has no entry for is Unexpected, each file of it. What is mounted in the backup, or is a subvolume of its own,
// is not looked into. A file of another type differs in nothing else; one of another size is not read. Of what cannot be read
// it tells NotReadable: that is a difference, too.
//
// A backup without a manifest is ErrNoManifest. A manifest that is damaged is an error before anything is compared. The name may
// be that of a link to a backup, such as .latest.
func (f *Folder) Verify(ctx context.Context, name string, o VerifyOptions, found func(Difference)) (Verified, error) {
	v, err := f.verify(ctx, name, o, found)
	if err != nil {
		return v, fmt.Errorf("verifying %s: %w", f.pathOf(name), err)
	}
	return v, nil
}

func (f *Folder) verify(ctx context.Context, name string, o VerifyOptions, found func(Difference)) (v Verified, err error) {
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
	linked, err := linkedInodes(ctx, file)
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
	return c.run(ctx, root, found)
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

// linkedInodes reads a manifest to its end, so that a damaged one is found before anything is compared with it. It gives the
// inodes of regular files that have several paths: all others can be forgotten when they have been read.
func linkedInodes(ctx context.Context, file io.Reader) (map[uint64]bool, error) {
	var inodes []uint64
	err := eachEntry(ctx, file, func(e manifest.Entry) error {
		if e.Type == manifest.Regular && e.Links > 1 {
			inodes = append(inodes, e.Inode)
		}
		return nil
	})
	slices.Sort(inodes)
	linked := make(map[uint64]bool)
	for i := 1; i < len(inodes); i++ {
		if inodes[i] == inodes[i-1] {
			linked[inodes[i]] = true
		}
	}
	return linked, err
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
func (c *comparison) run(ctx context.Context, root *os.File, found func(Difference)) (v Verified, err error) {
	var readers sync.WaitGroup
	for range readersAtOnce {
		readers.Go(func() {
			buffer := make([]byte, readSize)
			for r := range c.toRead {
				r.read(ctx, buffer)
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
		v.Bytes += file.judgeContent()
		v.Differences += int64(len(file.differences))
		for _, d := range file.differences {
			found(d)
		}
	}
	readers.Wait()
	v.Files = c.files
	if walked == nil && ctx.Err() != nil {
		walked = context.Cause(ctx) // a content that was not read to its end was not judged
	}
	return v, walked
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
