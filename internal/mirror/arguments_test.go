package mirror

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror/options"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/time/rate"
)

// prepared is a host whose folders prepare work as they are told, and in which nothing is made of it.
type prepared struct {
	*local.Host
	work tree.Work
}

func (p prepared) OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (*host.TreeDir, error) {
	dir, err := p.Host.OpenTrees(ctx, path, o)
	if err == nil {
		dir.TreeWriter = preparedWriter{dir.TreeWriter, p.work}
	}
	return dir, err
}

type preparedWriter struct {
	host.TreeWriter
	work tree.Work
}

func (p preparedWriter) BeginTree(context.Context, tree.Order) (tree.Work, error) { return p.work, nil }
func (p preparedWriter) FinishTree(context.Context, tree.Result, func(int64)) (tree.Record, error) {
	return tree.Record{}, nil
}

func TestArgumentsAreExactlyThese(t *testing.T) {
	btrfstest.RequireRoot(t)
	const (
		standard  = "--archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded"
		stay      = " --one-file-system"
		fresh     = " --no-inplace --no-append --partial"
		linked    = fresh + " --link-dest=/b/1"
		inPlace   = " --inplace --no-whole-file"
		asRoot    = " --filter=-xsr·trusted.SGI_ACL_* --filter=-xsr·system.* --filter=-xsr·btrfs.*"
		itemized  = " --out-format=%i·%B·%n"
		precisely = asRoot + " --sparse --modify-window=-1" + itemized
		unsparing = asRoot + " --modify-window=-1" + itemized
		told      = " --no-human-readable --stats"
		end       = " -- SRC/ WORK/./"
	)
	limit := func(l rate.Limit) Options { return Options{Limit: l} }
	for _, test := range []struct {
		o    Options
		work tree.Work
		want string
	}{
		{Options{}, tree.Work{}, standard + stay + fresh + precisely + told + end},
		{Options{}, tree.Work{LinkDest: "/b/1"}, standard + stay + linked + precisely + told + end},
		{Options{}, tree.Work{InPlace: true}, standard + stay + inPlace + unsparing + told + end},
		{Options{}, tree.Work{InPlace: true, Subvolume: true}, standard + stay + inPlace + strings.ReplaceAll(unsparing, " --filter=-xsr·btrfs.*", "") + told + end},
		{Options{}, tree.Work{Checksum: true}, standard + stay + fresh + " --checksum" + precisely + told + end},
		{Options{Progress: progress.Silent()}, tree.Work{}, standard + stay + fresh + precisely + told + " --info=progress2" + end},
		{Options{Filters: []string{"--include=a", "--exclude=*"}}, tree.Work{}, standard + stay + " --include=a --exclude=*" + fresh + precisely + told + end},
		// the user's options cannot undo what older backups rest on
		{Options{Rsync: []string{"-rl", "--inplace", "--append"}}, tree.Work{LinkDest: "/b/1"}, "-rl --inplace --append" + linked + told + end},
		{Options{Rsync: []string{"-rlW"}, Filters: []string{"--exclude=x"}}, tree.Work{InPlace: true}, "-rlW --exclude=x" + inPlace + told + end},
		{Options{Rsync: []string{}}, tree.Work{}, fresh[1:] + told + end},
		{limit(1), tree.Work{}, standard + stay + fresh + precisely + " --bwlimit=1" + told + end},
		{limit(1500), tree.Work{}, standard + stay + fresh + precisely + " --bwlimit=1" + told + end},
		{limit(10 << 20), tree.Work{}, standard + stay + fresh + precisely + " --bwlimit=10240" + told + end},
	} {
		s := sourceOf(t, SourceOptions{}, "a")
		f := folderFor(t, s, test.o)
		test.work.Path, test.work.Nanoseconds = t.TempDir(), true
		f.host = prepared{here(), test.work}
		t.Run("", func(t *testing.T) {
			runs := spied(t)
			_, _ = backUp(t.Context(), f, "a") // rsync does not like every mixture
			want := strings.NewReplacer("SRC", s.path, "WORK", test.work.Path).Replace(test.want)
			if got := strings.Join(blanksAsDots(runs()[0]), " "); got != want {
				t.Errorf("for %+v, %+v rsync gets\n%s\nand not\n%s", test.o, test.work, got, want)
			}
		})
	}
}

