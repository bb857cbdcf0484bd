package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"btrfs-backup/lock"

	"github.com/google/renameio/v2"
)

// usedFolders remembers which folders were found at a destination, so that one whose disk is not mounted is told from a new one.
type usedFolders struct {
	dir string
}

// usedFile holds the identities of folders by destination, as JSON.
const usedFile = "destinations.json"

func (u usedFolders) read() (map[string][]string, error) {
	used := make(map[string][]string)
	content, err := os.ReadFile(filepath.Join(u.dir, usedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return used, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &used); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(u.dir, usedFile), err)
	}
	if used == nil {
		used = make(map[string][]string)
	}
	return used, nil
}

// add remembers a folder. Runs that do so at the same time wait for each other.
func (u usedFolders) add(ctx context.Context, destination, id string) error {
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(u.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := lock.Acquire(ctx, dir, func(*lock.HeldError) {})
	if err != nil {
		return err
	}
	defer held.Release()
	used, err := u.read()
	if err != nil || slices.Contains(used[destination], id) {
		return err
	}
	used[destination] = append(used[destination], id)
	content, err := json.MarshalIndent(used, "", "    ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(u.dir, usedFile), append(content, '\n'), 0o600)
}
