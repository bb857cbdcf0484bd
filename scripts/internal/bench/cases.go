package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A testCase is one kind of data.
type testCase struct {
	name   string
	often  int                    // measured so many times in each round: what is short is disturbed more
	grow   func(dir string) error // makes the data
	change func(dir string) error // changes it after a first backup; nil: the first backup is measured

	options map[string]string // of mount, by the name of the filesystem
	cold    bool              // the source has to be read from its disk, as on any day
	slow    bool              // the disk of the destination is
	oneCPU  bool              // is all that contestants have

	host    string // of the machine behind SSH that has the destination; "": this one
	nowhere bool   // the machine has the source, and what comes from it is thrown away
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// cases gives the cases, with all sizes divided by scale.
func cases(scale int) []testCase {
	large, small, mixed := 512*mib/scale, 100_000/scale, 50_000/scale
	changed, text := mixed*3/100, 256*mib/scale
	upTo := func(limit, n int) func(string) error {
		return func(dir string) error { return files(dir, n, func(i int) int { return sizeUpTo(limit, i) }) }
	}
	const zstd = "compress=zstd"
	return []testCase{
		{
			name:  fmt.Sprintf("4 files of %d MB", large/mib),
			often: 1,
			grow:  func(dir string) error { return files(dir, 4, func(int) int { return large }) },
		},
		{
			name:  fmt.Sprintf("%d files of up to 4 KiB", small),
			often: 1,
			grow:  upTo(4*kib, small),
		},
		{name: fmt.Sprintf("%d files of up to 32 KiB", mixed), often: 1, grow: upTo(32*kib, mixed)},
		{name: fmt.Sprintf("%d files, one CPU", mixed/2), often: 1, grow: upTo(32*kib, mixed/2), oneCPU: true},
		{name: fmt.Sprintf("%d files, to a slow disk", mixed/2), often: 1, grow: upTo(32*kib, mixed/2), slow: true},
		{
			name:   fmt.Sprintf("%d of %d files changed since", changed, mixed),
			often:  4,
			grow:   upTo(32*kib, mixed),
			change: func(dir string) error { return change(dir, mixed, changed) },
		},
		{
			name:    fmt.Sprintf("%d MB of text, zstd to zstd", text/mib),
			often:   1,
			grow:    textFiles(text / 4),
			options: map[string]string{"source": zstd, "destination": zstd},
			cold:    true,
		},
		{
			name:    fmt.Sprintf("%d MB of text, zstd to plain", text/mib),
			often:   1,
			grow:    textFiles(text / 4),
			options: map[string]string{"source": zstd},
			cold:    true,
		},
	}
}

// sizeUpTo spreads sizes evenly.
func sizeUpTo(limit, i int) int {
	const prime = 7919
	return i * prime % limit
}

// fileName puts a hundred files in a directory.
func fileName(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("%04d", i/100), fmt.Sprintf("%02d", i%100))
}

// files makes files of random content, which does not compress.
func files(dir string, n int, size func(i int) int) error {
	content := rand.NewChaCha8([32]byte{})
	for i := range n {
		if err := write(fileName(dir, i), content, size(i)); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, content io.Reader, size int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, content, int64(size)); err != nil {
		return err
	}
	return f.Close()
}

// change changes some of the files, which lie all over the tree. By turns one is rewritten, one gets 4 KiB more, and one is
// deleted while a new one comes.
func change(dir string, files, changed int) error {
	content := rand.NewChaCha8([32]byte{1})
	for i := range changed {
		path := fileName(dir, i*(files/changed))
		var err error
		switch i % 3 {
		case 0:
			err = write(path, content, 16*kib)
		case 1:
			err = extend(path, content, 4*kib)
		case 2:
			if err = os.Remove(path); err == nil {
				err = write(path+".new", content, 16*kib)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func extend(path string, content io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, content, size); err != nil {
		return err
	}
	return f.Close()
}