func blanksAsDots(args []string) []string {
	var all []string
	for _, a := range args {
		all = append(all, strings.ReplaceAll(a, " ", "·"))
	}
	return all
}

func TestOnlyTheRootDirectoryIsCopiedWithoutTemporaryFiles(t *testing.T) {
	t.Parallel()
	excludes := func(s *Source, o Options) []string {
		return slices.DeleteFunc(o.arguments(s, nil, nil), func(arg string) bool { return !strings.HasPrefix(arg, "--exclude=") })
	}
	root := NewSource(here(), "/", SourceOptions{})
	got := strings.Join(excludes(root, Options{Filters: []string{"--exclude=mine"}}), " ")
	const want = "--exclude=mine --exclude=/dev/* --exclude=/proc/* --exclude=/sys/* --exclude=/run/* --exclude=/tmp/* " +
		"--exclude=/var/tmp/* --exclude=/mnt/* --exclude=/media/* --exclude=/lost+found"
	if got != want {
		t.Errorf("got %s", got)
	}
	for _, path := range []string{"/mnt", "/mnt/data", "/home", "/tmp"} {
		if got := excludes(NewSource(here(), path, SourceOptions{}), Options{}); len(got) > 0 {
			t.Errorf("of %s are left out: %v", path, got)
		}
	}
	if got := excludes(NewModule("rsync://nas/m", SourceOptions{}), Options{}); len(got) > 0 {
		t.Errorf("of a module are left out: %v", got)
	}
	if got := excludes(root, Options{Rsync: []string{"-a"}}); len(got) > 0 {
		t.Errorf("with options of the user are left out: %v", got)
	}
}

func TestVariablesOfRsyncDoNotChangeWhatIsCopiedWhere(t *testing.T) {
	dir := rsyncIs(t, `env >"$dir/env"; exec "$real" "$@"`)
	t.Setenv("RSYNC_PARTIAL_DIR", "/somewhere")
	s := sourceOf(t, SourceOptions{}, "a")
	mustBackUp(t, folderFor(t, s, Options{}), "a")
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	check(t, err)
	for _, want := range []string{"RSYNC_PARTIAL_DIR=\n", "RSYNC_PASSWORD=\n", "LC_ALL=C\n"} {
		if !strings.Contains("\n"+string(env), "\n"+want) {
			t.Errorf("%q is not in the environment", want)
		}
	}
}

func TestAliasesOfTheUserDoNotChangeWhatIsCopied(t *testing.T) {
	home := t.TempDir()
	check(t, os.WriteFile(filepath.Join(home, ".popt"), []byte("rsync alias --delete --delete --exclude=*\n"), 0o644))
	t.Setenv("HOME", home)
	s := sourceOf(t, SourceOptions{}, "a")
	if plain := btrfstest.Run(t, "rsync", "-r", "--delete", "--list-only", s.path+"/"); strings.Contains(plain, " a\n") {
		t.Fatalf("the alias has no effect: %s", plain)
	}
	f := folderFor(t, s, Options{})
	mustBackUp(t, f, "20260101-000000")
	if !strings.Contains(btrfstest.Run(t, "ls", filepath.Join(f.path, "20260101-000000")), "a") {
		t.Error("the source was not copied")
	}
}

func TestWhatTheOptionsOfTheUserLeaveOutIsNamed(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{MultiFS: true}, "file")
	for _, name := range []string{"1", "2", "3", "new\nline"} {
		check(t, os.Symlink("file", filepath.Join(s.path, name)))
	}
	for options, says := range map[string]string{"-rt": "links and special files are not copied", "-rlt": ""} {
		var told journal
		f := folderFor(t, s, Options{Rsync: []string{options}, Log: told.log()})
		mustBackUp(t, f, "a")
		if text := told.String(); says != "" && !strings.Contains(text, says) || strings.Contains(text, "not copied") != (says != "") {
			t.Errorf("%s: %s", options, text)
		}
	}
}

