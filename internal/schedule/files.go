package schedule

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// mark begins a file of ours. A hash sign begins a comment for systemd, udev and cron.
const mark = "# Written by \"btrfs-backup install\", which leaves changed files alone: "

// Text is the content of a file as it is written.
func (f File) Text() string {
	return fmt.Sprintf("%s%x\n%s", mark, sha256.Sum256([]byte(f.Content)), f.Content)
}

// isOurs tells that a file is as it was written.
func isOurs(text string) bool {
	_, content, _ := strings.Cut(text, "\n")
	return text == File{Content: content}.Text()
}

// isInstalled tells that a file below a root directory is there as it was written.
func isInstalled(root, path string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return isOurs(string(text)), err
}

// A Change is what became of a file.
type Change struct {
	Path    string
	Fate    Fate
	Purpose string
}

// Fate is what became of a file.
type Fate string

// The fates of files.
const (
	Wrote     Fate = "wrote"
	Unchanged Fate = "unchanged"
	Removed   Fate = "removed"
	Used      Fate = "uses" // it is one of a package
	Left      Fate = "left"
)

// write writes files below a root directory that no package has there, and removes of the others in paths those that it wrote
// earlier: they would hide what a package has. An error ends it.
func write(root string, files []File, paths []string) (changes []Change, err error) {
	var wanted []string
	for _, f := range files {
		packaged, err := f.isPackaged(root)
		if err != nil {
			return changes, err
		}
		if packaged {
			changes = append(changes, Change{packagedPath(f.Path), Used, f.Purpose})
			continue
		}
		fate, err := f.write(root)
		if err != nil {
			return changes, err
		}
		changes = append(changes, Change{f.Path, fate, f.Purpose})
		wanted = append(wanted, f.Path)
	}
	unwanted := slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return slices.Contains(wanted, p) })
	removed, err := remove(root, unwanted)
	return append(changes, removed...), err
}

func (f File) write(root string) (Fate, error) {
	path := filepath.Join(root, f.Path)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	case string(text) == f.Text():
		return Unchanged, nil
	case !isOurs(string(text)):
		return Left, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := renameio.WriteFile(path, []byte(f.Text()), 0o644, renameio.IgnoreUmask()); err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	return Wrote, nil
}

// remove removes those files below a root directory that it wrote. Paths without a file are passed over.
func remove(root string, paths []string) (changes []Change, err error) {
	for _, p := range paths {
		path := filepath.Join(root, p)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return changes, err
		}
		if !isOurs(string(text)) {
			changes = append(changes, Change{Path: p, Fate: Left})
			continue
		}
		if err := os.Remove(path); err != nil {
			return changes, err
		}
		changes = append(changes, Change{Path: p, Fate: Removed})
	}
	return changes, nil
}
