package notify

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// The record of a target has a word for each bad thing about a job that it was told today: DAY EVENT HASH JOB. Failures of what
// went well are taken off, so that the next one is news. What is stale at one destination may go well at others.

// isNews tells whether a target was not told all of this today. A clock that was set back makes it news.
func (n Notice) isNews(record []string) bool {
	words := n.words()
	return len(words) == 0 || slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(record, word) })
}

// record gives the record of a target after the notice, of which it was told or not.
func (n Notice) record(before []string, isTold bool) (after []string) {
	failed := n.failures()
	for _, word := range before {
		parts := append(strings.SplitN(word, " ", 4), "", "", "")
		day, event, job := parts[0], Event(parts[1]), parts[3]
		_, fails := failed[job]
		isOver := event == Failure && n.Event != Start && !fails && slices.Contains(n.Jobs, job)
		if day == n.day() && !isOver {
			after = append(after, word)
		}
	}
	if isTold {
		after = append(after, n.words()...)
	}
	slices.Sort(after)
	return slices.Compact(after)
}

// words are those that the notice adds to the record.
func (n Notice) words() (words []string) {
	failed := n.failures()
	for _, job := range slices.Sorted(maps.Keys(failed)) {
		why := strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) {
				return -1
			}
			return r
		}, failed[job])
		hash := sha256.Sum256([]byte(why))
		words = append(words, fmt.Sprintf("%s %s %x %s", n.day(), n.Event, hash[:8], job))
	}
	return words
}

// failures gives the reason for each job that failed; for all of them the subject where no reasons are given.
func (n Notice) failures() map[string]string {
	if !n.Event.isBad() {
		return nil
	}
	if len(n.Failures) > 0 {
		return n.Failures
	}
	failed := make(map[string]string)
	for _, job := range n.Jobs {
		failed[job] = n.Subject
	}
	if len(failed) == 0 {
		failed[""] = n.Subject
	}
	return failed
}

func (n Notice) day() string { return n.Time.Format("2006-01-02") }
