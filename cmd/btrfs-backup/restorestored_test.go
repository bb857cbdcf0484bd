package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// restores runs a restore from the store: of the source, or of what is below it there.
func (r *offsiteRig) restores(environ []string, below string, args ...string) result {
	r.Helper()
	all := []string{"restore", r.place + "/" + r.sourceName() + below}
	if r.access != "" {
		all = append(all, "--credentials", r.access)
	}
	cmd := prepare(nil, append(all, args...)...)
	cmd.Env = slices.Concat(r.environ(), environ)
	return invokeCmd(r, cmd)
}

// fresh gives what a machine has that never made a backup.
func fresh(t testing.TB) []string { return []string{"XDG_STATE_HOME=" + t.TempDir()} }

// isBack fails the test unless a target is a writable snapshot of a backup, which is all that came.
func (r *offsiteRig) isBack(target, name string) {
	r.Helper()
	folder := filepath.Join(target, "snapshot")
	isCopy(r, r.source, folder, name)
	copied, err := btrfs.Info(btrfstest.Open(r, filepath.Join(folder, name)))
	btrfstest.Check(r, err)
	if s, err := btrfs.Info(btrfstest.Open(r, target)); err != nil || s.ReadOnly || s.ParentUUID != copied.UUID {
		r.Errorf("%s: %+v, %v", target, s, err)
	}
	if all := slices.DeleteFunc(names(r, folder), func(n string) bool { return !finalName.MatchString(n) }); len(all) != 1 {
		r.Errorf("beside it there is %q", all)
	}
}

// grow makes so many backups, of which each builds on another.
func (r *offsiteRig) grow(backups int) (names []string) {
	r.Helper()
	btrfstest.Populate(r, r.source, 1)
	for n := range backups {
		if n > 0 {
			btrfstest.Change(r, r.source, int64(n))
		}
		r.write("data", 2*smallPart+smallPart/2)
		r.saves("--keep-backups", "24h14d")
	}
	return r.snapshots()
}

func TestWhatCameBackFromAStoreGoesOnThereAsOneHistory(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		newest, length := r.grow(3)[2], 3
		for _, machine := range []struct {
			name    string
			environ []string
		}{{"here", nil}, {"elsewhere", fresh(r)}} {
			target := filepath.Join(btrfstest.New(r, rigSize).Dir, machine.name)
			dry := expect(r, exitDone, r.restores(machine.environ, "", "--dry-run", "--egress-price", "1000", target), fmt.Sprintf("of %d backups", length), "that costs ")
			if exists(target) || !strings.Contains(dry.stdout, "would be received") {
				r.Error(dry.stdout)
			}
			expect(r, exitDone, r.restores(machine.environ, "", "-i", r.key, target))
			if machine.environ == nil {
				r.isBack(target, newest)
			}
			write(r, filepath.Join(target, "changed"), machine.name)
			cmd := r.command(machine.environ, "--json", "--keep-backups", "24h14d")
			cmd.Args[slices.Index(cmd.Args, r.source)] = target
			sent := sentTo(r, expect(r, exitDone, invokeCmd(r, cmd)), r.place)
			if len(sent) != 1 || sent[0].Parent != newest {
				r.Fatalf("%s: sent %+v", machine.name, sent)
			}
			newest, length = sent[0].Snapshot, length+1
		}
		if sources, err := r.open().Sources(r.Context()); err != nil || len(sources) != 1 {
			r.Errorf("%q, %v", sources, err)
		}
		expect(r, exitDone, r.restores(nil, "/"+r.snapshots()[1], "-i", r.key, "--in-place", r.source), "the old one is kept as home.before-")
		r.write("more", 100)
		sent := sentTo(r, r.saves("--json"), r.place)
		if len(sent) != 1 || sent[0].Parent == "" {
			r.Errorf("in place: sent %+v", sent)
		}
	})
}

