package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// A btrbkPool is a filesystem with a subvolume home, and a folder on another one, which the real btrbk serves.
type btrbkPool struct {
	testing.TB
	pool, home, folder, destination string
	conf                            string
}

func newBtrbkPool(t testing.TB) *btrbkPool {
	t.Helper()
	p := &btrbkPool{TB: t, pool: smallFS(t).Dir, destination: filepath.Join(smallFS(t).Dir, "backups")}
	p.home, p.folder = newSource(t, p.pool, "home"), filepath.Join(p.pool, "snapshots")
	btrfstest.Check(t, os.Mkdir(p.folder, 0o755))
	btrfstest.Check(t, os.Mkdir(p.destination, 0o755))
	p.conf = filepath.Join(t.TempDir(), "btrbk.conf")
	p.configure("timestamp_format long")
	return p
}

// configure adds lines before those of the pool.
func (p *btrbkPool) configure(lines string) {
	p.Helper()
	write(p, p.conf, fmt.Sprintf("%s\nvolume %s\n  snapshot_dir snapshots\n  subvolume home\n    target %s\n", lines, p.pool, p.destination))
}

// march runs btrbk on a day of March, at 14:30 by its clock, with something new in home.
func (p *btrbkPool) march(day int) string {
	p.Helper()
	write(p, filepath.Join(p.home, "file"), fmt.Sprint("of day ", day))
	at := time.Date(2026, 3, day, 14, 30, 0, 0, time.UTC).Unix()
	const program = `BEGIN { *CORE::GLOBAL::time = sub { $ENV{NOW} } } $0 = "btrbk"; do "/usr/bin/btrbk"; die $@ if $@`
	cmd := exec.Command("perl", "-e", program, "--", "-c", p.conf, "run")
	cmd.Env = append(os.Environ(), "TZ=UTC", fmt.Sprint("NOW=", at))
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.Fatalf("btrbk: %v\n%s", err, out)
	}
	return string(out)
}

// ours runs the program on a day of March as it continues what btrbk did, with more options.
func (p *btrbkPool) ours(day int, options ...string) printed {
	p.Helper()
	write(p, filepath.Join(p.home, "file"), fmt.Sprint("of day ", day))
	return backUp(p, exitDone, march(day), append(options, "--name", "btrbk-long", "--snapshot-prefix", "home",
		"--snapshot-folder", p.folder, p.home, p.destination)...)
}

func ofMarch(days ...int) (names []string) {
	for _, day := range days {
		names = append(names, fmt.Sprintf("home.202603%02dT1430", day))
	}
	return names
}

func TestAPoolOfBtrbkIsTakenOver(t *testing.T) {
	t.Parallel()
	p := newBtrbkPool(t)
	for day := 1; day <= 5; day++ {
		p.march(day)
	}
	want(t, "backups of btrbk", names(t, p.destination), ofMarch(1, 2, 3, 4, 5)...)
	for _, name := range ofMarch(1, 2) { // so that only the chain tells whose backups these are
		btrfstest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(p.folder, name))
	}
	strange := newBtrbkPool(t)
	strange.march(1)
	btrfstest.Check(t, os.Rename(filepath.Join(strange.folder, ofMarch(1)[0]), filepath.Join(strange.folder, "home.20260228T1200")))
	btrfstest.Run(t, "sh", "-c", `btrfs send -q "$1" | btrfs receive -q "$2"`, "sh", filepath.Join(strange.folder, "home.20260228T1200"), p.destination)

	r := p.ours(6)
	taken := "home.20260306T1200"
	want(t, "transfers", r.to(t, p.destination).transfers(), taken+"<"+ofMarch(5)[0])
	want(t, "backups", names(t, p.destination), append(append([]string{"home.20260228T1200"}, ofMarch(1, 2, 3, 4, 5)...), taken)...)
	btrfstest.Equal(t, filepath.Join(p.folder, taken), filepath.Join(p.destination, taken), btrfstest.RootTime)

	r = p.ours(7, "-N", "3", "--keep-backups", "compat=btrbk last=1 4d") // what is 5 days old goes
	next := "home.20260307T1200"
	want(t, "transfers", r.to(t, p.destination).transfers(), next+"<"+taken)
	want(t, "snapshots", names(t, p.folder), ofMarch(5)[0], taken, next)
	want(t, "backups", names(t, p.destination), append(append([]string{"home.20260228T1200"}, ofMarch(3, 4, 5)...), taken, next)...)
	want(t, "deleted", r.to(t, p.destination).Deleted, ofMarch(1, 2)...)

	r = p.ours(7) // in the same minute
	want(t, "transfers", r.to(t, p.destination).transfers(), next+"_1<"+next)
	if r := p.ours(8, "-S"); len(r.to(t, p.destination).Transfers) > 0 {
		t.Errorf("sent again: %+v", r)
	}

	p.configure("timestamp_format long\nsnapshot_preserve_min latest\ntarget_preserve_min latest") // and back to btrbk
	if out := p.march(9); !strings.Contains(out, ">>> "+filepath.Join(p.destination, ofMarch(9)[0])) {
		t.Errorf("btrbk makes no increment:\n%s", out)
	}
	want(t, "snapshots", names(t, p.folder), ofMarch(9)...)
}

func TestBtrbksNamesAreGivenAndPrunedEverywhere(t *testing.T) {
	t.Parallel()
	far := newRestricted(t, "--append-only -n 2 --min-age 0s")
	for name, way := range map[string]struct {
		options []string
		place   func(string) string
	}{
		"here":  {[]string{"-n", "2"}, func(dir string) string { return dir }},
		"far":   {far.options, far.place},
		"rsync": {[]string{"-n", "2", "--engine", "rsync"}, func(dir string) string { return dir }},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "far" {
				btrfstest.OnlyInAll(t)
			}
			t.Parallel()
			source, destination := newSmallPair(t)
			run := func(scheme string, environ []string) {
				args := append([]string{"--name", scheme, "-p", "home", "-N", "1"}, way.options...)
				write(t, filepath.Join(source, "file"), scheme+environ[1])
				expect(t, exitDone, invoke(t, environ, append(args, source, way.place(destination))...))
			}
			for range 4 {
				run("btrbk-short", march(6))
			}
			want(t, "backups", names(t, destination), "home.20260306_2", "home.20260306_3")
			run("btrbk-long-iso", march(7))
			last := names(t, destination)[1]
			if want(t, "backups", names(t, destination), "home.20260306_3", last); !strings.HasPrefix(last, "home.20260307T1200") {
				t.Errorf("the newest is %s", last)
			}
			r := expect(t, exitDone, invoke(t, march(8), "list", "--json", destination), `"time": "2026-03-06T00:00:00Z"`, `"time": "2026-03-07T12:00:`)
			if strings.Contains(r.stdout, "incoming") {
				t.Errorf("something is left: %s", r.stdout)
			}
			told := explainedOf(t, 8, "-n", "1", destination)
			if older, newer := told["home.20260306_3"], told[last]; older != "delete: older than the newest 1" ||
				!strings.HasPrefix(newer, "keep: the newest") || len(told) != 2 {
				t.Errorf("explained as %q", told)
			}
			if link, err := os.Readlink(filepath.Join(destination, ".home_latest")); name == "rsync" && (err != nil || link != last) {
				t.Errorf("the link leads to %q, %v", link, err)
			}
		})
	}
}
