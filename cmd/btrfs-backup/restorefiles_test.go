package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/retrieval"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// thesis is a file that was saved on two days.
type thesis struct {
	source, folder, file string
}

func newThesis(t testing.TB) thesis {
	t.Helper()
	th := thesis{source: newSource(t, smallFS(t).Dir, "home"), folder: filepath.Join(smallFS(t).Dir, "home")}
	th.file = filepath.Join(makeDir(t, filepath.Join(th.source, "me/docs")), "thesis.tex")
	for day := 1; day <= 2; day++ {
		write(t, th.file, strings.Repeat("x", day))
		expect(t, exitDone, invoke(t, march(day), th.source, th.folder))
	}
	return th
}

// holds fails unless a file has that many bytes.
func holds(t testing.TB, file string, bytes int) {
	t.Helper()
	if content, err := os.ReadFile(file); err != nil || len(content) != bytes {
		t.Errorf("%s holds %q, want %d bytes, %v", file, content, bytes, err)
	}
}

func TestAFileComesBackByItsDateAndThePathThatItHad(t *testing.T) {
	t.Parallel()
	th := newThesis(t)
	at := []string{"restore", "--at", "2026-03-01", th.folder}
	beside := th.file + ".restored-20260301-120000"
	r := succeed(t, append(at, th.file, "--dry-run")...)
	if exists(beside) || !strings.Contains(r.stdout, "found in 20260301-120000: me/docs/thesis.tex, 1 B of 20") {
		t.Errorf("%s", r.stdout)
	}
	r = succeed(t, append(at, th.file)...)
	if !strings.Contains(r.stdout, th.file+" exists: writing "+beside+"  (--overwrite replaces it)") || !strings.Contains(r.stdout, "restored 1 file as "+beside+", 1 B") {
		t.Errorf("%s", r.stdout)
	}
	holds(t, beside, 1)
	holds(t, th.file, 2)
	succeed(t, append(at, th.file, "--overwrite")...)
	holds(t, th.file, 1)

	btrfstest.Check(t, os.RemoveAll(filepath.Join(th.source, "me")))
	expect(t, exitFailed, invoke(t, nil, append(at, filepath.Join(th.source, "me/docs/thesis.text"))...), "holds no me/docs/thesis.text", "there is thesis.tex; `btrfs-backup versions ")
	if exists(filepath.Join(th.source, "me")) {
		t.Error("a mistaken name made something")
	}
	succeed(t, append(at, th.file)...)
	holds(t, th.file, 1)

	newest := filepath.Join(th.folder, ".latest")
	r = succeed(t, "restore", newest, "--path", "me/docs", "--path", "/file", "--to", filepath.Join(th.source, "new"), "--json")
	var told retrieval.Report
	btrfstest.Check(t, json.Unmarshal([]byte(r.stdout), &told))
	if told.Files != 2 || len(told.Items) != 2 || told.Items[0].To != filepath.Join(th.source, "new/docs") {
		t.Errorf("%s", r.stdout)
	}
	holds(t, filepath.Join(th.source, "new/docs/thesis.tex"), 2)
	btrfstest.Check(t, os.Remove(th.file))
	succeed(t, "restore", newest, "--path", "me/docs/thesis.tex")
	holds(t, th.file, 2)
	succeed(t, "restore", filepath.Join(th.folder, "20260302-120000/me/docs/thesis.tex"), "--to", filepath.Dir(th.folder))
	holds(t, filepath.Join(filepath.Dir(th.folder), "thesis.tex"), 2)
	succeed(t, "restore", filepath.Join(th.source, "snapshot/.latest"), "--path", "me", "--overwrite")
}

func TestFilesOfACopyComeBackWhereTheyWere(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("me/a b", "content")
	r.saves()
	btrfstest.Check(t, os.RemoveAll(r.at("me")))
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "restore", filepath.Join(r.destination, ".latest"), r.at("me/a b"))))
	holds(t, r.at("me/a b"), 7)
	other := t.TempDir()
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "restore", filepath.Join(r.destination, ".latest"), "--path", ".", "--to", other)))
	btrfstest.Equal(t, r.source, other, btrfstest.RootTime)
	expect(t, exitFailed, invokeCmd(t, r.commandTo(nil, "restore", filepath.Join(r.destination, ".latest"), "--path", "mee")), "holds no mee", "there is me")
}