func TestAnOlderBackupComesBackFromAStoreByNameOrDate(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	taken := r.grow(2)
	for name, args := range map[string][]string{"name": {"/" + taken[0]}, "date": {"", "--at", "2026-01-01 01:30"}} {
		target := filepath.Join(smallFS(t).Dir, name)
		expect(t, exitDone, r.restores(nil, args[0], append(args[1:], "-i", r.key, target)...))
		r.isBack(target, taken[0])
	}
	dir := smallFS(t).Dir
	target := filepath.Join(dir, "latest")
	cmd := prepare(nil, "restore", "-i", r.key, r.place+"/.latest", target) // of the only source
	cmd.Env = r.environ()
	expect(t, exitDone, invokeCmd(t, cmd))
	r.isBack(target, taken[1])
	chain := makeDir(t, filepath.Join(smallFS(t).Dir, "chain"))
	expect(t, exitDone, r.restores(nil, "", "-i", r.key, "--keep-chain", chain))
	for _, name := range taken {
		isCopy(t, r.source, chain, name)
	}

	nowhere := filepath.Join(dir, "nowhere")
	expect(t, exitFailed, r.restores(nil, "/20250101-000000", "-i", r.key, nowhere), "has no backup 20250101-000000", taken[0]+" to "+taken[1])
	expect(t, exitFailed, r.restores(nil, "", "-i", r.key, "--at", "2025-01-01", nowhere), "has no backup as old as")
	expect(t, exitFailed, r.restores(nil, "", nowhere), "no secret key was given", "-i FILE; -i - lets you type")
	other := filepath.Join(t.TempDir(), "key")
	key, err := seal.NewKey()
	btrfstest.Check(t, err)
	btrfstest.Check(t, os.WriteFile(other, []byte(key.Secret), 0o600))
	expect(t, exitFailed, r.restores(nil, "", "-i", other, nowhere), "encrypted for other keys")
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("there is %q", left)
	}
}

func TestWhatAThiefSignedIsNotRestored(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	taken := r.grow(2)
	var thief offsiteRig = *r
	thief.state, thief.past = t.TempDir(), &past{runs: 10, changes: 100}
	thief.write("file of the thief", 100)
	thief.saves("--snapshot-folder", "stolen") // another history, under the same name
	known := filepath.Join(smallFS(t).Dir, "known")
	expect(t, exitDone, r.restores(nil, "", "-i", r.key, known), "what other keys signed is left out")
	r.isBack(known, taken[1])
	unknown := filepath.Join(smallFS(t).Dir, "unknown")
	machine := fresh(t)
	expect(t, exitFailed, r.restores(machine, "", "-i", r.key, unknown), "several keys", "--signer KEY")
	if exists(unknown) {
		t.Error("it is restored")
	}
	signer, err := seal.ReadSigner(filepath.Join(r.state, "btrfs-backup", "signing.key"))
	btrfstest.Check(t, err)
	expect(t, exitDone, r.restores(machine, "", "-i", r.key, "--signer", signer.PublicKey(), unknown))
	r.isBack(unknown, taken[1])
	again := filepath.Join(smallFS(t).Dir, "again")
	expect(t, exitDone, r.restores(machine, "", "-i", r.key, again)) // whose it is is known now
	r.isBack(again, taken[1])
}

