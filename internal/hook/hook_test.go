package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestHooksThatCannotRunAreComplainedOf(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	check(t, os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644))
	argv := []string{"true", "-x"}
	for _, test := range []struct {
		hook Hook
		want []string // "setting: text", in order
	}{
		{Hook{Before: argv, After: []string{"/bin/true"}, Around: "transfer", Timeout: time.Minute, User: "root"}, nil},
		{Hook{}, []string{"before: is missing, and so is after"}},
		{Hook{Before: []string{plain}}, []string{"before: " + plain + " is not executable"}},
		{Hook{After: []string{plain + "-missing"}}, []string{"after: " + plain + "-missing: no such file or directory"}},
		{Hook{After: []string{filepath.Dir(plain)}}, []string{"after: " + filepath.Dir(plain) + ": is a directory"}},
		{Hook{Before: []string{"no-such-program"}}, []string{`before: "no-such-program" is not in PATH`}},
		{Hook{Before: []string{"systemctl stop mariadb"}}, []string{`before: "systemctl stop mariadb" is not in PATH`}},
		{Hook{Before: []string{"./stop"}}, []string{`before: "./stop" is no absolute path`}},
		{Hook{Before: []string{""}}, []string{`before: "" is no absolute path`}},
		{Hook{Before: argv, Around: "job"}, []string{"around: job is unknown"}},
		{Hook{Before: argv, User: "no-such-user"}, []string{"user: no-such-user is unknown"}},
		{Hook{Before: argv, Timeout: -1}, []string{"timeout: -1ns is not a time to wait"}},
		{Hook{Before: argv, Critical: true, Optional: true}, []string{"optional: contradicts critical"}},
		{Hook{Around: "x", Before: []string{"/missing"}, After: []string{"./y"}, Timeout: -1}, []string{"around: x", "timeout: ", "before: /missing", `after: "./y"`}},
	} {
		got := append(test.hook.Check(), test.hook.CheckHere()...)
		for i, c := range got {
			if text := c.Setting + ": " + c.Err.Error(); i >= len(test.want) || !strings.HasPrefix(text, test.want[i]) || hint.Of(c.Err) == "" {
				t.Errorf("%+v: %s (hint: %s), want %q", test.hook, text, hint.Of(c.Err), test.want)
			}
		}
		if len(got) != len(test.want) {
			t.Errorf("%+v: %v, want %q", test.hook, got, test.want)
		}
	}
}
