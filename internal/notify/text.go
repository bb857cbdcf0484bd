package notify

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

const maxText = 256 << 10 // of a report in a mail

func printable(text string) string {
	var b strings.Builder
	_, _ = progress.Printable(&b).Write([]byte(strings.ReplaceAll(text, "\r\n", "\n"))) // a Builder takes everything
	return b.String()
}

// shorten leaves out the middle of a text that is longer than so many bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const longestMark = len(" [... 1000000000000 bytes are left out ...] ")
	begin, end := (most-longestMark)/2, len(text)-(most-longestMark)/2
	for !utf8.RuneStart(text[begin]) {
		begin--
	}
	for !utf8.RuneStart(text[end]) {
		end++
	}
	return fmt.Sprintf("%s [... %d bytes are left out ...] %s", text[:begin], end-begin, text[end:])
}

// withoutSecrets shows the machine that a URL names. Paths and queries are often all that keeps strangers out.
func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "of an unreadable address"
	}
	return u.Scheme + "://" + u.Host
}
