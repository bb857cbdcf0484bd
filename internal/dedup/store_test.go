package dedup

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"btrfs-backup/internal/manifest"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// entries gives n different contents.
func entries(n int) []manifest.Entry {
	all := make([]manifest.Entry, n)
	for i := range all {
		all[i] = manifest.Entry{Path: "some/directory/with/a/usual/name", Type: manifest.Regular, Size: int64(1 + i%50_000)}
		copy(all[i].SHA256[:], random(32, uint64(i)))
		binary.BigEndian.PutUint64(all[i].SHA256[8:], uint64(i+1)*0x9e3779b97f4a7c15)
	}
	return all
}

func TestWhatWasAddedIsKnownAtOnceAndAfterClosing(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(2*batch + 10)
	expect := func(x *Index) {
		t.Helper()
		for i, e := range all {
			p, ok := x.contents.get(keyOf(e))
			want := place{Backup: "backup", Path: e.Path, ModTime: e.ModTime, Verified: p.Verified}
			if !ok || p != want || !p.Verified.Equal(f.now) {
				t.Fatalf("content %d: %+v, %t", i, p, ok)
			}
		}
	}
	f.with(func(x *Index) {
		for _, e := range all {
			check(t, x.Add("backup", e))
		}
		expect(x)
	})
	f.with(expect)
}

func TestACrashLosesTheLastAdditionsOnly(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(batch + 10)
	path := filepath.Join(f.dir, indexFile)
	var onDisk []byte
	f.with(func(x *Index) {
		for _, e := range all {
			check(t, x.Add("backup", e))
		}
		var err error
		onDisk, err = os.ReadFile(path)
		check(t, err)
	})
	check(t, os.WriteFile(path, onDisk, 0o600))
	f.with(func(x *Index) {
		for i, e := range all {
			if want := i < batch; x.Knows(e) != want {
				t.Fatalf("content %d is known: %t", i, !want)
			}
		}
	})
	f.expectNoWarning()
}

func TestOnlyTheUserMayReadTheIndex(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	f.with(func(*Index) {})
	if mode := f.stat("", indexFile).Mode; mode != unix.S_IFREG|0o600 {
		t.Errorf("its mode is %o", mode)
	}
}

func TestPlacesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for _, p := range []place{
		{Backup: "b", Path: "p"},
		{Backup: "b\xff\n", Path: "p/\xfe/é", ModTime: manifest.Time{Sec: -1 << 62, Nsec: 999_999_999}, Verified: time.Unix(1e9, 0)},
		{Backup: "", Path: "", ModTime: manifest.Time{Sec: 1 << 62}},
	} {
		got, err := decode(encode(p))
		if p.Verified = time.Unix(p.Verified.Unix(), 0); err != nil || got != p {
			t.Errorf("%+v, %v instead of %+v", got, err, p)
		}
	}
	if _, err := decode([]byte{2, 2, 2, 3, 'a', 'b'}); err == nil {
		t.Error("a name longer than the entry is accepted")
	}
}

