package transport_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// shells are those whose reading of a quoted line is compared.
var shells = [][]string{{"dash", "-c"}, {"busybox", "sh", "-c"}, {"bash", "-c"}}

// readBack gives the words that a shell makes of a line.
func readBack(t *testing.T, shell []string, line string) []string {
	t.Helper()
	argv := append(append([]string{}, shell...), `exec printf '%s\0' `+line)
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		t.Fatalf("%s with %q: %v", shell[0], line, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func checkReadBack(t *testing.T, argv []string) {
	t.Helper()
	line := transport.Quote(argv...)
	for _, shell := range shells {
		if got := readBack(t, shell, line); strings.Join(got, "\x00") != strings.Join(argv, "\x00") {
			t.Errorf("%s reads %q as %q, want %q", shell[0], line, got, argv)
		}
	}
}

func TestShellsReadBackEveryByte(t *testing.T) {
	t.Parallel()
	var all []string
	for b := 1; b < 256; b++ {
		c := string([]byte{byte(b)})
		all = append(all, c, c+c, "a"+c, c+"a", "a"+c+"b")
	}
	checkReadBack(t, all)
	checkReadBack(t, []string{strings.Join(all, "")})
}

func TestShellsReadBackOddWords(t *testing.T) {
	t.Parallel()
	checkReadBack(t, []string{"", "two words", "'", "''", `'\''`, `\`, `\\n`, "$HOME", "$(id)", "`id`", "~", "~root", "a=~", "-n", "--",
		"*", "[a]", "{a,b}", "!", "!!", "#", "a#", ";", "&&", "|", "<", "new\nline", "\n", "\r\n", "\t", "\xff\xfe", "é", "if", "x=y", ""})
}

func TestAnAssignmentOrKeywordIsACommand(t *testing.T) {
	t.Parallel()
	for _, shell := range shells {
		for _, word := range []string{"x=y", "if", "done", "function", "!", "{"} {
			err := exec.Command(shell[0], append(shell[1:], transport.Quote(word))...).Run()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 127 {
				t.Errorf("%s does not look for a command %q: %v", shell[0], word, err)
			}
		}
	}
}

func TestPlainWordsAreNotQuoted(t *testing.T) {
	t.Parallel()
	if got := transport.Quote("btrfs-backup", "/mnt/a_b.c:d,e+f@g%h", "-x"); got != "btrfs-backup /mnt/a_b.c:d,e+f@g%h -x" {
		t.Errorf("%s", got)
	}
	if got := transport.Quote("serve", "--log=debug"); got != "serve '--log=debug'" {
		t.Errorf("%s", got)
	}
}

func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a", "'", "a b\nc", "$x`y`", "\xff", "-n", "~", `\`, "a'b'c''", "\x01\x7f", "*?["} {
		f.Add(seed, "second")
		f.Add("'", seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			return // no argument holds one
		}
		checkReadBack(t, []string{a, b})
	})
}
