package btrfs_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"

	"golang.org/x/sys/unix"
)

// harmless is what leaves everything that a user sees of a subvolume as it is. It is called on a writable one.
var harmless = map[string]func(t testing.TB, dir string){
	"nothing": func(testing.TB, string) {},
	"reading": func(t testing.TB, dir string) { btrfstest.Run(t, "sh", "-c", `cat "$1"/*; ls -R "$1"`, "sh", dir) },
	"deduplication": func(t testing.TB, dir string) {
		_, err := reflink.Share(t.Context(), open(t, dir+"/a"), open(t, dir+"/b"), 300_000)
		check(t, err)
	},
	"compression": func(t testing.TB, dir string) {
		btrfstest.Run(t, "btrfs", "filesystem", "defragment", "-r", "-czstd", dir)
	},
	"renaming it": func(t testing.TB, dir string) {
		check(t, os.Rename(dir, dir+"-"))
		check(t, os.Rename(dir+"-", dir))
	},
	"a snapshot": func(t testing.TB, dir string) { snapshot(t, open(t, dir), newDir(t, dir+"-snapshots"), "s") },
}

// harmful is what changes something that a user sees.
var harmful = map[string]func(t testing.TB, dir string){
	"writing":       func(t testing.TB, dir string) { check(t, os.WriteFile(dir+"/a", []byte("altered"), 0o644)) },
	"a mode":        func(t testing.TB, dir string) { check(t, os.Chmod(dir+"/a", 0o600)) },
	"an attribute":  func(t testing.TB, dir string) { check(t, unix.Setxattr(dir+"/a", "user.a", []byte("1"), 0)) },
	"a time":        func(t testing.TB, dir string) { check(t, os.Chtimes(dir+"/a", time.Unix(1, 0), time.Unix(1, 0))) },
	"deleting":      func(t testing.TB, dir string) { check(t, os.Remove(dir+"/below/c")) },
	"renaming":      func(t testing.TB, dir string) { check(t, os.Rename(dir+"/below/c", dir+"/below/d")) },
	"a link":        func(t testing.TB, dir string) { check(t, os.Link(dir+"/a", dir+"/below/a")) },
	"a new name":    func(t testing.TB, dir string) { check(t, os.Mkdir(dir+"/new", 0o755)) },
	"punching":      func(t testing.TB, dir string) { btrfstest.Run(t, "fallocate", "-p", "-l", "4096", dir+"/a") },
	"a nested one":  func(t testing.TB, dir string) { newSubvolume(t, dir, "nested") },
	"the root only": func(t testing.TB, dir string) { check(t, os.Chmod(dir, 0o700)) },
}

// newVersions makes a filesystem with snapshots of one subvolume, and received copies of these, by name.
func newVersions(t testing.TB) (top string, names []string) {
	t.Helper()
	top = btrfstest.New(t, 1<<30).Dir
	home := newSubvolume(t, top, "home")
	newDir(t, home.Name(), "below")
	content := slices.Repeat([]byte("compressible\n"), 300_000/13+1)
	for _, name := range []string{"a", "b", "below/c"} {
		check(t, os.WriteFile(filepath.Join(home.Name(), name), content, 0o644))
	}
	folders := []*os.File{newDir(t, top, "snapshots"), newDir(t, top, "received")}
	for _, kind := range []map[string]func(testing.TB, string){harmless, harmful} {
		for name := range kind {
			names = append(names, name)
			receive(t, folders[1].Name(), snapshot(t, home, folders[0], name))
		}
	}
	return top, names
}

func TestWhatSomebodyAlteredIsFound(t *testing.T) {
	top, names := newVersions(t)
	btrfstest.Run(t, "sync", "-f", top)
	for _, folder := range []string{"snapshots", "received"} {
		dir := open(t, filepath.Join(top, folder))
		before := list(t, dir).InDirectory
		for _, name := range names {
			alter := harmless[name]
			if alter == nil {
				alter = harmful[name]
			}
			check(t, btrfs.SetReadOnly(dir, name, false))
			alter(t, filepath.Join(dir.Name(), name))
			check(t, btrfs.SetReadOnly(dir, name, true))
		}
		btrfstest.Run(t, "sync", "-f", top)
		for _, s := range list(t, dir).InDirectory {
			old := find(t, before, s.ID)
			if altered := harmful[s.Name] != nil; s.AlteredIn > s.ChangedIn || s.AlteredIn > old.ChangedIn != altered || old.AlteredIn != 0 {
				t.Errorf("%s, %s: altered in %d, was %d; changed in %d, was %d", folder, s.Name, s.AlteredIn, old.AlteredIn, s.ChangedIn, old.ChangedIn)
			}
			if s.Received() != (folder == "received") {
				t.Errorf("%s: received: %t", folder, s.Received())
			}
		}
	}
}

