package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestTheExamplesAreConfigurations(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Glob("../../docs/examples/*.toml")
	btrfstest.Check(t, err)
	if len(examples) == 0 {
		t.Fatal("there is none")
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		btrfstest.Check(t, err)
		file := filepath.Join(t.TempDir(), "config.toml") // which others cannot change
		btrfstest.Check(t, os.WriteFile(file, text, 0o600))
		if _, err := lookInto(file); err != nil {
			t.Errorf("%s: %v", example, err)
		}
	}
}
