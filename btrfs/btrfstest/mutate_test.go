package btrfstest

import (
	"slices"
	"strings"
	"testing"
)

func TestMutateDependsOnTheSeedAlone(t *testing.T) {
	fs := New(t, testSize)
	seen := make(map[string]bool)
	var trees [2]*tree
	for i, name := range []string{"a", "b"} {
		trees[i] = newTree(t, fs.Dir+"/"+name, "test", 1)
		Run(t, "btrfs", "subvolume", "create", trees[i].root)
	}
	for seed := range int64(20) {
		first, second := Mutate(t, trees[0].root, seed, 60), Mutate(t, trees[1].root, seed, 60)
		if !slices.Equal(first, second) {
			t.Fatalf("seed %d:\n%s\nand then:\n%s", seed, strings.Join(first, "\n"), strings.Join(second, "\n"))
		}
		for _, line := range first {
			name, _, _ := strings.Cut(line, ": ")
			seen[name] = seen[name] || !strings.Contains(line, "invalid argument")
		}
	}
	for _, tree := range trees {
		Mutate(t, tree.root, 0, 0) // unlocks all
	}
	copyTimes(t, trees[0].root, trees[1].root)
	Equal(t, trees[0].root, trees[1].root)
	for _, o := range operations {
		if !seen[o.name] {
			t.Errorf("not done: %s", o.name)
		}
	}
}
