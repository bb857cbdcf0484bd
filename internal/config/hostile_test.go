package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/job"

	"golang.org/x/sys/unix"
)

func TestValuesAreShownAsTheFileCouldHaveThem(t *testing.T) {
	c := mustRead(t, `[job.a]
source = "/a\u0001\u007f\u001b\n<&"
exclude = ["\u0007\u000b", "é\u2028"]
num-backups = 1_0
`)
	var lines []string
	for _, l := range c.Job("a").Lines() {
		lines = append(lines, l.Key+" = "+l.Value)
	}
	want := `source = "/a\u0001\u007f\u001b\n<&"|exclude = ["\u0007\u000b", "é\u2028"]|num-backups = 10`
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestNoKeyTakesADateOrAListInAList(t *testing.T) {
	wantComplaints(t, `[job.a]
source = 2026-01-02
mount-point = 2026-01-02
exclude = [["a"], { b = 1 }, 12:00:00]
ssh-sudo = inf
`, `2: source needs a text in quotes, not 2026-01-02`, `3: mount-point does not take 2026-01-02`, `4: exclude does not take ["a"]`,
		`4: exclude does not take { b = 1 }`, `4: exclude does not take 12:00:00`, `5: strconv.ParseBool: parsing "+inf"`)
}

func TestATextWithNULIsRefused(t *testing.T) {
	wantComplaints(t, "[job.a]\nsource = \"/a\\u0000b\"\n", "2: a text holds the character NUL")
}

func TestADestinationIsTheSameInEverySpelling(t *testing.T) {
	c := mustRead(t, `[job.a]
source = "/a"
destination = ["nas:/x", "/mnt/b"]
[job.a.to."ssh://nas/x/"]
mount-point = "/far"
[job.a.to."/mnt//b/"]
mount-point = "/near"
`)
	to := c.Job("a").Spec.To
	if to["ssh://nas/x"].MountPoint != "/far" || to["/mnt/b"].MountPoint != "/near" {
		t.Errorf("%+v", to)
	}
	wantComplaints(t, `[job.a]
source = "/a"
destination = "nas:/x"
[job.a.to."nas:/x"]
[job.a.to."ssh://nas/x"]
`, `5: to."ssh://nas/x": that is ssh://nas/x, which has a table already`)
}

func TestTwoDisksInOnePlaceAreRefused(t *testing.T) {
	wantComplaints(t, `[job.a]
source = "/a"
[disk.red]
mount = "/mnt/disk"
[disk.blue]
mount = "/mnt/disk/"
`, "6: disk blue is mounted where disk red is")
}

func TestAComplaintNamesAFileWhateverItsName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "100%d.toml")
	if err := os.WriteFile(file, []byte("x = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Read(Source{File: file, Nearest: func(string, []string) string { return "" }})
	if want := file + `:1: there is no key "x"`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestOnlyFilesAreReadAndNoPipeIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	for name, mk := range map[string]func(path string) error{
		"pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"nothing":   func(path string) error { return os.Symlink("nowhere", path) },
		"huge": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("# a comment\n", maxSize/12+1)), 0o600)
		},
	} {
		path := filepath.Join(dir, name)
		if err := mk(path); err != nil {
			t.Fatal(err)
		}
		if _, err := readPrivate(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALinkInADirectoryOfOthersIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(write(t, "[job.a]\n"), filepath.Join(dir, "a.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate(filepath.Join(dir, "a.toml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate(filepath.Join(dir, "a.toml")); err == nil || !strings.Contains(err.Error(), "others can write to "+dir) {
		t.Errorf("error: %v", err)
	}
}

func TestFilesOfEditorsAreNoDropIns(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.toml", "a.toml", ".a.toml.swp", "a.toml~", "#a.toml#", ".hidden.toml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("me@host.123:456", filepath.Join(dir, ".#a.toml")); err != nil { // Emacs
		t.Fatal(err)
	}
	files, err := dropIns(dir)
	if want := []string{dir + "/a.toml", dir + "/b.toml"}; err != nil || fmt.Sprint(files) != fmt.Sprint(want) {
		t.Errorf("%v, %v", files, err)
	}
}

func TestALineIsFoundInAFileOfManyJobs(t *testing.T) {
	var text strings.Builder
	const jobs = 5000
	for i := range jobs {
		fmt.Fprintf(&text, "[job.j%d]\nsource = \"/a\"\nwrong = 1\n", i)
	}
	_, err := read(t, text.String())
	all, _ := err.(job.Complaints)
	if len(all) != jobs || !strings.Contains(all[jobs-1].Error(), fmt.Sprintf("config.toml:%d: ", 3*jobs)) {
		t.Errorf("%d complaints, the last is %v", len(all), all[max(len(all), 1)-1])
	}
}
