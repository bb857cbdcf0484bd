package tree

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

func TestBeginPreparesLinks(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	w := mustBegin(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}})
	if want := (Work{Path: f.pathOf(".b1.incoming"), Nanoseconds: true}); !reflect.DeepEqual(w, want) {
		t.Errorf("first %+v, want %+v", w, want)
	}
	if st, err := os.Stat(w.Path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("others may look into it: %v, %v", st.Mode(), err)
	}
	check(t, f.discardPartial("b1"))
	addBackup(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}}, func(dir string) { write(t, dir, "file") })
	w = mustBegin(t, f, Order{Name: "b2", Base: "b1", Origin: Origin{Source: "s"}})
	if want := (Work{Path: f.pathOf(".b2.incoming"), LinkDest: f.pathOf("b1"), Nanoseconds: true}); !reflect.DeepEqual(w, want) {
		t.Errorf("then %+v, want %+v", w, want)
	}
}

func TestBeginPreparesSubvolumes(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	w := mustBegin(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}})
	if want := (Work{Path: f.pathOf(".b1.incoming"), Subvolume: true, Nanoseconds: true}); !reflect.DeepEqual(w, want) {
		t.Errorf("first %+v, want %+v", w, want)
	}
	if st, err := os.Stat(w.Path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("others may look into it: %v, %v", st.Mode(), err)
	}
	check(t, f.discardPartial("b1"))
	addBackup(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}}, func(dir string) { write(t, dir, "file") })
	base, err := btrfs.InfoAt(f.dir, "b1")
	check(t, err)
	unchanged(t, []string{f.pathOf("b1")}, func() {
		w = mustBegin(t, f, Order{Name: "b2", Base: "b1", Origin: Origin{Source: "s"}})
		write(t, w.Path, "file", "new")
	})
	if want := (Work{Path: f.pathOf(".b2.incoming"), Subvolume: true, InPlace: true, Nanoseconds: true}); !reflect.DeepEqual(w, want) {
		t.Errorf("then %+v, want %+v", w, want)
	}
	if info, err := btrfs.InfoAt(f.dir, ".b2.incoming"); err != nil || info.ParentUUID != base.UUID {
		t.Errorf("it is no snapshot of the base: %+v, %v", info, err)
	}
}

func TestBeginRefusesNames(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	addForeign(t, f)
	for _, name := range []string{"", ".", "..", "a/b", "/a", "a\x00b", StateDir, ".x.incoming", ".x.deleting", strings.Repeat("x", 246)} {
		if _, err := f.Begin(t.Context(), Order{Name: name}); err == nil {
			t.Errorf("began %q", name)
		}
	}
	for _, taken := range []string{"20170501-120000", "20170502-120000", "link"} { // the second by a hidden directory of others
		if _, err := f.Begin(t.Context(), Order{Name: taken}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("began %s: %v", taken, err)
		}
	}
	if l := mustList(t, f); len(l.Leftovers) > 0 {
		t.Errorf("it left %q", l.Leftovers)
	}
	mustBegin(t, f, Order{Name: strings.Repeat("x", 245)})
}

func TestBeginGoesOnWithWorkOnTheSameSourceOnly(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		foreign := paths(f, addForeign(t, f))
		other := mustBegin(t, f, Order{Name: "b0", Origin: Origin{Source: "other"}})
		write(t, other.Path, "file")
		w := mustBegin(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}})
		write(t, w.Path, "directory/file")
		unchanged(t, append(foreign, other.Path), func() {
			w = mustBegin(t, f, Order{Name: "b2", Origin: Origin{Source: "s"}})
			if !w.Resumed || w.Checksum || w.Path != f.pathOf(".b2.incoming") || !exists(w.Path+"/directory/file") {
				t.Errorf("got %+v", w)
			}
			if w = mustBegin(t, f, Order{Name: "b2", Origin: Origin{Source: "s"}}); !w.Resumed || !exists(w.Path+"/directory/file") {
				t.Errorf("the same again: %+v", w)
			}
		})
		if l := mustList(t, f); !slices.Equal(l.Leftovers, []string{".b0.incoming", ".b2.incoming"}) {
			t.Errorf("left: %q", l.Leftovers)
		}
	})
}

