package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheIdentityOfAMachineIsHashedBeforeItIsPublished(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef0123456789abcdef"
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing, first := filepath.Join(dir, "missing"), file("first", id+"\n")
	// systemd-id128 machine-id --app-specific=7d0c8c542f0e4a35b7c13c7c7f0a6b19
	const want = "cbb4db8a340b4cb4a9e5bbfe4f4c78b9"
	if got := machineID([]string{missing, file("empty", ""), file("new", "uninitialized\n"), first}); got != want {
		t.Errorf("it is %q", got)
	}
	if got := machineID([]string{missing}); got != "" {
		t.Errorf("without a file it is %q", got)
	}
}
