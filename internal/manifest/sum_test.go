package manifest

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSha256sumChecksWhatSumWrites(t *testing.T) {
	dir := t.TempDir()
	var list bytes.Buffer
	names := []string{
		"plain", "-", "--help", " leading", "trailing ", "*star", "new\nline", "ends\n", "carriage\rreturn", "ends\r", `back\slash`, `\n`,
		"\\", "\xff\xfe", "tab\t", "#comment", "all\\\n\r", "SHA256 (x) = 0",
	}
	for _, name := range names {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
		must(t, Sum(&list, Entry{Path: name, Type: Regular, SHA256: sha256.Sum256([]byte(name))}))
	}
	must(t, Sum(&list, Entry{Path: "dir", Type: Directory}))

	sha256sum := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict")
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(list.Bytes())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := sha256sum()
	if n := strings.Count(out, ": OK\n"); err != nil || n != len(names) {
		t.Fatalf("%d of %d files passed: %v\n%s", n, len(names), err, out)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("other"), 0o600))
		if out, err := sha256sum(); err == nil || !strings.Contains(out, ": FAILED\n") {
			t.Errorf("%q was changed and passed: %v\n%s", name, err, out)
		}
		must(t, os.WriteFile(path, []byte(name), 0o600))
	}
}

func TestSumRefusesAFileThatWouldNotBeChecked(t *testing.T) {
	if err := Sum(&bytes.Buffer{}, Entry{Path: "a", Type: Regular}); err == nil {
		t.Error("a file without SHA-256 was left out")
	}
}
