package dedup

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// entries gives n different contents.
func entries(n int) []manifest.Entry {
	all := make([]manifest.Entry, n)
	for i := range all {
		all[i] = manifest.Entry{Path: "some/directory/with/a/usual/name", Type: manifest.Regular, Size: int64(1 + i%50_000)}
		copy(all[i].SHA256[:], random(32, uint64(i)))
		binary.BigEndian.PutUint64(all[i].SHA256[:], uint64(i+1)*0x9e3779b97f4a7c15)
	}
	return all
}

func TestWhatWasAddedIsKnownAtOnceAndAfterClosing(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(3 * batch / 100)
	expect := func(x *Index) {
		t.Helper()
		for i, e := range all {
			p, ok := x.contents.get(keyOf(e))
			want := place{Backup: "backup", Path: e.Path, ModTime: e.ModTime}
			if !ok || p != want {
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
	all := entries(20_000)
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
		if !x.Knows(all[0]) || x.Knows(all[len(all)-1]) {
			t.Error("it does not know the first alone")
		}
	})
	f.expectNoWarning()
}

func TestPlacesThatDoNotCountAnyMoreLeaveTheFile(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(1000)
	path := filepath.Join(f.dir, indexFile)
	var sizes []int64
	for _, backup := range []string{"backup 1", "backup 2", "backup 3", "backup 4"} {
		f.with(func(x *Index) {
			for _, e := range all {
				check(t, x.Add(backup, e))
			}
		})
		sizes = append(sizes, f.stat("", indexFile).Size)
	}
	f.with(func(x *Index) {
		for _, e := range all {
			if p, ok := x.contents.get(keyOf(e)); !ok || p.Backup != "backup 4" {
				t.Fatalf("%+v, %t", p, ok)
			}
		}
	})
	if sizes[3] > sizes[1] {
		t.Errorf("its size was %d", sizes)
	}
	if _, err := os.Lstat(path + ".new"); err == nil {
		t.Error("a temporary file stays")
	}
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
		{Backup: "b\xff\n", Path: "p/\xfe/é", ModTime: manifest.Time{Sec: -1 << 62, Nsec: 999_999_999}},
		{Backup: "", Path: "", ModTime: manifest.Time{Sec: 1 << 62}},
	} {
		got, err := decode(appendPlace(nil, p))
		if err != nil || got != p {
			t.Errorf("%+v, %v instead of %+v", got, err, p)
		}
	}
	if _, err := decode([]byte{2, 2, 3, 'a', 'b'}); err == nil {
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
		"cut off": func(t *testing.T, path string) { check(t, os.Truncate(path, int64(len(magic))+60)) },
		"a symbolic link": func(t *testing.T, path string) {
			check(t, os.Rename(path, path+"-moved"))
			check(t, os.Symlink(path+"-moved", path))
		},
		"a fifo": func(t *testing.T, path string) {
			check(t, os.Remove(path))
			check(t, unix.Mkfifo(path, 0o600))
		},
		"of another version": func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte("btrfs-backup contents 1\n"), 0o600))
		},
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			f := newFixtureIn(t, t.TempDir())
			f.with(func(x *Index) { check(t, x.Add("backup", e)) })
			do(t, filepath.Join(f.dir, indexFile))
			f.with(func(x *Index) {
				if x.Knows(e) {
					t.Error("it knows a content")
				}
				check(t, x.Add("backup", e))
			})
			f.expectWarning("index "+filepath.Join(f.dir, indexFile)+" is ", "begins anew")
			f.with(func(x *Index) {
				if !x.Knows(e) {
					t.Error("it does not know the content that was added")
				}
			})
		})
	}
}

func TestNoFlippedBitIsOverlooked(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(3)
	f.with(func(x *Index) {
		for _, e := range all {
			check(t, x.Add("backup", e))
		}
	})
	path := filepath.Join(f.dir, indexFile)
	sound, err := os.ReadFile(path)
	check(t, err)
	for bit := range 8 * len(sound) {
		damaged := slices.Clone(sound)
		damaged[bit/8] ^= 1 << (bit % 8)
		check(t, os.WriteFile(path, damaged, 0o600))
		f.log.Reset()
		f.with(func(x *Index) {
			if slices.ContainsFunc(all, x.Knows) {
				t.Errorf("bit %d: it knows a content", bit)
			}
		})
		f.expectWarning("begins anew")
	}
}

func TestWhatIsDamagedInUseIsNotUsed(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, t.TempDir())
	all := entries(3)
	f.with(func(x *Index) {
		for _, e := range all {
			check(t, x.Add("backup", e))
		}
	})
	path := filepath.Join(f.dir, indexFile)
	f.with(func(x *Index) {
		check(t, os.Truncate(path, f.stat("", indexFile).Size-1))
		if !x.Knows(all[0]) || x.Knows(all[2]) {
			t.Error("it knows other contents")
		}
		check(t, x.Add("backup", all[2]))
	})
	f.expectWarning("cut off", "until the next run, equal contents are not shared")
	f.with(func(x *Index) {
		if slices.ContainsFunc(all, x.Knows) {
			t.Error("the damaged file stays")
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
	for _, e := range entries(20_000) {
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
