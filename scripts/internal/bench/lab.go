package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// lab holds the filesystems of one case. close takes them away.
type lab struct {
	dir     string
	measure func(argv []string) (usage, error)
	options map[string]string // of mount, by the name of the filesystem
	mounted []string
}

func newLab(dir string) *lab { return &lab{dir: dir, measure: measure} }

// imageSize is that of the sparse files in which filesystems are made; what is used of it counts.
const imageSize = 8 << 30

func (l *lab) image(name string) string { return filepath.Join(l.dir, name+".img") }

// create makes a filesystem.
func (l *lab) create(name string) error { return l.createBy(name, "mkfs.btrfs", "--quiet") }

func (l *lab) createBy(name string, mkfs ...string) error {
	f, err := os.Create(l.image(name))
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(imageSize), f.Close()); err != nil {
		return err
	}
	return run(append(mkfs, l.image(name))...)
}

// mount gives the directory at which a filesystem is mounted.
func (l *lab) mount(name string) (string, error) {
	return l.mountBy(name, `mount -o "loop,$3" "$1" "$2"`)
}

// mountSlow is mount for a slow disk: one that takes and gives 50 MiB a second, which are 400M bits. A disk does not wait for a
// processor, so what plays it goes before all else that runs.
func (l *lab) mountSlow(name string) (string, error) {
	return l.mountBy(name, `
: >"$1.slow"
chrt --fifo 1 nbdfuse "$1.slow" --command nbdkit -s --filter=rate file "$1" rate=400M burstiness=0.1 >/dev/null 2>&1 &
timeout 10 sh -c 'until [ -s "$1" ]; do sleep 0.01; done' sh "$1.slow"
mount -o "loop,$3" "$1.slow" "$2"
umount --lazy "$1.slow" # which remains for the one that has it open
`)
}

// mountBy is mount by a script, which gets the image, the directory and the options.
func (l *lab) mountBy(name, script string) (string, error) {
	dir := filepath.Join(l.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := run("sh", "-euc", script, "sh", l.image(name), dir, l.options[name]); err != nil {
		return "", err
	}
	l.mounted = append(l.mounted, dir)
	return dir, nil
}

func (l *lab) unmount(name string) error {
	dir := filepath.Join(l.dir, name)
	for i, m := range l.mounted {
		if m == dir {
			l.mounted = append(l.mounted[:i], l.mounted[i+1:]...)
			return run("umount", dir)
		}
	}
	return fmt.Errorf("%s is not mounted", dir)
}

// remount makes the kernel forget what was read of a filesystem.
func (l *lab) remount(name string) error {
	if err := l.unmount(name); err != nil {
		return err
	}
	_, err := l.mount(name)
	return err
}

// copy gives a filesystem as another one was when it was last unmounted.
func (l *lab) copy(from, to string) error {
	return run("cp", "--sparse=always", l.image(from), l.image(to))
}

func (l *lab) close() {
	for _, dir := range l.mounted {
		if err := run("umount", dir); err != nil {
			progress("%v", err)
		}
	}
	images, _ := filepath.Glob(l.image("*")) // fails for a bad pattern only
	for _, image := range images {
		if err := os.Remove(image); err != nil {
			progress("%v", err)
		}
	}
}

// newSource makes a subvolume with a snapshot folder in it.
func (l *lab) newSource() (string, error) {
	if err := l.create("source"); err != nil {
		return "", err
	}
	top, err := l.mount("source")
	if err != nil {
		return "", err
	}
	source := filepath.Join(top, "data")
	if err := run("btrfs", "subvolume", "create", source); err != nil {
		return "", err
	}
	return source, errors.Join(os.Mkdir(filepath.Join(source, snapshotFolder), 0o755), forgetRuns())
}

// forgetRuns deletes what this machine remembers of runs and of the destinations that it used.
func forgetRuns() error { return os.RemoveAll(os.Getenv("XDG_STATE_HOME")) }

// sync brings everything to disk, so that what was done before does not slow down what is measured next.
func (l *lab) sync() error { return run("sync") }

// deleteSnapshots brings the source back to what it was before a run.
func deleteSnapshots(source, keep string) error {
	dir, err := os.Open(filepath.Join(source, snapshotFolder))
	if err != nil {
		return err
	}
	defer dir.Close()
	listing, err := btrfs.List(dir)
	if err != nil {
		return err
	}
	for _, s := range listing.InDirectory {
		if s.Name == keep {
			continue
		}
		if err := btrfs.Delete(dir, s.Name); err != nil {
			return err
		}
	}
	for _, name := range []string{".latest", ".outstanding_transfers"} {
		if err := os.Remove(filepath.Join(dir.Name(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := forgetRuns(); err != nil {
		return err
	}
	// The kernel cleans up after a commit, and is waited for.
	if err := run("btrfs", "filesystem", "sync", source); err != nil {
		return err
	}
	return run("btrfs", "subvolume", "sync", "-s", "1", source)
}

// checkCopied makes sure that the newest snapshot of source arrived at the destination, and is complete.
func checkCopied(source, to string) error {
	snapshots, err := list(filepath.Join(source, snapshotFolder))
	if err != nil {
		return err
	}
	newest := snapshots[0]
	for _, s := range snapshots {
		if s.ID > newest.ID {
			newest = s
		}
	}
	backups, err := list(to)
	if err != nil {
		return err
	}
	for _, b := range backups {
		if b.ReadOnly && b.ReceivedUUID == newest.UUID {
			return nil
		}
	}
	return fmt.Errorf("snapshot %s did not arrive", newest.Name)
}

// list gives the subvolumes in a directory, at least one.
func list(path string) ([]btrfs.Subvolume, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	listing, err := btrfs.List(dir)
	if err == nil && len(listing.InDirectory) == 0 {
		err = fmt.Errorf("%s: no subvolume is there", path)
	}
	return listing.InDirectory, err
}
