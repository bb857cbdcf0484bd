package heal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"

	"golang.org/x/sys/unix"
)

// rewrite lets the damage of backup 2 be healed by what a source has.
func (w *ward) rewrite(source string) (heal.Rewritten, error) {
	w.t.Helper()
	var pieces []heal.Piece
	for _, d := range w.find("2") {
		d.Compressed = ""
		pieces = append(pieces, w.good(source, d))
	}
	return heal.In(w.folder).RewriteExtents(w.t.Context(), "2", pieces)
}

// kept gives what of the backups must not change.
func kept(t testing.TB, w *ward) string {
	t.Helper()
	var b strings.Builder
	listing, err := btrfs.List(w.folder)
	check(t, err)
	slices.SortFunc(listing.InDirectory, func(a, b btrfs.Subvolume) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range listing.InDirectory {
		fmt.Fprintln(&b, s.Name, s.ReceivedUUID, s.SentIn, s.ReadOnly, s.Received(), s.AlteredIn)
	}
	for i := 1; i <= len(listing.InDirectory); i++ {
		var st unix.Stat_t
		check(t, unix.Stat(w.path(i), &st))
		value := make([]byte, 64)
		n, _ := unix.Getxattr(w.path(i), "security.capability", value)
		fmt.Fprintln(&b, i, st.Mode, st.Uid, st.Size, st.Mtim, st.Atim, st.Ino, value[:max(n, 0)])
	}
	return b.String()
}

// partlyShared makes a ward in which backup 3 has the ends of the extents of the others, and something else between them.
func partlyShared(t testing.TB, data []byte, options ...string) (w *ward, source string) {
	t.Helper()
	w, source = outside(t, btrfstest.New(t, testSize, options...), data, options...)
	for i := range 2 {
		file, err := os.OpenFile(w.Dir+"/source/dir/file", os.O_RDWR, 0)
		check(t, err)
		_, err = file.WriteAt(data[:8192], int64(64<<10+i*150<<10))
		check(t, errors.Join(err, file.Close()))
	}
	run(t, "setcap", "cap_net_raw=ep", w.Dir+"/source/dir/file")
	w.backUp(4)
	return w, source
}

func TestAnExtentIsRewrittenInEveryBackupThatSharesIt(t *testing.T) {
	btrfstest.RequireRoot(t)
	for name, data := range map[string][]byte{"none": random(fileSize), "zstd": words(fileSize)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, source := partlyShared(t, data, "compress-force="+name)
			changed, err := os.ReadFile(w.path(4))
			check(t, err)
			for _, offset := range []int64{0, 128 << 10, fileSize - 1} {
				btrfstest.Damage(t, w.path(2), offset)
			}
			before := kept(t, w)
			done, err := w.rewrite(source)
			if err != nil || len(done.Backups) != 4 || len(done.Left) != 0 {
				t.Errorf("rewritten: %+v, %v", done, err)
			}
			w.wantWhole()
			if got, err := os.ReadFile(w.path(4)); err != nil || string(got) != string(changed) {
				t.Errorf("backup 4 is not whole: %v", err)
			}
			if after := kept(t, w); after != before {
				t.Errorf("changed:\n%sbefore:\n%s", after, before)
			}
			w.backUp(5)
			btrfstest.Equal(t, w.Dir+"/s5", w.Dir+"/backups/5", btrfstest.RootTime)
		})
	}
}