func TestSkippedDirectoriesAreThoseOfThatNameOnly(t *testing.T) {
	t.Parallel()
	hostile := []string{"a*b", "c[d]", "e?", `f\g`, `h\*`, "+ plus", "- minus", "!", "new\nline", " blank", "#", ";", "\xff"}
	near := []string{"aXb", "cd", "eX", "fg", `hX`, "plus", "minus"}
	var files, filters []string
	for _, name := range slices.Concat(hostile, near) {
		files = append(files, "deep/"+name+"/file", name+"/file")
	}
	for _, name := range hostile {
		files = append(files, "plain/"+name) // is no directory
		filters = append(filters, options.SkipDir(name))
	}
	s := sourceOf(t, SourceOptions{}, files...)
	f := folderFor(t, s, Options{Filters: append(filters, options.Skip("*.tmp"), options.Skip("!"))})
	write(t, s.path, "x.tmp", "deep/y.tmp")
	mustBackUp(t, f, "a")
	has := func(path string) bool {
		_, err := os.Lstat(filepath.Join(f.path, "a", path))
		return err == nil
	}
	for _, name := range hostile {
		if has(name) || has("deep/"+name) {
			t.Errorf("the directory %q was copied", name)
		}
		if !has("plain/"+name) && name != "!" {
			t.Errorf("the file %q was not copied", name)
		}
	}
	for _, name := range near {
		if !has(name+"/file") || !has("deep/"+name+"/file") {
			t.Errorf("the directory %q was not copied", name)
		}
	}
	if has("x.tmp") || has("deep/y.tmp") || has("plain/!") {
		t.Error("what matches a pattern was copied")
	}
}

func TestSourcesAndFoldersHaveAnyName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"-dash", "host:dir", "~", "a*b[c]?", `back\slash`, "new\nline", "$(id) `id` ;", "\xff\x1b[31m", "::", "rsync:", `\#007`} {
		base := t.TempDir()
		write(t, base, name+"/file", strings.NewReplacer("*", "X", "[c]", "c", "?", "Y").Replace(name)+"/file")
		s := NewSource(here(), filepath.Join(base, name), SourceOptions{Log: quiet()})
		f := NewDestination(here(), filepath.Join(base, "to", name), s, Options{Log: quiet(), MaxDelete: 100})
		mustBackUp(t, f, "a")
		mustBackUp(t, f, "b")
		mustEqual(t, s.path, filepath.Join(f.path, "b"))
	}
}

func TestADryRunCountsAndWritesNothing(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "same", "changed", "gone", "also/gone")
	diary := &journal{}
	f := folderFor(t, s, Options{})
	f.Log = diary.log()
	parent := filepath.Dir(f.path)
	for _, step := range []struct {
		before func()
		want   string
		bytes  int64
	}{
		{func() { check(t, os.MkdirAll(f.path, 0o755)) }, "would copy 4 files with 24 B, and delete 0", 24},
		{func() {
			mustBackUp(t, f, "a")
			write(t, s.path, "new one")
			check(t, os.WriteFile(filepath.Join(s.path, "changed"), []byte("longer than before"), 0o644))
			check(t, os.RemoveAll(filepath.Join(s.path, "gone")))
			check(t, os.RemoveAll(filepath.Join(s.path, "also/gone")))
		}, "would copy 2 files with 25 B, and delete 2", 25},
	} {
		step.before()
		before := history(t, parent)
		copied, err := rehearsal(t.Context(), f, "b")
		check(t, err)
		if !strings.Contains(diary.String(), step.want) || copied.Bytes != step.bytes {
			t.Errorf("%d bytes, and the log tells: %s", copied.Bytes, diary)
		}
		if after := history(t, parent); after != before {
			t.Errorf("what was\n%s\nis\n%s", before, after)
		}
	}
}

func TestTheEngineMakesAndPrunesBackups(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a")
	f := folderFor(t, s, Options{})
	for _, name := range []string{"1", "2", "3"} {
		mustBackUp(t, f, name)
	}
	check(t, openOrCreate(t.Context(), f))
	defer f.Close()
	release, err := f.Lock(t.Context(), func(*lock.HeldError) {})
	check(t, err)
	defer release()
	check(t, f.Link(t.Context(), "latest", "3"))
	deleted, err := f.Delete(t.Context(), []string{"1", "2"})
	check(t, err)
	if !slices.Equal(deleted, []string{"1", "2"}) {
		t.Errorf("deleted are %v", deleted)
	}
	found, err := f.List(t.Context())
	check(t, err)
	if len(found.Recorded) != 1 || found.Recorded[0].Name != "3" || found.Recorded[0].OfAnother != "" || f.recorded("3").Bytes != 1 {
		t.Errorf("there are %+v", found.Recorded)
	}
}
