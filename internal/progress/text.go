package progress

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name gives a name for a row or a sentence: in quotes, with escapes, if it would upset a terminal or a reader.
func Name(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// Few gives at most three of many names, and how many more there are.
func Few(names []string) string {
	const most = 3
	var few []string
	for _, name := range names[:min(most, len(names))] {
		few = append(few, Name(name))
	}
	text := strings.Join(few, ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Line makes a text one line, in which nothing moves a cursor, ends the line or reorders it.
func Line(text string) string {
	return escape(strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "; "), "")
}

// Printable gives a writer of texts for people: what would upset a terminal is written as an escape, but for newlines and
// tabs. Whatever another machine, a program or a disk tells is printed through one.
func Printable(w io.Writer) io.Writer { return printableWriter{w} }

type printableWriter struct{ w io.Writer }

func (p printableWriter) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.w, escape(string(text), "\n\t")); err != nil {
		return 0, err
	}
	return len(text), nil
}

// escape replaces what is no character that can be seen, but for those in keep: control characters, marks of direction, bytes
// that are no UTF-8.
func escape(text, keep string) string {
	harmless := func(r rune) bool { return unicode.IsGraphic(r) || strings.ContainsRune(keep, r) }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !harmless(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case harmless(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		text = text[size:]
	}
	return b.String()
}
