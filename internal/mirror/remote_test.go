package mirror

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// elsewhere is this machine, which rsync takes for another one.
type elsewhere struct {
	*local.Host
	shell string
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	shell := filepath.Join(t.TempDir(), "shell")
	check(t, os.WriteFile(shell, []byte("#!/bin/sh\nshift\nexec sh -c \"$*\"\n"), 0o755))
	return &elsewhere{here(), shell}
}

func (e *elsewhere) String() string { return "ssh://elsewhere" }

func (e *elsewhere) Rsync(context.Context) (*rsh.Link, error) {
	return &rsh.Link{Prefix: "remote:", Options: []string{"-s", "-e", e.shell}}, nil
}

var hostileNames = []string{"plain", "-dash", "host:dir", "a*b", "a*b[c]?", `back\slash`, `back\*`, "new\nline", "$(id) `id` ;'\"", "\xff\x1b[31m", `\#007`}

// likeTo gives a name that a shell's pattern would match as well.
func likeTo(name string) string {
	return strings.NewReplacer("*", "X", "[c]", "c", "?", "Y").Replace(name)
}

func TestPathsOnOtherMachinesAreTakenLiterally(t *testing.T) {
	t.Parallel()
	for _, name := range hostileNames {
		base := t.TempDir()
		write(t, base, likeTo(name)+"/wrong", name+"/file")
		check(t, os.RemoveAll(filepath.Join(base, name, "wrong")))
		for way, ends := range map[string][2]host.Trees{"from": {newElsewhere(t), here()}, "to": {here(), newElsewhere(t)}} {
			s := NewSource(ends[0], filepath.Join(base, name), SourceOptions{Log: quiet(), Marker: "file"})
			f := NewDestination(ends[1], filepath.Join(base, way, name), s, Options{Log: quiet(), MaxDelete: 100})
			mustBackUp(t, f, "1")
			mustHold(t, s.path, filepath.Join(f.path, "1"))
		}
	}
}

// mustHold compares all but times: rsync tells them apart by the second where it does not know how exact they are.
func mustHold(t *testing.T, want, got string) {
	t.Helper()
	differences, err := btrfstest.Diff(want, got)
	check(t, err)
	for _, d := range differences {
		if !strings.Contains(d, ": mtime: ") {
			t.Errorf("%s is not a copy of %s: %.300s", got, want, d)
		}
	}
}

func TestUnchangedFilesAreLinkedOnOtherMachines(t *testing.T) {
	t.Parallel()
	for way, ends := range map[string][2]host.Trees{"from": {newElsewhere(t), here()}, "to": {here(), newElsewhere(t)}} {
		s := sourceOf(t, SourceOptions{}, "file")
		s.host = ends[0]
		f := folderFor(t, s, Options{})
		f.host = ends[1]
		mustBackUp(t, f, "1")
		copied, err := backUp(t.Context(), f, "2")
		check(t, err)
		if copied.Bytes != 0 || copied.Wire == 0 {
			t.Errorf("%s there: %+v", way, copied)
		}
		first, err := os.Stat(filepath.Join(f.path, "1/file"))
		check(t, err)
		second, err := os.Stat(filepath.Join(f.path, "2/file"))
		check(t, err)
		if !os.SameFile(first, second) {
			t.Errorf("%s there: the file was copied again", way)
		}
	}
}

func TestRsyncDoesNotCopyBetweenTwoOtherMachines(t *testing.T) {
	t.Parallel()
	write(t, t.TempDir(), "a")
	for _, s := range []*Source{NewSource(newElsewhere(t), "/etc", SourceOptions{Log: quiet()}), NewModule("rsync://nas/m", SourceOptions{Log: quiet()})} {
		for _, m := range []engine.Opener{
			NewDestination(newElsewhere(t), filepath.Join(t.TempDir(), "new"), s, Options{Log: quiet()}),
			NewDaemon("rsync://nas/m", nil, s, Options{Log: quiet()}),
		} {
			if hint := mustRefuse(t, m.Open(t.Context()), "two other machines"); hint == "" {
				t.Errorf("there is no hint for %s", m)
			}
		}
	}
}

