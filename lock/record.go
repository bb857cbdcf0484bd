package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// A record is a file that holds lists of words by name, as JSON.
type record struct {
	dir  string // is made when something is to be remembered; "": nothing is remembered
	file string
}

func (r record) path() string { return filepath.Join(r.dir, r.file) }

func (r record) read() (map[string][]string, error) {
	found := make(map[string][]string)
	if r.dir == "" {
		return found, nil
	}
	content, err := os.ReadFile(r.path())
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &found); err != nil {
		return nil, fmt.Errorf("%s: %w", r.path(), err)
	}
	if found == nil {
		found = make(map[string][]string)
	}
	return found, nil
}

// change rewrites the list of a name, unless it stays the same. Runs that do so at the same time wait for each other.
func (r record) change(ctx context.Context, name string, change func([]string) (changed []string, same bool)) error {
	if r.dir == "" {
		return nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := Acquire(ctx, dir, func(*HeldError) {})
	if err != nil {
		return err
	}
	defer held.Release()
	all, err := r.read()
	if err != nil {
		return err
	}
	words, same := change(all[name])
	if same {
		return nil
	}
	all[name] = words
	content, err := json.MarshalIndent(all, "", "    ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(r.path(), append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", r.path(), Cause(err))
	}
	return nil
}
