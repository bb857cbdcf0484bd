package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"

	"golang.org/x/sys/unix"
)

// A farCopy is a copyRig whose source or destination lies on another machine.
type farCopy struct {
	*copyRig
	far      *remote
	from, to string // as the program names them
}

// onEachWay runs a test for a destination on another machine, by kind, and for a source there.
func onEachWay(t *testing.T, test func(f farCopy)) {
	btrfstest.RequireRoot(t)
	far := newRemote(t, sshtest.Options{})
	onKinds(t, func(t *testing.T, kind string) {
		if kind != "btrfs" { // ext4 comes below, in the other direction
			btrfstest.OnlyInAll(t)
		}
		r := newCopyRig(t, kind)
		test(farCopy{r, far, r.source, far.place(r.destination)})
	})
	t.Run("from ext4", func(t *testing.T) {
		t.Parallel()
		r := newCopyRig(t, "ext4")
		test(farCopy{r, far, far.place(r.source), r.destination})
	})
}

// copies fails the test unless a run makes a backup that equals the source.
func (f farCopy) copies(options ...string) result {
	f.Helper()
	before := len(f.backups())
	r := expect(f, exitDone, invokeCmd(f, f.commandTo(nil, slices.Concat(options, f.far.arguments(f.from, f.to))...)))
	if len(f.backups()) != before+1 {
		f.Fatalf("the backups are %v\n%s", f.backups(), r.stderr)
	}
	f.equal(f.source, f.newest())
	return r
}

func (f farCopy) invoke(args ...string) result {
	f.Helper()
	return invoke(f, nil, slices.Concat(args[:1], f.far.options, args[1:])...)
}

func TestCopiesToAndFromOtherMachinesAreTheSource(t *testing.T) {
	t.Parallel()
	onEachWay(t, func(f farCopy) {
		btrfstest.Populate(f, f.source, 1)
		f.everyByteInNames()
		f.random(1, 20<<20, "large")
		histories := make(map[string]history)
		for generation := range int64(3) {
			if generation > 0 {
				btrfstest.Change(f, f.source, generation)
			}
			sent := sentTo(f, f.copies("--json"), f.to)
			if generation > 0 && (sent[0].Parent == "" || sent[0].Wire == 0 || sent[0].Wire > 10<<20) {
				f.Errorf("not incremental: %+v", sent)
			}
			histories[f.newest()] = historyOf(f, f.newest())
		}
		for backup, h := range histories {
			h.unchanged(f, backup)
		}
	})
}

func TestDirectoriesAreCopiedToMachinesWithoutTheProgram(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	home := t.TempDir()
	far := newRemote(t, sshtest.Options{Env: []string{"PATH=/usr/bin:/bin", "HOME=" + home}})
	f := farCopy{r, far, r.source, far.place(r.destination)}
	f.write("file", "content")
	f.random(1, 1<<20, "large")
	if first := f.copies(); !strings.Contains(first.stderr, "using the one brought to "+home+"/.cache/btrfs-backup, ") {
		t.Errorf("it is not told:\n%s", first.stderr)
	}
	f.write("file", "other content")
	f.copies()
	expect(f, exitDone, f.invoke("verify", far.place(f.destination+"/.latest")), "no differences")
	expect(f, exitDone, f.invoke("list", f.to), f.backups()...)
	expect(f, exitFailed, f.invoke("list", "--agent", "installed", f.to), "not found", "hint: install btrfs-backup on ", "--agent auto")
}

func TestBackupsOnAnotherMachineAreVerifiedAndListed(t *testing.T) {
	t.Parallel()
	onEachWay(t, func(f farCopy) {
		f.write("file", "content")
		f.copies()
		f.write("file", "other content")
		f.copies()
		at := func(path ...string) string { return filepath.Join(append([]string{f.destination}, path...)...) }
		if strings.HasPrefix(f.to, "ssh:") {
			at = func(path ...string) string {
				return f.far.place(filepath.Join(append([]string{f.destination}, path...)...))
			}
		}
		expect(f, exitDone, f.invoke("verify", at(".latest"), at(f.backups()[0])), "no differences")
		var listed []inventory.Entry
		btrfstest.Check(f, json.Unmarshal([]byte(expect(f, exitDone, f.invoke("list", "--json", at())).stdout), &listed))
		var names []string
		for _, l := range listed {
			names = append(names, l.Name)
			if l.Files != 1 || !l.Complete || !strings.Contains(l.Source, f.source) {
				f.Errorf("listed is %+v", l)
			}
		}
		if !slices.Equal(names, f.backups()) {
			f.Errorf("listed are %v instead of %v", names, f.backups())
		}
		f.rot(f.newest(), "file")
		expect(f, exitDiffer, f.invoke("verify", at(".latest")), "content")
		expect(f, exitDone, f.invoke("verify", "--fast", at(".latest")))
	})
}

func TestDirectoriesOfAnyNameAreCopiedToAndFromOtherMachines(t *testing.T) {
	t.Parallel()
	onEachWay(t, func(f farCopy) {
		const hostile = "-a b'\"`$(touch x)\\*?[c]\n~;&|<>%20#:\xff\x1b"
		source, destination := filepath.Join(f.source, hostile), filepath.Join(f.destination, hostile)
		if f.from == f.source {
			f.from, f.to = source, f.far.place(destination)
		} else {
			f.from, f.to = f.far.place(source), destination
		}
		f.source, f.destination = source, destination
		btrfstest.Check(f, os.MkdirAll(source, 0o755))
		for i := range 2 {
			f.write("file "+hostile, strings.Repeat("content", i+1))
			f.copies()
		}
		if got := names(f, filepath.Dir(destination)); len(got) > 1 || len(f.backups()) != 2 {
			f.Errorf("beside the folder are %q, in it %v", got, f.backups())
		}
	})
}

func TestFilesAreReadForTheManifestWhileOthersAreCopied(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	far := newRemote(t, sshtest.Options{})
	f := farCopy{r, far, r.source, far.place(r.destination)}
	for i := range 12 {
		f.random(byte(i), 100<<10, fmt.Sprint(i))
	}
	done := f.copies("--rate-limit", "150K", "-v", "debug") // for 8 seconds
	if !regexp.MustCompile(`; \d+ (KiB|B) were read in the end`).MatchString(done.stderr) {
		t.Errorf("not less than 1 MiB was read in the end\n%s", done.stderr)
	}
}

func TestSparseFilesStaySparseInEveryBackup(t *testing.T) {
	t.Parallel()
	onEachWay(t, func(f farCopy) {
		const size = 16 << 20
		for _, name := range []string{"first", "second"} {
			full := filepath.Join(f.source, name)
			f.write(name, "data")
			btrfstest.Check(f, os.Truncate(full, size))
			f.copies()
			var st unix.Stat_t
			btrfstest.Check(f, unix.Stat(filepath.Join(f.newest(), name), &st))
			if st.Size != size || st.Blocks*512 > size/10 {
				f.Errorf("the %s of %d bytes takes %d", name, st.Size, st.Blocks*512)
			}
		}
	})
}
