package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// word writes a string as an archive of Nix has it: with its length, and zeros up to a multiple of 8.
func word(w io.Writer, s string) {
	const unit = 8
	length := make([]byte, unit)
	binary.LittleEndian.PutUint64(length, uint64(len(s)))
	fmt.Fprintf(w, "%s%s%s", length, s, make([]byte, (unit-len(s)%unit)%unit))
}

// archive writes a tree of directories and plain files as Nix archives it.
func archive(t *testing.T, w io.Writer, path string) {
	t.Helper()
	words := func(all ...string) {
		for _, s := range all {
			word(w, s)
		}
	}
	info, err := os.Lstat(path)
	btrfstest.Check(t, err)
	if !info.IsDir() {
		content, err := os.ReadFile(path)
		btrfstest.Check(t, err)
		words("(", "type", "regular", "contents", string(content), ")")
		return
	}
	words("(", "type", "directory")
	entries, err := os.ReadDir(path)
	btrfstest.Check(t, err)
	for _, e := range entries {
		words("entry", "(", "name", e.Name(), "node")
		archive(t, w, filepath.Join(path, e.Name()))
		words(")")
	}
	words(")")
}

func TestTheFlakeHasTheHashOfTheModules(t *testing.T) {
	vendor := filepath.Join(t.TempDir(), "vendor")
	btrfstest.Run(t, "go", "mod", "vendor", "-o", vendor)
	hash := sha256.New()
	word(hash, "nix-archive-1")
	archive(t, hash, vendor)
	want := "sha256-" + base64.StdEncoding.EncodeToString(hash.Sum(nil))
	flake, err := os.ReadFile("flake.nix")
	btrfstest.Check(t, err)
	if got := regexp.MustCompile(`vendorHash = "(.*)"`).FindSubmatch(flake); len(got) != 2 || string(got[1]) != want {
		t.Errorf("flake.nix has the vendorHash %s: change it to %s", got, want)
	}
}
