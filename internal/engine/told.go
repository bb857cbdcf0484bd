package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// Told remembers on this machine what was said of sources, so that it is said again only when it changes. It may be lost: then
// it is said once more.
type Told struct {
	Dir string // that holds the file, and is made when something is to be remembered; "": nothing is remembered
}

// toldFile holds by source the hash of what was said.
const toldFile = "told.json"

// IsNews tells whether something else was said of a source the last time, and remembers what is said now.
func (t Told) IsNews(source string, said []string) bool {
	if t.Dir == "" {
		return len(said) > 0
	}
	sum := ""
	if len(said) > 0 {
		hash := sha256.Sum256([]byte(strings.Join(said, "\x00")))
		sum = hex.EncodeToString(hash[:])
	}
	all := make(map[string]string)
	file := filepath.Join(t.Dir, toldFile)
	content, _ := os.ReadFile(file)
	if json.Unmarshal(content, &all) != nil || all == nil {
		all = make(map[string]string)
	}
	if all[source] == sum {
		return false
	}
	if all[source] = sum; sum == "" {
		delete(all, source)
	}
	if content, err := json.MarshalIndent(all, "", "    "); err == nil && os.MkdirAll(t.Dir, 0o700) == nil {
		_ = renameio.WriteFile(file, append(content, '\n'), 0o600)
	}
	return len(said) > 0
}