// rsync changes modes and owners in place, through all links of a file.
func TestAResumedCopySharesNoFileWithAnOlderBackup(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		outside := filepath.Join(filepath.Dir(f.dir.Name()), "outside")
		write(t, outside, "file")
		check(t, os.Link(outside+"/file", outside+"/second"))
		addBackup(t, f, Order{Name: "b1"}, func(dir string) {
			write(t, dir, "a/file", "a/b/c/file", "file")
			check(t, os.Symlink("file", dir+"/a/link"))
			check(t, unix.Mkfifo(dir+"/a/fifo", 0o600))
		})
		w := mustBegin(t, f, Order{Name: "b2", Base: "b1"})
		if !w.Subvolume {
			linkFrom(t, f.pathOf("b1"), w.Path)
		}
		write(t, w.Path, "new/file")
		check(t, os.Symlink(outside, w.Path+"/way-out"))
		unchanged(t, []string{f.pathOf("b1"), outside, w.Path + "/new"}, func() {
			w = mustBegin(t, f, Order{Name: "b2", Base: "b1"})
			check(t, filepath.WalkDir(w.Path, func(path string, d fs.DirEntry, err error) error {
				if err == nil && path != w.Path+"/new" && path != w.Path+"/new/file" {
					err = os.Lchown(path, 1234, 1234)
				}
				return err
			}))
		})
		if !exists(w.Path + "/way-out") {
			t.Error("what was copied is gone")
		}
	})
}

// With --inplace, rsync writes one file's content into all names of what were links to one inode.
func TestNoFileOfASubvolumeHasTwoNames(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	addBackup(t, f, Order{Name: "b1"}, func(dir string) {
		write(t, dir, "a/one", "alone")
		for _, name := range []string{"a/two", "three"} {
			check(t, os.Link(dir+"/a/one", filepath.Join(dir, name)))
		}
	})
	unchanged(t, []string{f.pathOf("b1")}, func() {
		w := mustBegin(t, f, Order{Name: "b2", Base: "b1"})
		names := 0
		for _, name := range []string{"a/one", "a/two", "three"} {
			if exists(filepath.Join(w.Path, name)) {
				names++
			}
		}
		if names != 1 || !exists(w.Path+"/alone") {
			t.Errorf("%d of three names are left", names)
		}
	})
}

func TestContentsAreComparedUnlessTheDataIsOnDisk(t *testing.T) {
	t.Parallel()
	boot, err := bootID()
	check(t, err)
	const earlier = "earlier"
	for _, test := range []struct {
		what     string
		entry    unfinishedEntry
		keep     bool
		checksum bool
		then     unfinishedEntry // after one more Begin and, with keep, a Keep
	}{
		{"killed", unfinishedEntry{Boot: boot}, false, false, unfinishedEntry{Boot: boot}},
		{"kept", unfinishedEntry{Boot: boot, Synced: true}, false, false, unfinishedEntry{Boot: boot}},
		{"kept, then booted", unfinishedEntry{Boot: earlier, Synced: true}, false, false, unfinishedEntry{Boot: boot}},
		{"power failure", unfinishedEntry{Boot: earlier}, false, true, unfinishedEntry{Boot: earlier}},
		{"kept again", unfinishedEntry{Boot: boot}, true, false, unfinishedEntry{Boot: boot, Synced: true}},
		// A sync does not find what was lost before.
		{"power failure, then kept", unfinishedEntry{Boot: earlier}, true, true, unfinishedEntry{Boot: earlier}},
	} {
		t.Run(test.what, func(t *testing.T) {
			f := newFolder(t, "ext4")
			mustBegin(t, f, Order{Name: "b1"})
			check(t, f.noteUnfinished(".b1.incoming", test.entry))
			if w := mustBegin(t, f, Order{Name: "b2"}); !w.Resumed || w.Checksum != test.checksum {
				t.Errorf("got %+v", w)
			}
			if test.keep {
				check(t, f.SavePartial(t.Context(), "b2"))
			}
			list, err := f.unfinished()
			if want := test.then; err != nil || len(list) != 1 || list[".b2.incoming"] != want {
				t.Errorf("then %+v, want %+v, %v", list, want, err)
			}
		})
	}
}