func TestADamagedPartIsToldAndLeavesNothing(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		taken := r.grow(2)
		c := r.catalog()
		part := filepath.Join(r.folder, c.Backups[1].Dir, "data.000001")
		whole, err := os.ReadFile(part)
		btrfstest.Check(r, err)
		for name, damage := range map[string]func() error{
			"flipped":   func() error { flip(r, part); return nil },
			"truncated": func() error { return os.Truncate(part, int64(len(whole)-1)) },
			"missing":   func() error { return os.Remove(part) },
		} {
			btrfstest.Check(r, damage())
			target := filepath.Join(smallFS(r).Dir, name)
			expect(r, exitFailed, r.restores(nil, "", "-i", r.key, target), taken[1], "data.000001", "the newest one of which all is there is "+taken[0])
			if exists(target) {
				r.Errorf("%s: there is a target", name)
			}
			btrfstest.Check(r, os.WriteFile(part, whole, 0o600))
		}
		for _, unneeded := range []string{"manifest", "names.000000"} { // which the index has, and which single files need
			btrfstest.Check(r, os.Remove(filepath.Join(r.folder, c.Backups[1].Dir, unneeded)))
		}
		newer := filepath.Join(smallFS(r).Dir, "newer")
		expect(r, exitDone, r.restores(nil, "", "-i", r.key, newer))
		r.isBack(newer, taken[1])
		flip(r, part)
		target := filepath.Join(smallFS(r).Dir, "older")
		expect(r, exitDone, r.restores(nil, "/"+taken[0], "-i", r.key, target))
		r.isBack(target, taken[0])
	})
}

func TestARestoreFromAStoreGoesOnWithTheBackupsThatItLacks(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	taken := r.grow(3)
	target := filepath.Join(btrfstest.New(t, rigSize).Dir, "home")
	last := r.catalog().Backups[2]
	part := filepath.Join(r.folder, last.Dir, "data.000001")
	flip(t, part)
	expect(t, exitFailed, r.restores(nil, "", "-i", r.key, target))
	flip(t, part)
	fetched := func(args ...string) (f struct{ Fetched struct{ Backups int } }) {
		t.Helper()
		btrfstest.Check(t, json.Unmarshal([]byte(expect(t, exitDone, r.restores(nil, "", append(args, "--json", target)...)).stdout), &f))
		return f
	}
	if f := fetched("--dry-run"); f.Fetched.Backups != 1 {
		t.Errorf("%+v", f)
	}
	fetched("-i", r.key)
	r.isBack(target, taken[2])
	if f := fetched("--dry-run", "--in-place"); f.Fetched.Backups != 0 {
		t.Errorf("%+v", f)
	}
}

func TestAStoreOfSeveralSourcesNeedsTheName(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.saves()
	first := r.sourceName()
	r.source = filepath.Join(r.fs.Dir, "work")
	btrfstest.Run(t, "btrfs", "subvolume", "create", r.source)
	r.saves()
	cmd := prepare(nil, "restore", "-i", r.key, r.place, filepath.Join(r.fs.Dir, "new"))
	cmd.Env = r.environ()
	expect(t, exitFailed, invokeCmd(t, cmd), "several sources", first, r.sourceName())
}

func TestARestoreThatCannotFitFetchesNothing(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.write("data", 150<<20)
	r.saves("--part-size", "16M")
	target := filepath.Join(smallFS(t).Dir, "home")
	part := filepath.Join(r.folder, r.catalog().Backups[0].Dir, "data.000000")
	flip(t, part) // which nobody notices
	expect(t, exitFailed, r.restores(nil, "", "-i", r.key, target), "are to come", "are free", "choose another target")
}