func TestAnOrdinaryUserRestoresHisOwnFile(t *testing.T) {
	t.Parallel()
	u := newOrdinary(t)
	docs := makeDir(t, filepath.Join(u.source, "docs"))
	for _, name := range []string{"mine", "roots"} {
		write(t, filepath.Join(docs, name), name)
	}
	own(t, docs)
	own(t, filepath.Join(docs, "mine"))
	btrfstest.Check(t, os.Chmod(filepath.Join(docs, "roots"), os.ModeSetuid|0o755))
	u.succeed(t, march(1), u.source)
	newest := filepath.Join(u.source, "snapshot/.latest")
	btrfstest.Check(t, os.RemoveAll(docs))
	u.succeed(t, nil, "restore", newest, "--path", "docs/mine")
	btrfstest.Equal(t, filepath.Join(newest, "docs/mine"), filepath.Join(docs, "mine"))

	expect(t, exitPartly, u.invoke(t, nil, "restore", newest, "--path", "docs/roots"), "docs/roots lost: owner, set-user-ID")
	info, err := os.Stat(filepath.Join(docs, "roots"))
	btrfstest.Check(t, err)
	if info.Mode() != 0o755 {
		t.Errorf("it has the mode %v", info.Mode())
	}
}

func TestARestoreOfFilesGoesOnAfterTheMachineWasLost(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	l := newLink(t, sshtest.Options{})
	folder, to := filepath.Join(btrfstest.New(t, 256<<20).Dir, "home"), t.TempDir()
	source := newSource(t, btrfstest.New(t, 256<<20).Dir, "home")
	btrfstest.SmallFiles(t, source, 50, 1)
	random := make([]byte, 32<<20)
	for i := range random {
		random[i] = byte(i * i >> 7)
	}
	write(t, filepath.Join(source, "large"), string(random))
	succeed(t, source, folder)
	args := append([]string{"restore", "--compress", "none", "--resume-window", "1s"}, l.options...)
	args = append(args, l.place(filepath.Join(folder, names(t, folder)[0])), "--path", ".", "--to", filepath.Join(to, "x"))
	btrfstest.Check(t, os.Mkdir(filepath.Join(to, "x"), 0o755))
	lost := func(refuse bool, args []string) result {
		before, cut := l.proxy.Down.Load(), make(chan struct{})
		go func() {
			defer close(cut)
			within(func() bool { return l.proxy.Down.Load() > before+2<<20 })
			l.proxy.Refuse(refuse)
			l.proxy.Cut()
		}()
		r := invoke(t, nil, args...)
		<-cut
		return r
	}
	r := lost(true, args)
	if r.status == exitDone || exists(filepath.Join(to, "x/large")) {
		t.Errorf("exit status %d, %q are there\n%s%s", r.status, names(t, filepath.Join(to, "x")), r.stdout, r.stderr)
	}
	l.proxy.Refuse(false)
	succeed(t, args...)
	btrfstest.Equal(t, filepath.Join(folder, names(t, folder)[0]), filepath.Join(to, "x"), btrfstest.RootTime)

	// where the connection alone was lost, the command itself goes on
	args[len(args)-1] = filepath.Join(to, "y")
	expect(t, exitDone, lost(false, append(args, "--resume-window", "1m")), "restored 52 files")
	btrfstest.Equal(t, filepath.Join(folder, names(t, folder)[0]), filepath.Join(to, "y"), btrfstest.RootTime)
}

func TestAFileIsNamedAsItIsKnown(t *testing.T) {
	t.Parallel()
	th := newThesis(t)
	btrfstest.Check(t, os.Remove(th.file))
	newest := filepath.Join(th.folder, ".latest")
	succeed(t, "restore", newest, "--path", th.file)
	holds(t, th.file, 2)
	expect(t, exitFailed, invoke(t, nil, "restore", newest, "--path", "/elsewhere/thesis.tex"), "without that of what it is a backup of")
	expect(t, exitFailed, invoke(t, nil, "restore", "--at", "2026-03-02", th.folder, "me/docs/thesis.tex"), "the path must be as it was: "+th.file)
	expect(t, exitFailed, invoke(t, nil, "restore", filepath.Join(newest, "me/docs/thesis.tex"), th.source), "--to "+th.source)
}

func TestAFileComesBackToADirectoryOfItsOwner(t *testing.T) {
	t.Parallel()
	u, th := newOrdinary(t), newThesis(t)
	docs := filepath.Dir(th.file)
	btrfstest.Check(t, os.Chmod(th.source, 0o755))
	expect(t, exitDone, invoke(t, march(3), th.source, th.folder))
	for _, dir := range []string{th.folder, filepath.Dir(th.folder), filepath.Dir(filepath.Dir(th.folder)), filepath.Dir(th.source), filepath.Dir(filepath.Dir(th.source))} {
		btrfstest.Check(t, os.Chmod(dir, 0o755))
	}
	btrfstest.Check(t, os.Remove(th.file))
	args := []string{"restore", filepath.Join(th.folder, "20260303-120000"), "--path", "me/docs/thesis.tex"}
	expect(t, exitFailed, u.invoke(t, nil, args...), "permission denied", "--to DIR")
	btrfstest.Check(t, os.Chown(docs, ordinaryUser, ordinaryUser))
	r := u.invoke(t, nil, args...)
	if content, err := os.ReadFile(th.file); err != nil || len(content) != 2 {
		t.Errorf("%v\n%s%s", err, r.stdout, r.stderr)
	}
}
