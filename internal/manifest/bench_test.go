package manifest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
)

// million is the size of a large backup.
const million = 1_000_000

func millionEntries() []Entry {
	entries := make([]Entry, million)
	for i := range entries {
		path := fmt.Sprintf("home/somebody/directory%03d/subdirectory%02d/file name %06d.txt", i/10000, i/1000%10, i)
		entries[i] = Entry{
			Path: path, Type: Regular, Mode: 0o644, UID: 1000, GID: 1000, Size: int64(i) * 31, ModTime: Time{1700000000 + int64(i), 123456789},
			SHA256: sha256.Sum256([]byte(path)), Inode: uint64(i) + 257, Links: 1, ChangeTime: Time{1710000000 + int64(i), 987654321},
		}
	}
	return entries
}

func BenchmarkWriteAMillion(b *testing.B) {
	entries := millionEntries()
	b.ReportAllocs()
	for b.Loop() {
		w, err := NewWriter(io.Discard)
		must(b, err)
		for _, e := range entries {
			must(b, w.Write(e))
		}
		must(b, w.Close())
	}
}

func BenchmarkReadAMillion(b *testing.B) {
	compressed := write(b, millionEntries())
	b.ReportAllocs()
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(compressed))
		must(b, err)
		n := 0
		for err == nil {
			_, err = r.Next()
			n++
		}
		if err != io.EOF || n != million+1 {
			b.Fatal(n, err)
		}
		r.Close()
	}
	b.ReportMetric(float64(len(compressed))/million, "file-bytes/entry")
}