func TestSingleFilesComeBackFromAStoreWithTheFewPartsTheyNeed(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		docs := makeDir(r, filepath.Join(r.source, "docs"))
		write(r, filepath.Join(docs, "a"), "first")
		for n := range 4 {
			r.write(fmt.Sprint("large", n), 2*smallPart)
		}
		btrfstest.Run(r, "cp", "--reflink=always", filepath.Join(r.source, "large2"), filepath.Join(docs, "clone"))
		r.saves("--keep-backups", "24h14d")
		btrfstest.Check(r, os.Rename(docs, filepath.Join(r.source, "papers")))
		btrfstest.Check(r, os.Link(filepath.Join(r.source, "papers", "a"), filepath.Join(r.source, "name")))
		btrfstest.Run(r, "cp", "--reflink=always", filepath.Join(r.source, "large3"), filepath.Join(r.source, "papers", "later"))
		r.saves("--keep-backups", "24h14d")
		write(r, filepath.Join(r.source, "name"), "third")
		r.saves("--keep-backups", "24h14d")
		taken := r.snapshots()
		to := smallFS(r).Dir
		few := expect(r, exitDone, r.restores(nil, "", "-i", r.key, "--path", "papers/a", "--path", "name", "--to", to))
		var some, all int
		if _, err := fmt.Sscanf(few.stdout, "to be fetched: %d parts of %d parts", &some, &all); err != nil || some > 3 || all < 10 {
			r.Errorf("%d of %d, %v: %s", some, all, err, few.stdout)
		}
		expect(r, exitDone, r.restores(nil, "", "-i", r.key, "--path", filepath.Join(r.source, "papers"), "--to", to)) // as it was named
		snapshot := filepath.Join(r.source, "snapshot", taken[2])
		for from, at := range map[string]string{"papers/a": "a", "name": "name", "papers": "papers"} {
			btrfstest.Equal(r, filepath.Join(snapshot, from), filepath.Join(to, at))
		}
		want(r, "what there is", names(r, to), "a", "name", "papers")
		dry := expect(r, exitDone, r.restores(nil, "/"+taken[0], "-i", r.key, "--dry-run", "--path", "docs", "--to", to))
		if !strings.Contains(dry.stdout, "to be fetched") || exists(filepath.Join(to, "docs")) {
			r.Error(dry.stdout)
		}
		expect(r, exitFailed, r.restores(nil, "/"+taken[0], "-i", r.key, "--path", "papers", "--to", to), "papers is not in")
		btrfstest.Check(r, os.Remove(filepath.Join(r.source, "name")))
		name := filepath.Join(r.source, "name")
		expect(r, exitFailed, r.restores(nil, "", "-i", r.key, "--keep-chain", name), "name is the path of something in")
		dry = expect(r, exitDone, r.restores(nil, "", "-i", r.key, "--dry-run", name), "to be fetched: ")
		if exists(name) || !strings.Contains(dry.stdout, " parts of ") {
			r.Errorf("a rehearsal of a file: %s", dry.stdout)
		}
		expect(r, exitFailed, r.restores(nil, "", "-i", r.key, filepath.Join(r.source, "papers", "none")), "papers/none is not in", "--at DATE")
		expect(r, exitDone, r.restores(nil, "", "-i", r.key, "--scratch", to, name))
		btrfstest.Equal(r, filepath.Join(snapshot, "name"), name)
		write(r, name, "another")
		expect(r, exitDone, r.restores(nil, "", "-i", r.key, "--scratch", to, name)) // beside it
		if beside, _ := filepath.Glob(name + ".*"); len(beside) != 1 {
			r.Errorf("beside what is there: %q", beside)
		}
		btrfstest.Check(r, os.RemoveAll(filepath.Join(r.source, "papers")))
		expect(r, exitDone, r.restores(nil, "", "-i", r.key, "--path", "papers", "--scratch", to))
		btrfstest.Equal(r, filepath.Join(snapshot, "papers"), filepath.Join(r.source, "papers"))
		want(r, "what there is", names(r, to), "a", "name", "papers")
	})
}

// TestFilesComeBackFromAStoreAsTheyComeBackWithAllElse has trees that change at random: names, links, clones, attributes.
func TestFilesComeBackFromAStoreAsTheyComeBackWithAllElse(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	btrfstest.Populate(t, r.source, 7)
	for generation := range int64(4) {
		if generation > 0 {
			btrfstest.Change(t, r.source, 7+generation)
		}
		r.saves("--keep-backups", "24h14d")
	}
	for _, name := range r.snapshots() {
		snapshot := filepath.Join(r.source, "snapshot", name)
		to := smallFS(t).Dir
		args := []string{"-i", r.key, "--to", to}
		var chosen []string
		for _, at := range names(t, snapshot) {
			if at != "snapshot" {
				args, chosen = append(args, "--path", at), append(chosen, at)
			}
		}
		if len(chosen) < 3 {
			t.Fatalf("%q", chosen)
		}
		half := slices.Clone(args[:4])
		for i := 4; i < len(args); i += 4 { // every second one
			half = append(half, args[i:i+2]...)
		}
		expect(t, exitDone, r.restores(nil, "/"+name, half...))
		got := names(t, to)
		for _, at := range got {
			btrfstest.Equal(t, filepath.Join(snapshot, at), filepath.Join(to, at))
		}
		if len(got) != (len(chosen)+1)/2 {
			t.Errorf("%s: %q of %q", name, got, chosen)
		}
	}
}