func TestOnlyBackupsAreReplaced(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	w, source := outside(t, btrfstest.New(t, testSize), random(fileSize))
	for _, name := range []string{"copy", "altered"} {
		run(t, "btrfs", "subvolume", "snapshot", w.Dir+"/backups/2", w.Dir+"/"+name)
	}
	check(t, os.WriteFile(w.Dir+"/cloned", nil, 0o600))
	run(t, "cp", "--reflink=always", w.path(2), w.Dir+"/cloned")
	check(t, btrfs.SetReceivedAs(btrfstest.Open(t, w.Dir+"/altered"), btrfstest.Open(t, w.Dir+"/backups/2")))
	run(t, "sync", "-f", w.Dir)
	time.Sleep(20 * time.Millisecond) // more than a tick of the clock that inodes get their times by
	check(t, os.WriteFile(w.Dir+"/altered/small", []byte("different"), 0o600))
	run(t, "sync", "-f", w.Dir)
	check(t, btrfs.SetReadOnly(btrfstest.Open(t, w.Dir), "altered", true))
	run(t, "btrfs", "subvolume", "snapshot", "-r", w.Dir+"/backups/2", w.Dir+"/frozen")
	btrfstest.Damage(t, w.path(2), 0)
	done, err := w.rewrite(source)
	check(t, err)
	want := []string{w.Dir + " it is no backup", w.Dir + "/altered it was changed since it was received",
		w.Dir + "/copy it is no backup", w.Dir + "/frozen it is no backup"}
	var left []string
	for _, l := range done.Left {
		left = append(left, l.Path+" "+l.Why)
	}
	if slices.Sort(left); !slices.Equal(left, want) || len(done.Backups) != 3 {
		t.Errorf("done: %+v", done)
	}
	for i := 1; i <= 3; i++ {
		if got, err := os.ReadFile(w.path(i)); err != nil || string(got) != string(w.data) {
			t.Errorf("backup %d is not whole: %v", i, err)
		}
	}
}

func TestNothingIsRewrittenOfAWrongSource(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	w := newWard(t, btrfstest.New(t, testSize), random(fileSize))
	btrfstest.Damage(t, w.path(2), 5000)
	check(t, os.MkdirAll(w.Dir+"/wrong/dir", 0o755))
	check(t, os.WriteFile(w.Dir+"/wrong/dir/file", random(fileSize), 0o644))
	before := infos(t, w.folder)
	if done, err := w.rewrite(w.Dir + "/wrong"); !errors.Is(err, heal.ErrWrongSource) || len(done.Backups) > 0 {
		t.Errorf("rewritten: %+v, %v", done, err)
	}
	if after := infos(t, w.folder); after != before {
		t.Errorf("after: %s, before: %s", after, before)
	}
}

// Steps are those at which the program is killed: by a panic here, which runs no more of it.
func TestABackupIsAsItWasOrHealedWhereverAKillComes(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Cleanup(func() { failpoint.OnReach(func(string) {}) })
	w, source := outside(t, btrfstest.NewOn(t, 1, testSize, []string{"--data", "dup"}), random(fileSize))
	put := func() error {
		_, err := heal.In(w.folder).PutBlockBack(context.Background(), "2", w.good(source, w.find("2")[0]))
		return err
	}
	rewrite := func() error {
		_, err := w.rewrite(source)
		return err
	}
	steps := make(map[string]bool)
	for _, way := range []func() error{put, rewrite} {
		for killed := 1; ; killed += 1 + killed/8 {
			btrfstest.Damage(t, w.path(2), 64<<10)
			step, err := dieAt(killed, way)
			steps[step] = true
			whole := 0
			for i := 1; i <= 3; i++ {
				s, err := btrfs.InfoAt(w.folder, fmt.Sprint(i))
				if err != nil || !s.ReadOnly || !s.Received() {
					t.Errorf("killed at %q: backup %d is %+v, %v", step, i, s, err)
				}
				btrfstest.DropCaches(t, w.path(i))
				if got, err := os.ReadFile(w.path(i)); err == nil && string(got) == string(w.data) {
					whole++
				} else if err == nil || !errors.Is(err, unix.EIO) {
					t.Errorf("killed at %q: backup %d has other data, %v", step, i, err)
				}
			}
			if step == "" {
				check(t, err)
				break
			}
			if len(w.find("2")) > 0 {
				check(t, rewrite())
			} else if whole < 3 {
				t.Errorf("killed at %q: backup 2 is healed, others are not", step)
			} else {
				check(t, heal.In(w.folder).CleanHealed(context.Background()))
			}
			w.wantWhole()
		}
		if found, err := btrfs.List(w.folder); err != nil || len(found.InDirectory) != 3 {
			t.Errorf("left: %+v, %v", found.InDirectory, err)
		}
	}
	if len(steps) != 8+1 { // and none
		t.Errorf("killed only at %v", steps)
	}
}

// dieAt ends what is done at a step of that number, and gives its name; "" if there are fewer.
func dieAt(n int, do func() error) (step string, err error) {
	failpoint.OnReach(func(reached string) {
		if n--; n == 0 {
			panic(reached)
		}
	})
	defer failpoint.OnReach(func(string) {})
	defer func() {
		if dead := recover(); dead != nil {
			step = dead.(string)
		}
	}()
	return "", do()
}
