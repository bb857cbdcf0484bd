package btrfstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Given among the ignored paths, these leave modification times out of a
// comparison. They begin with a slash, which no relative path does.
const (
	// DirTimes stands for the times of all directories.
	DirTimes = "/directory times"
	// RootTime stands for the time of the roots. An increment that touches more
	// than 64 directories can arrive without it: btrfs send makes new files under
	// temporary names in the root, and by then it may have sent the time of the
	// root and dropped it from its cache.
	// linux/fs/btrfs/send.c (6.18): SEND_MAX_DIR_UTIMES_CACHE_SIZE.
	RootTime = "/root time"
	// OwnAttributes stands for extended attributes that say something of a filesystem: properties of btrfs, and ACLs as xfs shows them to
	// root a second time.
	OwnAttributes = "/attributes of filesystems"
)

// Equal fails the test when the tree got is not a faithful copy of want, as told
// by Diff, and shows the first differences.
func Equal(t testing.TB, want, got string, ignore ...string) {
	t.Helper()
	diffs, err := Diff(want, got, ignore...)
	if err != nil {
		t.Fatal(err)
	}
	if len(diffs) == 0 {
		return
	}
	const most = 20
	shown := diffs[:min(len(diffs), most)]
	t.Errorf("%s is not a copy of %s, %d differences:\n%s", got, want, len(diffs), strings.Join(shown, "\n"))
}

// Diff lists the differences of two trees, one line for each, as the quoted path
// and the kind of difference. It compares type, mode, owner, size, modification
// time, content, extended attributes with ACLs, symlink targets, device numbers
// and hard-link groups, all of them for the roots too. Only where both files have
// a hole is nothing read. What is ignored, a path
// relative to the roots and all below it, is left out on both sides: the empty
// directory that stands for a nested subvolume in a snapshot, for example.
func Diff(want, got string, ignore ...string) ([]string, error) {
	c := comparison{
		want:   newSide(want, ignore),
		got:    newSide(got, ignore),
		ignore: ignore,
	}
	if err := c.entry("."); err != nil {
		return nil, fmt.Errorf("comparing %s with %s: %w", got, want, err)
	}
	return c.diffs, nil
}

type comparison struct {
	want, got *side
	ignore    []string
	diffs     []string
}

func (c *comparison) report(path, format string, args ...any) {
	c.diffs = append(c.diffs, fmt.Sprintf("%q: ", path)+fmt.Sprintf(format, args...))
}

// entry compares what both sides have at path, and everything below.
func (c *comparison) entry(path string) error {
	want, err := c.want.read(path)
	if err != nil {
		return err
	}
	got, err := c.got.read(path)
	if err != nil {
		return err
	}
	if want.fileType != got.fileType {
		c.report(path, "type: want %s, got %s", want.fileType, got.fileType)
		return nil
	}
	c.facts(path, want, got)
	switch {
	case want.fileType == directory:
		return c.directory(path)
	case want.fileType == regular && want.size == got.size && !want.linkedLike(got): // else it was read under the first path
		return c.content(path, want.size)
	}
	return nil
}

func (c *comparison) facts(path string, want, got *entry) {
	kinds := slices.AppendSeq(slices.Collect(maps.Keys(want.facts)), maps.Keys(got.facts))
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		if kind == mtime && want.fileType == directory && c.ignoresTime(path) {
			continue
		}
		if w, g := want.fact(kind), got.fact(kind); w != g {
			c.report(path, "%s: want %s, got %s", kind, w, g)
		}
	}
}

func (c *comparison) ignoresTime(dir string) bool {
	return slices.Contains(c.ignore, DirTimes) || dir == "." && slices.Contains(c.ignore, RootTime)
}

// directory compares names, and the entries whose name both sides have.
func (c *comparison) directory(path string) error {
	want, err := c.want.names(path)
	if err != nil {
		return err
	}
	got, err := c.got.names(path)
	if err != nil {
		return err
	}
	names := slices.Concat(want, got)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		child := filepath.Join(path, name)
		if slices.Contains(c.ignore, child) {
			continue
		}
		_, wanted := slices.BinarySearch(want, name)
		_, found := slices.BinarySearch(got, name)
		switch {
		case !found:
			c.report(child, "missing")
		case !wanted:
			c.report(child, "unexpected")
		default:
			if err := c.entry(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// content compares two files of the same size.
func (c *comparison) content(path string, size int64) error {
	want, err := os.Open(c.want.path(path))
	if err != nil {
		return err
	}
	defer want.Close()
	got, err := os.Open(c.got.path(path))
	if err != nil {
		return err
	}
	defer got.Close()

	equal, err := sameContent(want, got, size)
	if err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	if !equal {
		c.report(path, "content")
	}
	return nil
}

// sameContent reads what at least one of two files has data for.
func sameContent(a, b *os.File, size int64) (bool, error) {
	for at := int64(0); at < size; {
		inA, err := nextData(a, at, size)
		if err != nil {
			return false, err
		}
		inB, err := nextData(b, at, size)
		if err != nil {
			return false, err
		}
		if at = min(inA, inB); at >= size {
			break
		}
		const atOnce = 256 << 10
		end := min(at+atOnce, size)
		if equal, err := sameBytes(a, b, at, end-at); !equal || err != nil {
			return false, err
		}
		at = end
	}
	return true, nil
}

// nextData gives where the first data of a file from an offset on begins, or its size.
func nextData(f *os.File, from, size int64) (int64, error) {
	at, err := unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, nil
	}
	return at, err
}

func sameBytes(a, b io.ReaderAt, at, n int64) (bool, error) {
	bufA, bufB := make([]byte, n), make([]byte, n)
	if _, err := a.ReadAt(bufA, at); err != nil {
		return false, err
	}
	_, err := b.ReadAt(bufB, at)
	return bytes.Equal(bufA, bufB), err
}
