package transport

import (
	"slices"
	"strings"
)

// Quote makes a line of words that a POSIX shell reads back as exactly argv. A NUL byte, which no argument can hold, is left
// out.
//
// Words of plain characters stay as they are, so that fish and csh read them too. All others stand in single quotes, where
// POSIX shells take every byte as itself; a single quote is written outside, behind a backslash.
func Quote(argv ...string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = quoteWord(strings.ReplaceAll(arg, "\x00", ""))
	}
	return strings.Join(words, " ")
}

func quoteWord(word string) string {
	if isPlain(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// isPlain tells that no shell gives a meaning to word or any of its characters. "=" would make an assignment of the first
// word, and zsh looks up the rest of a word that begins with it. "~" is a home directory.
func isPlain(word string) bool {
	for _, c := range []byte(word) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("-_./:,+@%", rune(c)) {
			return false
		}
	}
	return word != "" && !slices.Contains(reserved, word)
}

// reserved are the words that begin or end a compound command, of bash too.
var reserved = []string{"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select",
	"then", "time", "until", "while"}
