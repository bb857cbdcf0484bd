package verify

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

var check = btrfstest.Check

func here() host.Trees { return local.New(slog.New(slog.DiscardHandler)) }

func placeOf(path string) Place { return Place{here(), path} }

// A collector collects what is told.
type collector struct{ lines []string }

func (c *collector) Begin(context.Context, string) (func(read, total int64), func()) {
	return func(int64, int64) {}, func() {}
}
func (c *collector) Found(d tree.Difference) { c.lines = append(c.lines, d.Path+" "+string(d.Kind)) }
func (c *collector) Done(Result)             {}

// TestMain lets the test binary be a relink that is killed at a step.
func TestMain(m *testing.M) {
	if step := os.Getenv("VERIFY_TEST_STEP"); step != "" {
		failpoint.OnReach(func(reached string) {
			if reached == step {
				if change := os.Getenv("VERIFY_TEST_CHANGE"); change != "" {
					_ = os.WriteFile(change, []byte("changed meanwhile"), 0o644)
					unix.Sync()
					return
				}
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			}
		})
		_, err := Relink(context.Background(), placeOf(os.Getenv("VERIFY_TEST_BACKUP")), placeOf(os.Getenv("VERIFY_TEST_TO")), false, &collector{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A pair has a source with snapshots, and a folder of backups of them.
type pair struct {
	*testing.T
	source, snapshots, folder string
}

func newPair(t *testing.T) *pair {
	here, there := btrfstest.New(t, 256<<20).Dir, btrfstest.New(t, 256<<20).Dir
	p := &pair{t, here + "/source", here + "/snapshots", there + "/folder"}
	check(t, btrfs.Create(btrfstest.Open(t, here), "source"))
	check(t, os.Mkdir(p.snapshots, 0o755))
	check(t, os.Mkdir(p.folder, 0o755))
	p.write(p.source+"/file", "content")
	p.write(p.source+"/other", strings.Repeat("x", 100_000))
	check(t, os.Link(p.source+"/file", p.source+"/link"))
	return p
}

func (p *pair) write(path, content string) {
	p.Helper()
	check(p, os.WriteFile(path, []byte(content), 0o644))
}

func (p *pair) send(name, parent string) {
	p.Helper()
	check(p, btrfs.Snapshot(btrfstest.Open(p, p.source), btrfstest.Open(p, p.snapshots), name))
	options := "-q"
	if parent != "" {
		options = "-qp" + filepath.Join(p.snapshots, parent)
	}
	btrfstest.Run(p, "sh", "-c", `btrfs send "$1" "$2" | btrfs receive -q "$3"; sync -f "$3"`, "sh", options, filepath.Join(p.snapshots, name), p.folder)
}

// flip makes a subvolume writable and read-only again, by the program of btrfs, which clears its received UUID.
func (p *pair) flip(path string, change func()) {
	p.Helper()
	btrfstest.Run(p, "btrfs", "property", "set", "-f", "-ts", path, "ro", "false")
	change()
	btrfstest.Run(p, "btrfs", "property", "set", "-ts", path, "ro", "true")
	btrfstest.Run(p, "sync", "-f", path)
}

func (p *pair) relink(dryRun bool) (Relinked, []string, error) {
	var c collector
	r, err := Relink(p.Context(), placeOf(p.folder+"/1"), placeOf(p.snapshots+"/1"), dryRun, &c)
	return r, c.lines, err
}

// counts tells that the backup is one of the snapshot.
func (p *pair) counts() bool {
	p.Helper()
	backups, err := btrfs.List(btrfstest.Open(p, p.folder))
	check(p, err)
	snapshots, err := btrfs.List(btrfstest.Open(p, p.snapshots))
	check(p, err)
	i := slices.IndexFunc(snapshots.InDirectory, func(s btrfs.Subvolume) bool { return s.Name == "1" })
	f := copies.New(snapshots.InDirectory, backups)
	of := f.Of(snapshots.InDirectory[i])
	return len(of) == 1 && of[0].Name == "1" && copies.IsComplete(of[0])
}

func (p *pair) want(got []string, want ...string) {
	p.Helper()
	if !slices.Equal(got, want) {
		p.Errorf("got %q, want %q", got, want)
	}
}

func TestABackupThatEqualsItsSnapshotCountsAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.send("1", "")
	if r, _, err := p.relink(false); err != nil || !r.Before || r.Bytes != 0 {
		t.Errorf("one that counts: %+v, %v", r, err)
	}
	for what, spoil := range map[string]func(){
		"its received UUID is lost": func() { p.flip(p.folder+"/1", func() {}) },
		"it was altered, and put right": func() {
			p.alter(p.folder+"/1", "other")
		},
		"the snapshot was altered, and put right": func() {
			p.alter(p.snapshots+"/1", "other")
		},
	} {
		spoil()
		if p.counts() {
			t.Errorf("%s: it counts before", what)
		}
		if r, _, err := p.relink(true); err != nil || r.Linked || len(r.Differences) > 0 || p.counts() {
			t.Errorf("%s: dry run: %+v, %v", what, r, err)
		}
		r, lines, err := p.relink(false)
		check(t, err)
		p.want(lines)
		if !r.Linked || r.Digest == "" || !p.counts() {
			t.Errorf("%s: it does not count: %+v", what, r)
		}
	}
	p.write(p.source+"/file", "new")
	p.send("2", "1") // which btrfs receive builds upon it
	btrfstest.Equal(t, p.snapshots+"/2", p.folder+"/2")
	origins, err := os.ReadFile(p.folder + "/" + host.OriginsFile)
	if source := p.info(p.source); err != nil || !strings.Contains(string(origins), source.UUID.String()) {
		t.Errorf("on record is %s, %v", origins, err)
	}
	noted, err := os.ReadFile(p.folder + "/.btrfs-backup/manifests/" + p.info(p.folder+"/1").UUID.String() + ".verified")
	if err != nil || !strings.Contains(string(noted), p.snapshots+"/1") {
		t.Errorf("noted is %s, %v", noted, err)
	}
}

func (p *pair) info(path string) btrfs.Subvolume {
	p.Helper()
	s, err := btrfs.Info(btrfstest.Open(p, path))
	check(p, err)
	return s
}

// alter writes to a file of a subvolume what it holds, in a way that leaves the received UUID, and all times but that of change.
func (p *pair) alter(path, file string) {
	p.Helper()
	dir, name := btrfstest.Open(p, filepath.Dir(path)), filepath.Base(path)
	check(p, btrfs.SetReadOnly(dir, name, false))
	at := filepath.Join(path, file)
	st, err := os.Stat(at)
	check(p, err)
	content, err := os.ReadFile(at)
	check(p, err)
	p.write(at, string(content))
	check(p, os.Chtimes(at, st.ModTime(), st.ModTime()))
	check(p, btrfs.SetReadOnly(dir, name, true))
	btrfstest.Run(p, "sync", "-f", path)
}

func TestABackupThatDiffersIsNotRelinked(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.send("1", "")
	backup := p.folder + "/1/"
	for _, c := range []struct {
		change func()
		want   string
	}{
		{func() { check(t, os.Chmod(backup+"other", 0o600)) }, "other mode"},
		{func() { check(t, os.Chmod(backup+"other", 0o644)); check(t, os.Chown(backup+"other", 1, 1)) }, "other owner"},
		{func() {
			check(t, os.Chown(backup+"other", 0, 0))
			check(t, unix.Setxattr(backup+"other", "user.a", []byte("b"), 0))
		}, "other xattrs"},
		{func() {
			check(t, unix.Removexattr(backup+"other", "user.a"))
			st, err := os.Stat(backup + "file")
			check(t, err)
			check(t, os.Remove(backup+"link"))
			p.write(backup+"link", "content")
			check(t, os.Chtimes(backup+"link", st.ModTime(), st.ModTime()))
		}, "link links"},
		{func() {
			st, err := os.Stat(backup + "other")
			check(t, err)
			p.write(backup+"other", strings.Repeat("y", 100_000))
			check(t, os.Chtimes(backup+"other", st.ModTime(), st.ModTime()))
		}, "other content"},
	} {
		p.flip(p.folder+"/1", c.change)
		r, lines, err := p.relink(false)
		check(t, err)
		if !slices.Contains(lines, c.want) || r.Linked || p.counts() || !p.info(p.folder+"/1").ReceivedUUID.IsZero() {
			t.Errorf("want %s, got %q, %+v", c.want, lines, r)
		}
	}
	check(t, btrfs.SetReadOnly(btrfstest.Open(t, p.folder), "1", false))
	if _, _, err := p.relink(false); err == nil || !strings.Contains(err.Error(), "can be written to") {
		t.Errorf("a writable one: %v", err)
	}
}

// relinkSteps are those at which it is killed.
var relinkSteps = []string{"state begun", "state written", "relink noted", "relink hidden", "relink writable", "relink received", "relink read-only", "relink renamed", "state removed"}

func (p *pair) relinkTo(step, change string) (said string) {
	p.Helper()
	self, err := os.Executable()
	check(p, err)
	c := exec.Command(self)
	c.Env = append(os.Environ(), "VERIFY_TEST_STEP="+step, "VERIFY_TEST_BACKUP="+p.folder+"/1", "VERIFY_TEST_TO="+p.snapshots+"/1", "VERIFY_TEST_CHANGE="+change)
	out, err := c.CombinedOutput()
	if err == nil {
		p.Errorf("it is not ended at %q: %s", step, out)
	}
	return string(out)
}

// locked opens and locks the folder as the next run does.
func (p *pair) locked() {
	p.Helper()
	d, err := here().Open(p.Context(), p.folder)
	check(p, err)
	_, err = d.Lock(p.Context(), nil)
	check(p, err)
	check(p, d.Close())
}

func TestARelinkThatIsKilledIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.send("1", "")
	for _, step := range relinkSteps {
		p.flip(p.folder+"/1", func() {})
		p.relinkTo(step, "")
		p.locked()
		if s := p.info(p.folder + "/1"); !s.ReadOnly {
			t.Errorf("killed at %q: it can be written to", step)
		}
		if began := slices.Index(relinkSteps, step) > 2; p.counts() != began {
			t.Errorf("killed at %q: it counts: %t", step, !began)
		}
		entries, err := filepath.Glob(p.folder + "/.*relink*")
		check(t, err)
		more, err := filepath.Glob(p.folder + "/.btrfs-backup/relink.json")
		check(t, err)
		if left := append(entries, more...); len(left) > 0 {
			t.Errorf("killed at %q: %q are left", step, left)
		}
		_, _, err = p.relink(false)
		check(t, err)
		if !p.counts() {
			t.Errorf("killed at %q: then it does not count", step)
		}
	}
}

func TestABackupThatIsChangedWhileItIsRelinkedDoesNotCount(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.send("1", "")
	for _, step := range []string{"relink writable", "relink received"} {
		p.flip(p.folder+"/1", func() {})
		if said := p.relinkTo(step, p.folder+"/.1.relinking/file"); !strings.Contains(said, "written to since") {
			t.Errorf("changed at %q: %s", step, said)
		}
		if s := p.info(p.folder + "/1"); p.counts() || !s.ReadOnly || !s.ReceivedUUID.IsZero() {
			t.Errorf("changed at %q: %+v", step, s)
		}
		p.flip(p.folder+"/1", func() {
			st, err := os.Stat(p.snapshots + "/1/file")
			check(t, err)
			p.write(p.folder+"/1/file", "content")
			check(t, os.Chtimes(p.folder+"/1/file", st.ModTime(), st.ModTime()))
		})
	}
}
