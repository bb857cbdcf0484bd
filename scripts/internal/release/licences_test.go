package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestMain(m *testing.M) {
	if err := os.Chdir("../../.."); err != nil { // as the scripts do
		panic(err)
	}
	os.Exit(m.Run())
}

func TestTheLicenceOfEveryModuleIsThere(t *testing.T) {
	dir := t.TempDir()
	btrfstest.Check(t, write(dir, "/opt/btrfs-backup"))
	text, err := os.ReadFile(filepath.Join(dir, "licences"))
	btrfstest.Check(t, err)
	for _, want := range []string{"\ngolang.org/x/sys v", "\ngithub.com/klauspost/compress v", "zstd/internal/xxhash/LICENSE.txt\n",
		"\nfilippo.io/age v", "Copyright 2009 The Go Authors", "Apache License\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in the licences", want)
		}
	}
	unit, err := os.ReadFile(filepath.Join(dir, "units/btrfs-backup-disk@.service"))
	btrfstest.Check(t, err)
	if want := "\nExecStart=/opt/btrfs-backup run --disk %i\n"; !strings.Contains(string(unit), want) {
		t.Errorf("%q is not in %s", want, unit)
	}
}

func TestAModuleWithoutALicenceIsRefused(t *testing.T) {
	t.Parallel()
	module := t.TempDir()
	p := linkedPackage{Dir: filepath.Join(module, "a/b")}
	p.Module = &struct {
		Path, Version, Dir string
		Main               bool
	}{"example.org/m", "v1.0.0", module, false}
	btrfstest.Check(t, os.MkdirAll(p.Dir, 0o755))
	for _, name := range []string{"a/b/LICENSE", "NOTICE", "license.go", "README"} {
		btrfstest.Check(t, os.WriteFile(filepath.Join(module, name), []byte(name), 0o644))
	}
	if _, err := licences([]linkedPackage{p}); err == nil || !strings.Contains(err.Error(), "example.org/m v1.0.0 is linked, and has no licence") {
		t.Errorf("without a licence: %v", err)
	}
	btrfstest.Check(t, os.WriteFile(filepath.Join(module, "COPYING.md"), []byte("all rights"), 0o644))
	text, err := licences([]linkedPackage{p, p})
	btrfstest.Check(t, err)
	for _, want := range []string{"v1.0.0: COPYING.md\n", "v1.0.0: NOTICE\n", "v1.0.0: a/b/LICENSE\n", "all rights"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is not once in\n%s", want, text)
		}
	}
}