func TestBalancingTouchesNothing(t *testing.T) {
	top, _ := newVersions(t)
	btrfstest.Run(t, "btrfs", "balance", "start", "--full-balance", top)
	for _, s := range list(t, open(t, top+"/received")).InDirectory {
		if s.AlteredIn != 0 {
			t.Errorf("%s is altered in %d", s.Name, s.AlteredIn)
		}
	}
}

func TestACopyElsewhereThatSomebodyAlteredIsFound(t *testing.T) {
	top, names := newVersions(t)
	elsewhere := newDir(t, top, "elsewhere")
	receive(t, elsewhere.Name(), open(t, top+"/snapshots/"+names[0]))
	check(t, btrfs.SetReadOnly(elsewhere, names[0], false))
	check(t, os.WriteFile(elsewhere.Name()+"/"+names[0]+"/new", nil, 0o644))
	check(t, btrfs.SetReadOnly(elsewhere, names[0], true))
	btrfstest.Run(t, "sync", "-f", top)
	copied := info(t, open(t, elsewhere.Name()+"/"+names[0]))
	for _, folder := range []string{"snapshots", "received"} {
		if s := find(t, list(t, open(t, top+"/"+folder)).All, copied.ID); s.AlteredIn == 0 {
			t.Errorf("seen from %s it is not altered: %+v", folder, s)
		}
	}
}

func TestAReadOnlySnapshotOfAReceivedOneWasNotReceived(t *testing.T) {
	top, names := newVersions(t)
	received := open(t, top+"/received/"+names[0])
	s := info(t, snapshot(t, received, newDir(t, top, "elsewhere"), "s"))
	if r := info(t, received); s.ReceivedUUID != r.ReceivedUUID || s.Received() || !r.Received() {
		t.Errorf("%+v of %+v", s, r)
	}
}

func changeTime(info os.FileInfo) int64 {
	at := info.Sys().(*syscall.Stat_t).Ctim
	return at.Nano()
}

// fill makes the subvolumes anew in a folder, written to in several transactions and then settled.
func fill(t testing.TB, top string, names []string) *os.File {
	t.Helper()
	dir := newDir(t, top, "filled")
	for _, name := range names {
		check(t, btrfs.SnapshotWritable(open(t, top+"/received/"+name), dir, name))
		btrfstest.Run(t, "sync", "-f", top)
		check(t, os.WriteFile(dir.Name()+"/"+name+"/later", []byte("content"), 0o644))
		btrfstest.Run(t, "sync", "-f", top)
		time.Sleep(100 * time.Millisecond) // in another tick of the clock than the last change
		check(t, btrfs.SetFilled(open(t, dir.Name()+"/"+name)))
		check(t, btrfs.SetReadOnly(dir, name, true))
	}
	btrfstest.Run(t, "sync", "-f", top)
	return dir
}

func TestWhatWasFilledIsAlteredByWhatCameLater(t *testing.T) {
	top, names := newVersions(t)
	dir := fill(t, top, names)
	for _, s := range list(t, dir).InDirectory {
		if s.AlteredIn != 0 || !s.Filled() || s.Received() || s.WasReceived() || !s.ReceivedUUID.IsZero() || s.SentIn != s.ChangedIn {
			t.Errorf("not altered: %+v", s)
		}
		snapshot(t, open(t, dir.Name()+"/"+s.Name), newDir(t, top, "of filled"), s.Name)
	}
	for _, name := range names { // at once: within one transaction
		alter := harmless[name]
		if alter == nil {
			alter = harmful[name]
		}
		btrfstest.Run(t, "btrfs", "property", "set", "-f", "-ts", dir.Name()+"/"+name, "ro", "false")
		alter(t, filepath.Join(dir.Name(), name))
		btrfstest.Run(t, "btrfs", "property", "set", "-ts", dir.Name()+"/"+name, "ro", "true")
	}
	btrfstest.Run(t, "sync", "-f", top)
	for _, s := range list(t, dir).InDirectory {
		check(t, btrfs.SetReadOnly(dir, s.Name, false))
		check(t, btrfs.SetFilled(open(t, dir.Name()+"/"+s.Name)))
		check(t, btrfs.SetReadOnly(dir, s.Name, true))
	}
	for _, s := range list(t, dir).InDirectory {
		if altered := harmful[s.Name] != nil; s.AlteredIn != 0 != altered || s.AlteredIn > s.ChangedIn {
			t.Errorf("%s is altered in %d, changed in %d, filled in %d", s.Name, s.AlteredIn, s.ChangedIn, s.ReceivedIn)
		}
	}
	s := list(t, dir).InDirectory[slices.IndexFunc(list(t, dir).InDirectory, func(s btrfs.Subvolume) bool { return s.Name == "a mode" })]
	st, err := os.Lstat(dir.Name() + "/a mode/a")
	check(t, err)
	s.ReceivedAt, s.Changed, s.AlteredIn = time.Unix(0, changeTime(st)), time.Now(), 0 // in one tick
	if err := btrfs.FindAltered(&s, dir); err != nil || s.AlteredIn == 0 {
		t.Errorf("altered in the tick in which it was filled: %+v, %v", s, err)
	}
	for _, s := range list(t, open(t, top+"/of filled")).InDirectory {
		if s.Filled() || s.WasReceived() || s.AlteredIn != 0 {
			t.Errorf("a snapshot: %+v", s)
		}
	}
}

