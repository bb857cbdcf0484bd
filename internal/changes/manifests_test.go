package changes

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

func written(t *testing.T, entries ...manifest.Entry) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w, err := manifest.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestManifestsTellEachDifference(t *testing.T) {
	file := func(path string, size int64, digest byte) manifest.Entry {
		return manifest.Entry{Path: path, Type: manifest.Regular, Mode: 0o644, Size: size, SHA256: manifest.Digest{digest}, ModTime: manifest.Time{Sec: 1}}
	}
	with := func(e manifest.Entry, change func(*manifest.Entry)) manifest.Entry {
		change(&e)
		return e
	}
	root := manifest.Entry{Path: ".", Type: manifest.Directory, Mode: 0o755}
	older := written(t, root, file("attr", 1, 1), file("gone", 5, 2), file("inode", 1, 1), file("kind", 1, 1), file("mode", 1, 1),
		file("same size", 7, 3), file("sparse", 9, 4), file("touched", 1, 1), file("unread", 1, 0))
	root.ModTime.Sec = 5
	newer := written(t, root, with(file("attr", 1, 1), func(e *manifest.Entry) { e.Xattrs = manifest.Digest{1} }),
		with(file("inode", 1, 1), func(e *manifest.Entry) { e.Inode, e.ChangeTime.Sec = 9, 9 }),
		manifest.Entry{Path: "kind", Type: manifest.Directory},
		with(file("mode", 1, 1), func(e *manifest.Entry) { e.Mode = 0o600 }),
		file("new", 6, 5), file("same size", 7, 4),
		with(file("sparse", 9, 9), func(e *manifest.Entry) { e.Sparse = true }),
		with(file("touched", 1, 1), func(e *manifest.Entry) { e.ModTime.Sec = 2 }),
		with(file("unread", 1, 6), func(e *manifest.Entry) { e.ModTime.Sec = 2 }))
	var got []string
	err := Manifests(older, newer, func(c Change) {
		got = append(got, fmt.Sprintf("%s %s %t %t %t %d %d", c.Kind, c.Path, c.Content, c.Metadata, c.Times, c.Was, c.Is))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `modified . false false true 0 0
modified attr false true false 1 1
deleted gone false false false 5 0
deleted kind false false false 1 0
created kind false false false 0 0
modified mode false true false 1 1
created new false false false 0 6
modified same size true false false 7 7
modified touched false false true 1 1
modified unread true false true 1 1`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestAManifestThatIsCutOffIsNotCompared(t *testing.T) {
	whole := written(t, manifest.Entry{Path: ".", Type: manifest.Directory})
	content, err := io.ReadAll(written(t, manifest.Entry{Path: ".", Type: manifest.Directory}, manifest.Entry{Path: "a", Type: manifest.FIFO}))
	if err != nil {
		t.Fatal(err)
	}
	for n := range content {
		if err := Manifests(whole, bytes.NewReader(content[:n]), func(Change) {}); err == nil {
			t.Fatalf("%d bytes are taken for a manifest", n)
		}
	}
}
