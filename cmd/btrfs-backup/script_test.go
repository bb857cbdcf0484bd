package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// TestScripts runs the command lines in testdata/script, beside the commands of testscript with those below.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Values[testingKey{}] = env.T().(testing.TB)
			env.Setenv("TZ", "UTC")
			env.Setenv("XDG_STATE_HOME", env.WorkDir)
			env.Setenv(testOnlyNow, "2026-03-01T12:00:00Z")
			env.Setenv(testOnlyRun, filepath.Join(env.WorkDir, ".run")) // where jobs of one name are one
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"pair":   scriptPair,
			"status": scriptStatus,
			"fits":   scriptFits,
			"keys":   scriptKeys,
			"tree":   scriptTree,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

type testingKey struct{}

// scriptPair makes a subvolume $SRC on the filesystem mounted at $DISK1, and $DST a path where there is nothing yet on
// the one at $DISK2.
func scriptPair(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: pair")
	}
	source, destination := newSmallPair(ts.Value(testingKey{}).(testing.TB))
	ts.Setenv("SRC", source)
	ts.Setenv("DST", destination)
	ts.Setenv("DISK1", filepath.Dir(source))
	ts.Setenv("DISK2", filepath.Dir(destination))
}

// scriptStatus runs a program that must exit with the given status.
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program [args...]")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// scriptFits fails unless the output of the last program fits a terminal.
func scriptFits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fits lines columns")
	}
	lines, err := strconv.Atoi(args[0])
	ts.Check(err)
	columns, err := strconv.Atoi(args[1])
	ts.Check(err)
	text := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	if len(text) > lines || len(text) == 1 {
		ts.Fatalf("the output has %d lines", len(text))
	}
	for _, line := range text {
		if len(line) > columns {
			ts.Fatalf("a line has %d columns: %s", len(line), line)
		}
	}
}

// scriptKeys fails unless the file is a JSON object with at least these keys.
func scriptKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: keys file key...")
	}
	var object map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &object))
	for _, key := range args[1:] {
		if _, ok := object[key]; !ok {
			ts.Fatalf("key %q is missing", key)
		}
	}
}

// scriptTree writes what is in directories, with all that a change would show in, to a file.
func scriptTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tree file directory...")
	}
	lines := allIn(ts.Value(testingKey{}).(testing.TB), args[1:]...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// newSmallPair is newPair with a single file in the source.
func newSmallPair(t testing.TB) (source, destination string) {
	t.Helper()
	return newSource(t, smallFS(t).Dir, "home"), filepath.Join(smallFS(t).Dir, "backups")
}

func smallFS(t testing.TB, options ...string) *btrfstest.FS {
	t.Helper()
	return btrfstest.New(t, 128<<20, options...)
}

// newSource makes a subvolume with a single file.
func newSource(t testing.TB, dir, name string) string {
	t.Helper()
	source := filepath.Join(dir, name)
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	write(t, filepath.Join(source, "file"), "content of "+name)
	return source
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