func TestKeepOfNothingIsNoError(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	check(t, f.SavePartial(t.Context(), "b1"))
	if exists(f.pathOf(StateDir)) {
		t.Error("it made something")
	}
}

// Whatever a killed run leaves, it is no backup, and the next run resumes it.
func TestWhatAKilledRunLeavesIsNoBackup(t *testing.T) {
	t.Parallel()
	order := Order{Name: "b1", Origin: Origin{Source: "s"}}
	steps := map[string]func(t *testing.T, f *Folder){
		"before the directory is made": func(t *testing.T, f *Folder) {
			check(t, f.noteUnfinished(".b1.incoming", unfinishedEntry{Origin: Origin{Source: "s"}}))
		},
		"while copying": func(t *testing.T, f *Folder) { mustBegin(t, f, order) },
		"with a manifest begun": func(t *testing.T, f *Folder) {
			mustBegin(t, f, order)
			file, err := f.state.Create(state.ManifestFile("b1"))
			check(t, err)
			check(t, file.Close())
		},
		"with its record": func(t *testing.T, f *Folder) {
			mustBegin(t, f, order)
			record(t, f, order)
		},
		"before the directory is renamed to go on": func(t *testing.T, f *Folder) {
			mustBegin(t, f, order)
			check(t, f.noteUnfinished(".b2.incoming", unfinishedEntry{Origin: Origin{Source: "s"}}))
		},
		"after it was renamed to go on": func(t *testing.T, f *Folder) {
			mustBegin(t, f, order)
			check(t, f.noteUnfinished(".b2.incoming", unfinishedEntry{Origin: Origin{Source: "s"}}))
			check(t, f.rename(".b1.incoming", ".b2.incoming"))
		},
	}
	everywhere(t, func(t *testing.T, f *Folder) {
		for what, kill := range steps {
			t.Run(what, func(t *testing.T) {
				path := f.pathOf(what)
				check(t, os.Mkdir(path, 0o755))
				f := New(btrfstest.Open(t, path), f.log)
				kill(t, f)
				if l := mustList(t, f); len(l.Backups) > 0 {
					t.Errorf("got %+v", l)
				}
				before := len(mustList(t, f).Leftovers) > 0
				w := mustBegin(t, f, Order{Name: "b3", Origin: Origin{Source: "s"}})
				write(t, w.Path, "file")
				if w.Resumed != before {
					t.Errorf("resumed: %t", w.Resumed)
				}
				list, err := f.unfinished()
				if _, ok := list[".b3.incoming"]; !ok || len(list) != 1 || err != nil {
					t.Errorf("hidden: %+v, %v", list, err)
				}
				check(t, os.Mkdir(f.pathOf("b1"), 0o755)) // as anybody may
				if l := mustList(t, f); len(l.Backups) > 0 || !slices.Equal(l.Leftovers, []string{".b3.incoming"}) {
					t.Errorf("then %+v", l)
				}
				if files, err := f.state.Names(); len(files) > 0 {
					t.Errorf("of what was not finished there is %q, %v", files, err)
				}
			})
		}
	})
}

func TestABackupThatGotItsNameBeforeTheRunWasKilledIsOne(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		w := mustBegin(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}})
		write(t, w.Path, "file")
		record(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}})
		check(t, f.rename(".b1.incoming", "b1"))
		unchanged(t, []string{f.pathOf("b1")}, func() {
			if l := mustList(t, f); len(l.Backups) != 1 || len(l.Leftovers) > 0 {
				t.Errorf("got %+v", l)
			}
			if w := mustBegin(t, f, Order{Name: "b2", Origin: Origin{Source: "s"}, Base: "b1"}); w.Resumed {
				t.Error("it was resumed")
			}
		})
		if l := mustList(t, f); len(l.Backups) != 1 {
			t.Errorf("then %+v", l)
		}
	})
}

