package lock

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verified is when a backup in a store was verified last from this machine, and whether it was damaged.
type Verified struct {
	At      time.Time
	Damaged bool
}

const verifiedFile = "verified.json" // lines of verifiedLine, by store and source

const damagedWord, wholeWord = "damaged", "whole"

func (v Verified) line(name string) string {
	word := wholeWord
	if v.Damaged {
		word = damagedWord
	}
	return fmt.Sprintf("%s %s %s", v.At.UTC().Format(time.RFC3339), word, name)
}

// VerifiedIn gives what is on record of the backups of a source in a store, by name.
func (s State) VerifiedIn(source string) (map[string]Verified, error) {
	all, err := s.read(verifiedFile)
	return verifiedOf(all[source]), err
}

func verifiedOf(lines []string) map[string]Verified {
	verified := make(map[string]Verified)
	for _, line := range lines {
		date, rest, _ := strings.Cut(line, " ")
		word, name, _ := strings.Cut(rest, " ")
		if at, err := time.Parse(time.RFC3339, date); err == nil {
			verified[name] = Verified{at, word == damagedWord}
		}
	}
	return verified
}

// SetVerified records what was verified. What is not there any more is forgotten.
func (s State) SetVerified(ctx context.Context, source string, now map[string]Verified, there func(name string) bool) error {
	return s.change(ctx, verifiedFile, source, func(before []string) (lines []string) {
		all := verifiedOf(before)
		for name, v := range now {
			all[name] = v
		}
		for name, v := range all {
			if there(name) {
				lines = append(lines, v.line(name))
			}
		}
		slices.Sort(lines)
		return lines
	})
}
