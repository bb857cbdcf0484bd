package picture

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

func textOf(t *testing.T, p Picture) string {
	t.Helper()
	var text strings.Builder
	check(t, p.WriteText(&text))
	return text.String()
}

func TestATerminalOf80ColumnsShowsTheSame(t *testing.T) {
	text := textOf(t, example())
	for _, want := range []string{
		"Backups of laptop, 2026-11-29 09:41: 1 of 4 destinations not good\n! home: /mnt/usb/home: 20261126-013103 is damaged",
		"! home: root@nas:/backup/laptop/home: LATE (> 2 d): ", "hint: is sshd running there?", "> job home, under way for 3 min (process 4711)\n",
		"  /mnt/usb/home: 20261129-094100: 105 MiB of 220 MiB (47 %), 18 MiB/s, 6.0 s\n    left\n",
		"    now        ", "    in a year  ", "and 2 older, the oldest of 2024-06-13", "policy: 14d 8w 12m *y", "2026-11-29 01:41  partly done, status 3",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not tell %q", want)
		}
	}
	var strips []string
	for line := range strings.Lines(text) {
		if title, strip, ok := strings.Cut(strings.TrimSpace(line), "  "); ok && (title == "now" || title == "in a year") {
			strips = append(strips, strings.TrimSpace(strip))
		}
	}
	// Of 14 days, 8 weeks and 12 months, in weeks that begin on Monday, of which the last one has a damaged backup.
	if len(strips) < 2 || strips[0] != ".1...1...1...1....1...1....1...1...1....1...11112127x" || strips[1] != "1...1....1...1...1...1....1...1...1....1...1.11111771" {
		t.Errorf("%q", strips)
	}
}

func TestNamesOfMonthsKeepABlankBetweenThem(t *testing.T) {
	for day := range 371 {
		var line text
		line.months(yearTo(now.AddDate(0, 0, day)))
		names := strings.Fields(line.String())
		for _, name := range names {
			if _, err := time.Parse("Jan", name); err != nil && len(name) != len("2006") {
				t.Fatalf("day %d: %q", day, line.String())
			}
		}
		if len(names) < 11 || !strings.Contains(line.String(), " 20") {
			t.Fatalf("day %d: %q", day, line.String())
		}
	}
}

func TestWhatWasNeverMadeIsWarnedOfOnce(t *testing.T) {
	missing := &engine.Failure{Err: errors.New("no such file or directory")}
	for state, want := range map[standing.State]int{standing.Never: 1, standing.Late: 2} {
		var p Picture
		p.warnOf(&Job{Name: "home"}, &Place{Place: standing.Place{Destination: "/mnt/usb/home", State: state}, Unlisted: missing}, nil)
		if len(p.Warnings) != want {
			t.Errorf("%s: %+v", state, p.Warnings)
		}
	}
}

func TestWhatOthersTellDoesNothingToATerminal(t *testing.T) {
	for name, p := range map[string]Picture{"example": example(), "hostile": hostilePicture()} {
		for line := range strings.Lines(textOf(t, p)) {
			line = strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(line); n > columns || strings.IndexFunc(line, func(r rune) bool { return !unicode.IsGraphic(r) }) >= 0 {
				t.Errorf("%s: %d columns: %q", name, n, line)
			}
		}
	}
}
