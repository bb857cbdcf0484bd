package mirror

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"
)

// refused are the options of rsync with which it makes something else than a backup and calls it a success.
var refused = []struct{ names, reason string }{
	{"-n --dry-run --list-only --only-write-batch --read-batch", "nothing would be copied"},
	{"--remove-source-files --remove-sent-files", "rsync would delete the source"},
	{"--compare-dest", "files would be missing in the backup"},
	{"--ignore-errors", "unreadable files would be deleted"},
	{"--daemon --server --sender", "rsync would not copy"},
	{"--", "the words after it would be further sources"},
}

// takeValue are the short options of rsync that take the rest of the word as their value.
const takeValue = "efBMT@"

// SplitOptions splits options for rsync as a shell does, without a shell. It refuses those that would make a false backup.
func SplitOptions(text string) ([]string, error) {
	words, err := shellquote.Split(text)
	if err != nil {
		return nil, err
	}
	for _, word := range words {
		for _, name := range optionNames(word) {
			for _, r := range refused {
				if slices.Contains(strings.Fields(r.names), name) {
					return nil, fmt.Errorf("rsync's %s cannot be used: %s", name, r.reason)
				}
			}
		}
	}
	return words, nil
}

// optionNames gives the options that a word holds: "-av" is -a and -v.
func optionNames(word string) []string {
	if !strings.HasPrefix(word, "-") || strings.HasPrefix(word, "--") {
		name, _, _ := strings.Cut(word, "=")
		return []string{name}
	}
	var names []string
	for _, letter := range word[1:] {
		names = append(names, "-"+string(letter))
		if strings.ContainsRune(takeValue, letter) {
			break
		}
	}
	return names
}

// SkipDir is the option of rsync that leaves out every directory called name.
func SkipDir(name string) string { return exclude(literal(name) + "/") }

// Skip is the option of rsync that leaves out everything whose name matches the pattern.
func Skip(pattern string) string { return exclude(pattern) }

// exclude keeps rsync from taking the beginning of a pattern for that of a rule ("+ x" would include x, "!" forget all rules).
func exclude(pattern string) string {
	if pattern == "!" || strings.HasPrefix(pattern, "+ ") || strings.HasPrefix(pattern, "- ") {
		pattern = "- " + pattern
	}
	return "--exclude=" + pattern
}

// literal escapes a name where rsync would take it for a pattern. A backslash is one to rsync only in what has wildcards.
func literal(name string) string {
	if !strings.ContainsAny(name, "*?[") {
		return name
	}
	return strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(name)
}
