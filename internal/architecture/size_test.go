package architecture

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestNoPackageIsTooLargeToBeOneRoom(t *testing.T) {
	lines := make(map[string]int)
	for _, f := range program(t) {
		content, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			t.Fatal(err)
		}
		n := bytes.Count(content, []byte("\n"))
		if lines[f.dir] += n; n > 500 {
			t.Errorf("%s has %d lines, more than 500", f.path, n)
		}
	}
	for dir, n := range lines {
		most := 2500
		if dir == "cmd/btrfs-backup" { // a command line is wide
			most = 4500
		}
		if n > most {
			t.Errorf("%s has %d lines, more than %d: find the rooms in it", dir, n, most)
		}
	}
}