// daemon starts an rsync daemon with the modules "in", which can be written to, "out" and "closed", and gives its address and
// the directory of the modules.
func daemon(t *testing.T) (address, dir string) {
	t.Helper()
	btrfstest.RequireRoot(t)
	dir = t.TempDir()
	config := "use chroot = no\nuid = 0\ngid = 0\nmotd file = " + filepath.Join(dir, "motd") + "\n"
	for _, module := range []string{"in", "out", "closed"} {
		check(t, os.Mkdir(filepath.Join(dir, module), 0o755))
		config += fmt.Sprintf("[%s]\npath = %s\nread only = %t\n", module, filepath.Join(dir, module), module != "in")
	}
	config += "auth users = me\nsecrets file = /nonexistent\n" // of the last one
	check(t, os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "motd"), []byte("-rw-r--r-- 1 2 3 4 welcome\n"), 0o600))
	port := strconv.Itoa(sshtest.Port(t))
	address = "localhost:" + port
	cmd := exec.Command("rsync", "--daemon", "--no-detach", "--address=127.0.0.1", "--port="+port, "--config="+filepath.Join(dir, "config"),
		"--log-file="+filepath.Join(dir, "log"))
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address, dir
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the daemon does not start")
	return
}

func TestADirectoryOfADaemonIsASource(t *testing.T) {
	t.Parallel()
	address, dir := daemon(t)
	base := filepath.Join(dir, "out")
	for _, name := range hostileNames {
		write(t, base, likeTo(name)+"/wrong", name+"/file")
		check(t, os.RemoveAll(filepath.Join(base, name, "wrong")))
	}
	for _, name := range append(hostileNames, "") {
		s := NewModule("rsync://"+address+"/out/"+name, SourceOptions{Log: quiet()})
		if name != "" {
			s.Marker = "file"
		}
		f := folderFor(t, s, Options{})
		mustBackUp(t, f, "1")
		mustHold(t, filepath.Join(base, name), filepath.Join(f.path, "1"))
	}
}

func TestADoubtfulDirectoryOfADaemonIsRefused(t *testing.T) {
	t.Parallel()
	address, dir := daemon(t)
	write(t, dir, "out/full/file")
	check(t, os.Mkdir(filepath.Join(dir, "out/empty"), 0o755))
	for _, test := range []struct{ path, marker, says, hint string }{
		{"out/missing", "", "No such file", "mounted"},
		{"out/empty", "", "is empty", "mounted"},
		{"out/full/file", "", "Not a directory", "directory"},
		{"out/full", "marker", "its marker marker is missing", "mounted"},
		{"none", "", "Unknown module", "lists the modules"},
		{"closed", "", "auth failed", "RSYNC_PASSWORD"},
	} {
		s := NewModule("rsync://me@"+address+"/"+test.path, SourceOptions{Log: quiet(), Marker: test.marker})
		if hint := mustRefuse(t, s.Open(t.Context()), test.says); !strings.Contains(hint, test.hint) {
			t.Errorf("the hint on %s is %q", s, hint)
		}
	}
}

func TestADirectoryOfADaemonIsADestination(t *testing.T) {
	t.Parallel()
	address, dir := daemon(t)
	s := sourceOf(t, SourceOptions{}, "file", "gone", "deep/file")
	for _, name := range []string{"", "-dash", "a*b[c]?", "new\nline"} {
		diary := &journal{}
		d := NewDaemon("rsync://"+address+"/in/"+name, nil, s, Options{Log: diary.log()})
		check(t, d.Open(t.Context()))
		_, err := d.Rehearse(t.Context(), transferOf("1"))
		check(t, err)
		if name == "" && !strings.Contains(diary.String(), "3 files") {
			t.Errorf("the log tells: %s", diary)
		}
		write(t, s.path, "gone")
		_, err = d.Save(t.Context(), transferOf("1"))
		check(t, err)
		check(t, os.Remove(filepath.Join(s.path, "gone")))
		copied, err := d.Save(t.Context(), transferOf("2"))
		check(t, err)
		mustEqual(t, s.path, filepath.Join(dir, "in", name))
		if copied.Wire == 0 {
			t.Error("nothing crossed the network")
		}
	}
	refusing := NewDaemon("rsync://"+address+"/out", nil, s, Options{Log: quiet()})
	_, err := refusing.Save(t.Context(), transferOf("1"))
	mustRefuse(t, err, "module is read only")
}
