package bring

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestTheProgramIsCutAndStillRuns(t *testing.T) {
	t.Parallel()
	source, built := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "program")
	btrfstest.Check(t, os.WriteFile(source, []byte("package main\n\nfunc main() { println(\"it runs\") }\n"), 0o644))
	for _, arch := range []string{"amd64", "386"} { // as Linux on amd64 runs both
		build := exec.Command("go", "build", "-o", built, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		whole, err := os.ReadFile(built)
		btrfstest.Check(t, err)
		short := cut(whole)
		if len(short) > len(whole)*8/10 {
			t.Errorf("%s: %d bytes of %d are left", arch, len(short), len(whole))
		}
		btrfstest.Check(t, os.WriteFile(built+"-cut", short, 0o755))
		if out, err := exec.Command(built + "-cut").CombinedOutput(); err != nil || string(out) != "it runs\n" {
			t.Errorf("%s: %v, it says %q", arch, err, out)
		}
		if again := cut(short); len(again) != len(short) {
			t.Errorf("%s: cut twice, it is another program", arch)
		}
	}
	if text := cut([]byte("#!/bin/sh\n")); string(text) != "#!/bin/sh\n" {
		t.Errorf("a script is cut to %q", text)
	}
}

// In single quotes fish gives a meaning to backslashes, and csh to nothing but single quotes, "!" and ends of lines.
func TestTheScriptIsSmallAndReadAlikeByLoginShells(t *testing.T) {
	t.Parallel()
	if strings.ContainsAny(script, `'\`) {
		t.Error("there are quotes or backslashes in it")
	}
	if strings.Contains(script, "shellcheck") || strings.Contains(script, "\n\n") {
		t.Errorf("there are comments in it:\n%s", script)
	}
	if n := strings.Count(script, "\n"); n > 95 {
		t.Errorf("it has %d lines", n)
	}
}

func TestThePermissionToAddToSudoersIsExact(t *testing.T) {
	t.Parallel()
	c := &Copy{Path: "/home/my self/.cache/btrfs-backup/012f/btrfs-backup", user: "me"}
	if got, want := c.Sudoers(), `me ALL=(root) NOPASSWD: /home/my\ self/.cache/btrfs-backup/*/btrfs-backup serve *`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
