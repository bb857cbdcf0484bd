package lock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// State is what this machine remembers of earlier runs: in each file of a directory, lists of words by name, as JSON.
type State struct {
	Dir string // is made when something is to be remembered; "": nothing is remembered
}

const (
	destinationsFile = "destinations.json" // identities by destination
	membersFile      = "members.json"      // names by source
	sourcesFile      = "sources.json"      // UUIDs by source
	relayedFile      = "relayed.json"      // of what the backups are, by folder
	toldFile         = "told.json"         // a hash by source
	storedFile       = "stored.json"       // names of sources in stores, by store and source
	noticesFile      = "notices.json"      // what was told, by target
)

// Used gives the destinations that were used, so that one whose disk is not mounted is told from a new one.
func (s State) Used() (Used, error) { return s.read(destinationsFile) }

// AddUsed remembers the identity of a destination.
func (s State) AddUsed(ctx context.Context, destination, id string) error {
	return s.change(ctx, destinationsFile, destination, func(ids []string) []string {
		if slices.Contains(ids, id) {
			return ids
		}
		return append(slices.Clip(ids), id)
	})
}

// ForgetUsed drops what is remembered of a destination.
func (s State) ForgetUsed(ctx context.Context, destination string) error {
	return s.change(ctx, destinationsFile, destination, func([]string) []string { return nil })
}

// Source gives the UUIDs of the subvolumes of which there are backups under the name of a source, so that a rollback of it is told
// from a clone.
func (s State) Source(name string) (uuids []string, err error) {
	all, err := s.read(sourcesFile)
	return all[name], err
}

// SourcesBeside gives the UUIDs that are on record together with one, under whatever name.
func (s State) SourcesBeside(uuid string) (uuids []string, err error) {
	all, err := s.read(sourcesFile)
	for _, together := range all {
		if slices.Contains(together, uuid) {
			uuids = append(uuids, together...)
		}
	}
	return uuids, err
}

// ContinuedBy gives the UUIDs that are on record as continued by one, under whatever name: itself, too.
func (s State) ContinuedBy(uuid string) (uuids []string, err error) {
	all, err := s.read(sourcesFile)
	for _, together := range all {
		if len(together) > 0 && together[0] == uuid {
			uuids = append(uuids, together...)
		}
	}
	return uuids, err
}

// SetSource replaces those of a source, of which the first is the one that it is now.
func (s State) SetSource(ctx context.Context, name string, uuids []string) error {
	return s.change(ctx, sourcesFile, name, func([]string) []string { return uuids })
}

// StoredAs gives the name that a source has in a store; "" if it is the usual one.
func (s State) StoredAs(store, source string) (name string, err error) {
	all, err := s.read(storedFile)
	return strings.Join(all[store+" "+source], ""), err
}

// SetStoredAs remembers the name of a source in a store.
func (s State) SetStoredAs(ctx context.Context, store, source, name string) error {
	return s.change(ctx, storedFile, store+" "+source, func([]string) []string { return []string{name} })
}

// IsNews tells whether something else was said of a source the last time, and remembers what is said now. Where that fails, it is
// said once more.
func (s State) IsNews(ctx context.Context, source string, said []string) (isNews bool) {
	now := "nothing"
	if len(said) > 0 {
		hash := sha256.Sum256([]byte(strings.Join(said, "\x00")))
		now, isNews = hex.EncodeToString(hash[:]), true
	}
	_ = s.change(ctx, toldFile, source, func(before []string) []string {
		if len(before) == 0 && len(said) == 0 {
			return before
		}
		isNews = isNews && !slices.Equal(before, []string{now})
		return []string{now}
	})
	return isNews
}

// MembersOf gives the members that a source had the last time.
func (s State) MembersOf(source string) (names []string, err error) {
	all, err := s.read(membersFile)
	return all[source], err
}

// Members remembers those of a source that has several, and gives those that it had the last time and has no more.
func (s State) Members(ctx context.Context, source string, now []string) (gone []string, err error) {
	err = s.change(ctx, membersFile, source, func(before []string) []string {
		gone = slices.DeleteFunc(slices.Clone(before), func(name string) bool { return slices.Contains(now, name) })
		return now
	})
	return gone, err
}

// Relayed gives of what the backups in a folder were that were last sent on from there; "" if none were.
func (s State) Relayed(folder string) (source string, err error) {
	all, err := s.read(relayedFile)
	if len(all[folder]) == 0 {
		return "", err
	}
	return all[folder][0], nil
}

// SetRelayed remembers of what the backups in a folder are.
func (s State) SetRelayed(ctx context.Context, folder, source string) error {
	return s.change(ctx, relayedFile, folder, func([]string) []string { return []string{source} })
}

// Notices gives what each target of notices was told.
func (s State) Notices() (map[string][]string, error) { return s.read(noticesFile) }

// ChangeNotices changes what a target was told.
func (s State) ChangeNotices(ctx context.Context, target string, change func(before []string) []string) error {
	return s.change(ctx, noticesFile, target, change)
}

func (s State) read(file string) (map[string][]string, error) {
	found := make(map[string][]string)
	if s.Dir == "" {
		return found, nil
	}
	if err := ReadJSON(filepath.Join(s.Dir, file), &found); err != nil {
		return nil, err
	}
	if found == nil { // the file holds null
		found = make(map[string][]string)
	}
	return found, nil
}

// change rewrites the list of a name, unless it stays the same.
func (s State) change(ctx context.Context, file, name string, change func(before []string) []string) error {
	if s.Dir == "" {
		return nil
	}
	return InDir(ctx, s.Dir, func() error {
		all, err := s.read(file)
		if err != nil {
			return err
		}
		words := change(all[name])
		if slices.Equal(words, all[name]) {
			return nil
		}
		if all[name] = words; words == nil {
			delete(all, name)
		}
		return WriteJSON(filepath.Join(s.Dir, file), all)
	})
}

// ReadJSON reads a file into a value, which stays as it is if there is none.
func ReadJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s is damaged, move it away: %w", path, err)
	}
	return nil
}

// WriteJSON replaces a file that only its owner reads, on disk too.
func WriteJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(content, '\n'))
}

// WriteFile is WriteJSON for any content.
func WriteFile(path string, content []byte) error {
	if err := renameio.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, Cause(err))
	}
	return nil
}

// Used are the identities of the destinations that were used, by their names.
type Used map[string][]string

// Knows tells whether a destination was used.
func (u Used) Knows(destination string) bool { return len(u[destination]) > 0 }

// Has tells whether what was used under the name of a destination had the identity.
func (u Used) Has(destination, id string) bool { return slices.Contains(u[destination], id) }

// NamesOf gives the names under which nothing but what has the identity was used, sorted.
func (u Used) NamesOf(id string) (destinations []string) {
	for name, ids := range u {
		if len(ids) == 1 && ids[0] == id {
			destinations = append(destinations, name)
		}
	}
	slices.Sort(destinations)
	return destinations
}
