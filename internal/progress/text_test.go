package progress_test

import (
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

func TestNothingThatIsPrintedUpsetsATerminal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain, naïve, 日本, 1 GiB": "plain, naïve, 日本, 1 GiB",
		"\x1b[2J\x07":             `\x1b[2J\a`,
		"\u009b31m\u0085":         `\u009b31m\u0085`,
		"a\u202eb\u2066c\u200fd":  `a\u202eb\u2066c\u200fd`,
		"a\u2028b\x7f\x00":        `a\u2028b\x7f\x00`,
		"\xff\xc3(":               `\xff\xc3(`,
		"two\nlines\twith\ra":     "two\nlines\twith" + `\ra`,
		"'":                       "'",
	} {
		var b strings.Builder
		if n, err := progress.Printable(&b).Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%q: %d bytes are written, %v", text, n, err)
		}
		if b.String() != want {
			t.Errorf("%q is printed as %q, want %q", text, b.String(), want)
		}
	}
}

func TestALineStaysOneLine(t *testing.T) {
	t.Parallel()
	if got := progress.Line("a\nb\tc\n"); got != `a; b\tc` {
		t.Errorf("%q", got)
	}
	if got := progress.Name("a\nb"); got != `"a\nb"` {
		t.Errorf("%q", got)
	}
}
