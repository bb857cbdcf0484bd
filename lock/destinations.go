package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// Destinations remembers on this machine which destinations were used, by their identities, so that one whose disk is not
// mounted is told from a new one.
type Destinations struct {
	Dir string // that holds the file, and is made when something is to be remembered; "": nothing is remembered
}

// destinationsFile holds the identities by destination, as JSON.
const destinationsFile = "destinations.json"

// Knows tells whether a destination was used before.
func (d Destinations) Knows(destination string) (bool, error) {
	if d.Dir == "" {
		return false, nil
	}
	used, err := d.read()
	return len(used[destination]) > 0, err
}

func (d Destinations) read() (map[string][]string, error) {
	used := make(map[string][]string)
	file := filepath.Join(d.Dir, destinationsFile)
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return used, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &used); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if used == nil {
		used = make(map[string][]string)
	}
	return used, nil
}

// Add remembers a destination. Runs that do so at the same time wait for each other.
func (d Destinations) Add(ctx context.Context, destination, id string) error {
	if d.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := Acquire(ctx, dir, func(*HeldError) {})
	if err != nil {
		return err
	}
	defer held.Release()
	used, err := d.read()
	if err != nil || slices.Contains(used[destination], id) {
		return err
	}
	used[destination] = append(used[destination], id)
	content, err := json.MarshalIndent(used, "", "    ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(d.Dir, destinationsFile), append(content, '\n'), 0o600)
}