func TestWhatChangesRightAfterItWasFilledIsAltered(t *testing.T) {
	top := btrfstest.New(t, testSize).Dir
	dir := open(t, top)
	for _, name := range []string{"1", "2"} {
		sub := newSubvolume(t, top, name)
		check(t, os.WriteFile(sub.Name()+"/a", []byte("content"), 0o644))
		btrfstest.Run(t, "sync", "-f", top)
		check(t, btrfs.SetFilled(sub))
		if name == "1" {
			check(t, os.WriteFile(sub.Name()+"/a", []byte("altered"), 0o644))
		}
		check(t, btrfs.SetReadOnly(dir, name, true))
		btrfstest.Run(t, "sync", "-f", top)
		if s := find(t, list(t, dir).InDirectory, info(t, sub).ID); s.AlteredIn != 0 != (name == "1") || !s.Filled() {
			t.Errorf("%+v", s)
		}
	}
}

func TestTheReceivedUUIDIsChanged(t *testing.T) {
	top, names := newVersions(t)
	folder := open(t, top+"/received")
	check(t, btrfs.SetReadOnly(folder, names[0], false))
	sub := open(t, folder.Name()+"/"+names[0])
	before := info(t, sub)
	check(t, btrfs.SetReceived(sub, before.ReceivedUUID))
	after := info(t, sub)
	if after.ReceivedUUID != before.ReceivedUUID || after.SentIn != before.SentIn || after.ReceivedIn <= before.ReceivedIn {
		t.Errorf("received again: %+v, was %+v", after, before)
	}
	check(t, btrfs.SetReceived(sub, btrfs.UUID{}))
	if after = info(t, sub); !after.ReceivedUUID.IsZero() || after.SentIn != 0 || after.Received() {
		t.Errorf("no copy: %+v", after)
	}
}

func TestTheTopLevelIsKnownToWhoeverSeesAllSubvolumes(t *testing.T) {
	top := open(t, btrfstest.New(t, testSize).Dir)
	home := newSubvolume(t, top.Name(), "home")
	if got := list(t, home).Top; got != info(t, top).UUID || got.IsZero() {
		t.Errorf("the top level is %s, not %s", got, info(t, top).UUID)
	}
	asUser(t, func() {
		if seen, err := btrfs.List(home); err != nil || !seen.Top.IsZero() {
			t.Errorf("a user sees %s, error: %v", seen.Top, err)
		}
	})
}

func TestNoTimeIsTrustedOnceTheClockWentBack(t *testing.T) {
	top, _ := newVersions(t)
	btrfstest.Run(t, "sync", "-f", top)
	dir := open(t, top+"/received")
	for _, s := range list(t, dir).InDirectory {
		s.ReceivedAt = s.Changed.Add(time.Second)
		check(t, btrfs.FindAltered(&s, dir))
		if s.AlteredIn == 0 || s.AlteredIn > s.ChangedIn {
			t.Errorf("%s: altered in %d, changed in %d", s.Name, s.AlteredIn, s.ChangedIn)
		}
	}
}

func TestAnOrdinaryUserSuspectsWhatCannotBeTheDataOfReceiving(t *testing.T) {
	top, _ := newVersions(t)
	btrfstest.Run(t, "sync", "-f", top)
	dir := open(t, top+"/received")
	s := list(t, dir).InDirectory[0]
	later := s
	later.ReceivedAt = s.Changed.Add(-2 * time.Hour)
	asUser(t, func() {
		if err := btrfs.FindAltered(&s, dir); err != nil || s.AlteredIn != 0 {
			t.Errorf("altered in %d, error: %v", s.AlteredIn, err)
		}
		if err := btrfs.FindAltered(&later, dir); err != nil || later.AlteredIn != later.ChangedIn {
			t.Errorf("changed after two hours, but altered in %d, error: %v", later.AlteredIn, err)
		}
	})
}

func TestASettledOneIsKnownToBeUnaltered(t *testing.T) {
	top, names := newVersions(t)
	btrfstest.Run(t, "sync", "-f", top)
	dir := open(t, top+"/received")
	before := info(t, open(t, dir.Name()+"/"+names[0]))
	if before.ChangedIn <= before.ReceivedIn {
		t.Fatalf("its data was on disk before it was received: %+v", before)
	}
	check(t, btrfs.Settle(dir, names[0]))
	after := info(t, open(t, dir.Name()+"/"+names[0]))
	if after.ChangedIn > after.ReceivedIn || !after.ReadOnly || after.ReceivedUUID != before.ReceivedUUID || after.SentIn != before.SentIn {
		t.Errorf("%+v, was %+v", after, before)
	}
	receive(t, newDir(t, top, "increments").Name(), open(t, top+"/snapshots/"+names[0]), open(t, top+"/snapshots/"+names[1]))
}
