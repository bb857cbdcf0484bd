package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// firstSnapshot is the parent of increments. The name is one that btrbk would give, since it takes no other for a parent.
const firstSnapshot = "data.20260101T0000"

// compare measures every contestant in turn, several times, each time from the same state.
func (l *lab) compare(c testCase, all []contestant, rounds int) (map[string][]usage, error) {
	progress("%s: preparing", c.name)
	l.options = c.options
	source, parent, err := l.prepare(c)
	if err != nil {
		return nil, err
	}
	rounds *= c.often
	results := make(map[string][]usage)
	for round := range rounds {
		for _, i := range rand.Perm(len(all)) { // nobody always follows the same one
			who := all[i]
			u, err := l.one(c, who, source, parent)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", who.name, err)
			}
			progress("%s: round %d of %d: %s: %.2f s", c.name, round+1, rounds, who.name, u.wall.Seconds())
			results[who.name] = append(results[who.name], u)
		}
	}
	return results, nil
}

// prepare makes the source and the filesystem that destinations are copied from.
func (l *lab) prepare(c testCase) (source, parent string, err error) {
	if source, err = l.newSource(); err != nil {
		return "", "", err
	}
	if err := c.grow(source); err != nil {
		return "", "", err
	}
	if err := l.create("empty"); err != nil {
		return "", "", err
	}
	top, err := l.mount("empty")
	if err != nil {
		return "", "", err
	}
	if err := os.Mkdir(filepath.Join(top, "backups"), 0o755); err != nil {
		return "", "", err
	}
	if c.change != nil {
		parent = firstSnapshot
		if err := firstBackup(source, filepath.Join(top, "backups"), parent); err != nil {
			return "", "", err
		}
		if err := c.change(source); err != nil {
			return "", "", err
		}
	}
	return source, parent, l.unmount("empty")
}

func firstBackup(source, to, name string) error {
	const script = `btrfs subvolume snapshot -r "$1" "$2" && sync -f "$1" && btrfs send "$2" | btrfs receive "$3"`
	return run("sh", "-c", script, "first", source, filepath.Join(source, snapshotFolder, name), to)
}

// one measures one contestant once.
func (l *lab) one(c testCase, who contestant, source, parent string) (usage, error) {
	if err := l.copy("empty", "destination"); err != nil {
		return usage{}, err
	}
	if c.cold {
		if err := l.remount("source"); err != nil {
			return usage{}, err
		}
	}
	mount := l.mount
	if c.slow {
		mount = l.mountSlow
	}
	top, err := mount("destination")
	if err != nil {
		return usage{}, err
	}
	b := backup{source: source, to: filepath.Join(top, "backups"), parent: parent, host: c.host, directory: l.dir}
	argv, err := who.command(b)
	if err != nil {
		return usage{}, err
	}
	if c.oneCPU {
		argv = append([]string{"taskset", "--cpu-list", "0"}, argv...)
	}
	if err := l.sync(); err != nil {
		return usage{}, err
	}
	u, err := l.measure(argv)
	if err != nil {
		return u, err
	}
	if !c.nowhere {
		if err := checkCopied(b.source, b.to); err != nil {
			return u, err
		}
	}
	if err := l.unmount("destination"); err != nil {
		return u, err
	}
	return u, deleteSnapshots(source, parent)
}