// What stands in no list is nobody's, and what stands in it is ours. So the list comes first, and before it a look at what is
// there already.
func TestNothingGetsAHiddenNameBeforeItIsListed(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		addBackup(t, f, Order{Name: "b1"}, func(dir string) { write(t, dir, "file") })
		write(t, f.pathOf(".taken.incoming"), "file")
		check(t, os.Mkdir(f.state.Path(state.UnfinishedFile+state.TemporaryEnd), 0o700)) // so that the list cannot be written
		unchanged(t, paths(f, []string{"b1", ".taken.incoming"}), func() {
			if _, err := f.Begin(t.Context(), Order{Name: "b2"}); err == nil || exists(f.pathOf(".b2.incoming")) {
				t.Errorf("began: %v", err)
			}
			if _, err := f.Begin(t.Context(), Order{Name: "taken"}); !errors.Is(err, fs.ErrExist) {
				t.Errorf("what is there already was not seen in time: %v", err)
			}
			if _, err := f.Delete(t.Context(), []string{"b1"}); err == nil {
				t.Error("deleted")
			}
		})
	})
}

// Else a later run would take for its own what somebody else makes under that name.
func TestADirectoryThatWasNotMadeIsNotListed(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	_, err := denying(unix.SYS_IOCTL, func() (Work, error) { return f.Begin(t.Context(), Order{Name: "b1"}) })
	if list, failure := f.unfinished(); err == nil || failure != nil || len(list) > 0 {
		t.Errorf("%v, then hidden: %+v, %v", err, list, failure)
	}
}

func TestNoNameIsTakenFromOthersInARace(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	for _, name := range []string{"one", "other"} {
		check(t, os.Mkdir(f.pathOf(name), 0o755))
	}
	unchanged(t, []string{f.dir.Name()}, func() {
		if err := f.rename("one", "other"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOnBtrfsNothingIsBuiltUponADirectory(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	write(t, f.pathOf("b1"), "file")
	check(t, f.writeRecord(Record{Name: "b1"}))
	write(t, f.pathOf(".b2.incoming"), "file")
	check(t, f.noteUnfinished(".b2.incoming", unfinishedEntry{}))
	if l := mustList(t, f); len(l.Backups) != 1 || len(l.Leftovers) != 1 {
		t.Fatalf("got %+v", l)
	}
	w := mustBegin(t, f, Order{Name: "b3", Base: "b1"})
	if is, err := f.isSubvolume(".b3.incoming"); w.Resumed || !is || err != nil {
		t.Errorf("got %+v, %v", w, err)
	}
	if l := mustList(t, f); !slices.Equal(l.Leftovers, []string{".b3.incoming"}) {
		t.Errorf("then %+v", l)
	}
}

func TestBeginRefusesAFilesystemWithoutHardLinks(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	_, err := denying(unix.SYS_LINKAT, func() (Work, error) { return f.Begin(t.Context(), Order{Name: "b1"}) })
	if !errors.Is(err, ErrNoLinks) || hintOf(err) == "" || exists(f.pathOf(".b1.incoming")) {
		t.Errorf("got %v, hint %q", err, hintOf(err))
	}
	if names, err := readNames(f.dir, StateDir); slices.Contains(names, "probe") {
		t.Errorf("left: %q, %v", names, err)
	}
}

// denying lets a system call fail with EPERM, as linkat does on filesystems without hard links.
func denying(call uint32, do func() (Work, error)) (w Work, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the filter ends with the thread
		if err = deny(call); err == nil {
			w, err = do()
		}
	}()
	<-done
	return w, err
}

func deny(call uint32) error {
	// linux/filter.h, linux/seccomp.h: the number of the call is the first word of struct seccomp_data.
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
}

func TestBeginEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	w := mustBegin(t, f, Order{Name: "b1"})
	write(t, w.Path, "file")
	check(t, os.Link(w.Path+"/file", w.Path+"/second"))
	unchanged(t, []string{w.Path}, func() {
		if _, err := f.Begin(ended(t), Order{Name: "b1"}); !errors.Is(err, ended(t).Err()) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	want := Record{Name: "b", Origin: Origin{Source: "s\xff"}, Incomplete: []string{"no"}, Missing: 2, Files: 1 << 40}
	check(t, f.writeRecord(want))
	got, err := f.readRecord("b")
	check(t, err)
	want.Source = "s\uFFFD" // JSON has no other bytes
	if g, w := marshal(t, got), marshal(t, want); g != w {
		t.Errorf("got %s, want %s", g, w)
	}
	if _, err := f.readRecord("c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another one: %v", err)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	check(t, err)
	return string(text)
}
