package btrfstest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// RequireRoot skips the test without root, and fails it instead when
// BTRFS_BACKUP_REQUIRE_ROOT=1. Beside OnlyInAll, no test skips in any other way.
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

// OnlyInAll skips the test unless BTRFS_BACKUP_TEST_ALL=1, as in `scripts/test --all`:
// for what takes long, and repeats in other surroundings what other tests show.
func OnlyInAll(t testing.TB) {
	t.Helper()
	if !All() {
		t.Skip("only with --all")
	}
}

// All tells whether BTRFS_BACKUP_TEST_ALL=1, for tests that go through more cases then.
func All() bool { return os.Getenv("BTRFS_BACKUP_TEST_ALL") == "1" }

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

// WriteProgram writes a program that can be run at once. No other test forks
// meanwhile: its child would have the file open for writing for a moment, and the
// kernel runs no such file (ETXTBSY, https://go.dev/issue/22315).
func WriteProgram(t testing.TB, path, content string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	Check(t, os.WriteFile(path, []byte(content), 0o755))
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
