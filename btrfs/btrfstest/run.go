package btrfstest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// RequireRoot skips the test without root, and fails it instead when
// BTRFS_BACKUP_REQUIRE_ROOT=1. No test skips in any other way.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("BTRFS_BACKUP_REQUIRE_ROOT") == "1" {
		t.Fatal("needs root, and BTRFS_BACKUP_REQUIRE_ROOT=1 forbids to skip")
	}
	t.Skip("needs root")
}

// Run runs a program, in the C locale so that its words can be relied on, and
// returns its standard output without surrounding space. It fails the test with
// all the program said when the program fails.
func Run(t testing.TB, argv ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s%s", argv, err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

// Check fails the test with any error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Open opens a directory until the end of the test.
func Open(t testing.TB, path string) *os.File {
	t.Helper()
	dir, err := os.Open(path)
	Check(t, err)
	t.Cleanup(func() { dir.Close() })
	return dir
}
