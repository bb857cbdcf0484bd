package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/help"
)

func TestTheHelpOfEveryCommandFitsAScreen(t *testing.T) {
	t.Parallel()
	for _, c := range help.WithCommands(newRoot(environment{})) {
		if slices.Contains(strings.Fields(c.CommandPath()), "completion") {
			continue // cobra's own
		}
		var text strings.Builder
		c.SetOut(&text)
		c.InitDefaultHelpFlag()
		if err := c.Help(); err != nil {
			t.Error(err)
		}
		lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
		if len(lines) > 49 || len(lines) < 3 {
			t.Errorf("%s: %d lines", c.CommandPath(), len(lines))
		}
		for _, line := range lines {
			if len(line) > 80 {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), len(line), line)
			}
		}
	}
}

func TestWrongArgumentsOfACommandThatGivesDataBackAreUsageErrors(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/20260301-120000.zst"
	write(t, file, "")
	for _, test := range []struct{ args, text string }{
		{"restore", "BACKUP and TARGET are needed"},
		{"restore --at yesterday", "BACKUP and TARGET are needed"},
		{"restore --in-place", "BACKUP and TARGET are needed"},
		{"restore --dry-run", "BACKUP and TARGET are needed"},
		{"restore ''", "BACKUP and TARGET are needed"},
		{"restore '' ''", "names no place"},
		{"restore a b c", "BACKUP and TARGET are needed"},
		{"restore --path x", "BACKUP is missing"},
		{"restore a --path ''", "needs a value"},
		{"restore a --path x --to ''", "needs a value"},
		{"restore a --path x --in-place", "leave one or the other out"},
		{"restore --streams", "streams and TARGET are needed"},
		{"restore --streams " + file, "TARGET is missing"},
		{"restore --streams " + file + " " + file, "TARGET is missing"},
		{"restore --streams '' ''", "names no place"},
		{"restore --streams a b --path x", "leave out --path"},
		{"restore --from-stream cat", "streams and TARGET are needed"},
		{"restore --keep-chain a b", "--streams"},
		{"forget ''", "DEST is missing"},
		{"delete ''", "names no place"},
		{"adopt '' ''", "names no place"},
		{"relink", "--to SNAPSHOT"},
		{"relink '' --to x", "names no place"},
		{"diff a b c", "two are compared"},
		{"versions ''", "names no place"},
		{"verify ''", "names no place"},
		{"usage", "PLACE is missing"},
		{"prune ''", "names no place"},
	} {
		args := strings.Fields(test.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "''", "")
		}
		expect(t, exitUsage, invoke(t, nil, args...), test.text, "hint: ")
	}
}