func TestWhatChattrSetComesBackFromAStore(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	dir := makeDir(t, filepath.Join(r.source, "dir"))
	btrfstest.Run(t, "chattr", "+A", dir)
	r.saves("--keep-backups", "24h14d")
	btrfstest.Check(t, os.Rename(dir, filepath.Join(r.source, "moved")))
	other := makeDir(t, filepath.Join(r.source, "other"))
	btrfstest.Run(t, "chattr", "+d", other)
	r.saves("--keep-backups", "24h14d")
	has := func(target string) {
		t.Helper()
		for at, flag := range map[string]string{"moved": "A", "other": "d"} {
			if said := btrfstest.Run(t, "lsattr", "-d", filepath.Join(target, at)); !strings.Contains(strings.Fields(string(said))[0], flag) {
				t.Errorf("%s", said)
			}
		}
	}
	target := filepath.Join(smallFS(t).Dir, "home")
	expect(t, exitDone, r.restores(nil, "", "-i", r.key, target))
	has(target)
	deleteSubvolume(t, filepath.Join(r.source, "snapshot", r.snapshots()[1])) // an increment to a snapshot, and not to a backup, comes
	btrfstest.Run(t, "chattr", "-A", filepath.Join(r.source, "moved"))
	expect(t, exitDone, r.restores(nil, "", "-i", r.key, "--in-place", r.source))
	has(r.source)
}

func TestARestoreOutlivesConnectionsToItsStore(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	taken := r.grow(3)
	target := filepath.Join(btrfstest.New(t, rigSize).Dir, "home")
	last := r.catalog().Backups[2].Dir
	isPartOf := func(dir string) func(*http.Request) bool {
		return func(req *http.Request) bool {
			return objecttest.Kind(req) == "GET" && strings.Contains(req.URL.Path, dir+"data.")
		}
	}
	r.server.Fail(objecttest.Fault{Match: isPartOf(last), Status: http.StatusForbidden, Code: "AccessDenied"})
	expect(t, exitFailed, r.restores(nil, "", "-i", r.key, target), taken[2])
	if exists(target) {
		t.Error("there is a target")
	}
	r.server.Heal()
	r.server.Counts()
	r.server.Fail(objecttest.Fault{Match: isPartOf(last), Short: 1000, Times: 3})
	expect(t, exitDone, r.restores(nil, "", "-i", r.key, target), "of 1 backup")
	r.isBack(target, taken[2])
	if n := r.server.Counts()["GET"]; n < 6 || n > 12 { // three parts, three of them twice, and what tells of them
		t.Errorf("%d objects were read", n)
	}
}

func TestAStoreOnAnotherMachineGivesBackThereAndHere(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	taken := r.grow(2)
	far := newRemote(t, sshtest.Options{})
	r.place = "store+" + far.place(r.folder)
	here, there := filepath.Join(smallFS(t).Dir, "home"), filepath.Join(smallFS(t).Dir, "home")
	for target, place := range map[string]string{here: here, there: far.place(there)} {
		expect(t, exitDone, r.restores(nil, "", append(far.options, "-i", r.key, place)...))
		r.isBack(target, taken[1])
	}
	to := t.TempDir()
	expect(t, exitDone, r.restores(nil, "", append(far.options, "-i", r.key, "--path", "data", "--to", to, "--scratch", filepath.Dir(here))...))
	btrfstest.Equal(t, filepath.Join(r.source, "snapshot", taken[1], "data"), filepath.Join(to, "data"))
}