func TestADamagedIndexBeginsAnew(t *testing.T) {
	t.Parallel()
	e := entries(1)[0]
	damage := map[string]func(t *testing.T, path string){
		"garbage": func(t *testing.T, path string) { check(t, os.WriteFile(path, random(100_000, 1), 0o600)) },
		"text":    func(t *testing.T, path string) { check(t, os.WriteFile(path, []byte("index\n"), 0o600)) },
		"zeros":   func(t *testing.T, path string) { check(t, os.WriteFile(path, make([]byte, 65536), 0o600)) },
		"cut off": func(t *testing.T, path string) { check(t, os.Truncate(path, 2*4096)) },
		"pages overwritten": func(t *testing.T, path string) {
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			check(t, err)
			defer file.Close()
			st, err := file.Stat()
			check(t, err)
			_, err = file.WriteAt(random(int(st.Size())-2*4096, 1), 2*4096) // behind the two meta pages
			check(t, err)
		},
		"a symbolic link": func(t *testing.T, path string) {
			check(t, os.Rename(path, path+"-moved"))
			check(t, os.Symlink(path+"-moved", path))
		},
		"a fifo": func(t *testing.T, path string) {
			check(t, os.Remove(path))
			check(t, unix.Mkfifo(path, 0o600))
		},
		"a database of something else": func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, nil)
			check(t, err)
			check(t, db.Update(func(tx *bbolt.Tx) error {
				check(t, tx.DeleteBucket(contentsBucket))
				_, err := tx.CreateBucket([]byte("other"))
				return err
			}))
			check(t, db.Close())
		},
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			f := newFixtureIn(t, t.TempDir()) // a mount could not be undone: a damaged index stays in memory
			f.with(func(x *Index) { check(t, x.Add("backup", e)) })
			do(t, filepath.Join(f.dir, indexFile))
			f.with(func(x *Index) {
				if x.Knows(e) {
					t.Error("it knows a content")
				}
				check(t, x.Add("backup", e))
			})
			if name != "a database of something else" {
				f.expectWarning("index " + filepath.Join(f.dir, indexFile) + " is damaged")
			}
			f.with(func(x *Index) { // if the damage was found but now, it ends with the file
				check(t, x.Add("backup", e))
			})
			f.with(func(x *Index) {
				if !x.Knows(e) {
					t.Error("it does not know the content that was added")
				}
			})
		})
	}
}

func TestNoDamagedPageEndsTheProgram(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(500)
	f.with(func(x *Index) {
		for _, e := range all {
			check(t, x.Add("backup", e))
		}
	})
	path := filepath.Join(f.dir, indexFile)
	sound, err := os.ReadFile(path)
	check(t, err)
	const page = 4096
	wrong := 0
	for start := 0; start < len(sound); start += page {
		for _, with := range [][]byte{random(page, uint64(start)), make([]byte, page), sound[:page]} {
			damaged := slices.Clone(sound)
			copy(damaged[start:], with)
			check(t, os.Remove(path))
			check(t, os.WriteFile(path, damaged, 0o600))
			x := f.open()
			for _, e := range all {
				if !x.Knows(e) {
					wrong++
				}
			}
			check(t, x.Add("backup", entries(501)[500]))
			_ = x.Close() // which may be the first to find it
			f.with(func(*Index) {})
		}
	}
	if wrong == 0 {
		t.Error("no page mattered")
	}
}

func TestAnIndexInUseIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	e := entries(1)[0]
	f.with(func(x *Index) {
		check(t, x.Add("backup", e))
		if second, err := Open(f.folder, indexFile, Options{}); err == nil {
			t.Error("it was opened twice")
			second.Close()
		}
	})
	f.with(func(x *Index) {
		if !x.Knows(e) {
			t.Error("its content is gone")
		}
	})
}

func TestAFullDiskCostsTheIndexAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	f.with(func(*Index) {})
	x := f.open()
	fill := filepath.Join(f.dir, "fill")
	file, err := os.Create(fill)
	check(t, err)
	for block := random(1<<20, 1); err == nil; {
		_, err = file.Write(block)
	}
	check(t, file.Close())
	failures := 0
	for _, e := range entries(3 * batch) {
		if x.Add("backup", e) != nil {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("%d additions failed", failures)
	}
	f.expectWarning("no space left on device")
	check(t, x.Close())
	check(t, os.Remove(fill))
	f.with(func(x *Index) { check(t, x.Add("backup", entries(1)[0])) })
}

func BenchmarkAdd(b *testing.B) {
	f := newFixtureIn(b, b.TempDir())
	all := entries(b.N)
	x := f.open()
	b.ResetTimer()
	for _, e := range all {
		check(b, x.Add("20260101-000000", e))
	}
	check(b, x.Close())
}

func BenchmarkMiss(b *testing.B) {
	f := newFixtureIn(b, b.TempDir())
	all := entries(300_000)
	f.with(func(x *Index) {
		for _, e := range all {
			check(b, x.Add("20260101-000000", e))
		}
	})
	x := f.open()
	i := 0
	for b.Loop() {
		e := all[i%len(all)]
		e.SHA256[31]++
		if _, _, err := x.Share(b.Context(), hidden+"/"+e.Path, e); err != nil {
			b.Fatal(err)
		}
		i++
	}
	check(b, x.Close())
}
