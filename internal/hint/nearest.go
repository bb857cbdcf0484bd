package hint

import (
	"cmp"
	"slices"
	"strings"
)

// Nearest gives those of the names that a word may stand for, the most likely first: those that begin with it, in their order, or else
// those from which it differs by no more than a third of its letters.
func Nearest(word string, names []string) []string {
	if word == "" {
		return nil
	}
	begin := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, word) })
	if len(begin) > 0 {
		return begin
	}
	distances := make(map[string]int)
	var near []string
	for _, name := range names {
		if d := distance(word, name); d <= max(1, len(word)/3) {
			distances[name] = d
			near = append(near, name)
		}
	}
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(distances[a], distances[b]) })
	return near
}

// distance tells how many letters are to be added, left out or exchanged, at the least (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
