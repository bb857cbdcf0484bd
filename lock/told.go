package lock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Told remembers on this machine what was said of sources, so that it is said again only when it changes. It may be lost: then
// it is said once more.
type Told struct {
	Dir string // that holds the file, and is made when something is to be remembered; "": nothing is remembered
}

// IsNews tells whether something else was said of a source the last time, and remembers what is said now.
func (t Told) IsNews(ctx context.Context, source string, said []string) bool {
	sum := "nothing"
	if len(said) > 0 {
		hash := sha256.Sum256([]byte(strings.Join(said, "\x00")))
		sum = hex.EncodeToString(hash[:])
	}
	isNews := len(said) > 0
	_ = record{t.Dir, "told.json"}.change(ctx, source, func(before []string) ([]string, bool) {
		same := len(before) == 1 && before[0] == sum || len(before) == 0 && len(said) == 0
		isNews = isNews && !same
		return []string{sum}, same
	})
	return isNews
}
