package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A lookCase is something that is looked for, or got back, in several ways. The first is the one that the others are compared with.
type lookCase struct {
	name string
	ways []contestant
	cold bool // what is read has to come from the disk, as on any day
}

// lookedAt is where things are looked for.
type lookedAt struct {
	source  string // a subvolume, with snapshots
	backups string // the folder of its backups
	names   []string
	target  string // an empty directory on the filesystem of the backups
}

// benchRestore measures getting data back, and looking at it.
func benchRestore(s settings) error {
	l := newLab(s.dir)
	defer l.close()
	files := 50_000 / s.scale
	at, err := l.backedUp(s, files)
	if err != nil {
		return err
	}
	for _, c := range lookCases(s.program, files, at) {
		if !s.only.MatchString(c.name) {
			continue
		}
		results := make(map[string][]usage)
		for round := range s.rounds {
			for _, i := range rand.Perm(len(c.ways)) { // nobody always follows the same one
				u, err := l.lookOnce(c, c.ways[i], at)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, c.ways[i].name, err)
				}
				progress("%s: round %d of %d: %s: %.3f s", c.name, round+1, s.rounds, c.ways[i].name, u.wall.Seconds())
				results[c.ways[i].name] = append(results[c.ways[i].name], u)
			}
		}
		printComparison(os.Stdout, testCase{name: c.name}, c.ways, results)
	}
	if s.only.MatchString(manyCase) {
		return l.manyFiles(s, at, 1_000_000/s.scale)
	}
	return nil
}

// manyCase is the name of the case that shows how memory grows with files.
const manyCase = "a backup of many files"

// manyFiles measures what looks at all files of a backup, once.
func (l *lab) manyFiles(s settings, at lookedAt, files int) error {
	progress("making %d files, with a backup", files)
	source, backups := filepath.Join(filepath.Dir(at.source), "many"), at.backups+"-many"
	if err := run("btrfs", "subvolume", "create", source); err != nil {
		return err
	}
	if err := rewrite(source, files, 1); err != nil {
		return err
	}
	if err := run(s.program, "-q", source, backups); err != nil {
		return err
	}
	made, err := list(backups)
	if err != nil {
		return err
	}
	backup, empty := filepath.Join(backups, made[0].Name), filepath.Join(backups, "empty")
	if err := run("sh", "-euc", `btrfs subvolume create "$1.new"; btrfs subvolume snapshot -r "$1.new" "$1"`, "sh", empty); err != nil {
		return err
	}
	var ways []contestant
	results := make(map[string][]usage)
	for _, words := range [][]string{{"verify", backup}, {"diff", "--stat", empty, backup}} {
		u, err := l.measure(append([]string{s.program}, words...))
		if err != nil {
			return err
		}
		ways = append(ways, contestant{name: "btrfs-backup " + words[0], ours: true})
		results["btrfs-backup "+words[0]] = []usage{u}
	}
	printComparison(os.Stdout, testCase{name: fmt.Sprintf("%s, %d", manyCase, files)}, ways, results)
	return nil
}

// lookCases gives the cases.
func lookCases(program string, files int, at lookedAt) []lookCase {
	older, newer := filepath.Join(at.backups, at.names[0]), filepath.Join(at.backups, at.names[1])
	one := fileName("", files/2+1) // which none of the changes deletes
	argv := func(words ...string) func(backup) ([]string, error) {
		return func(backup) ([]string, error) { return words, nil }
	}
	own := func(name string, words ...string) contestant {
		return contestant{name: "btrfs-backup " + name, command: argv(append([]string{program}, words...)...), ours: true}
	}
	sh := func(name, text string) contestant {
		return contestant{name: name, command: argv("sh", "-euc", text, "sh", older, newer, one, at.target, at.source)}
	}
	return []lookCase{
		{name: fmt.Sprintf("one of %d files", files), ways: []contestant{
			sh("cp -a --reflink", `cp -a --reflink "$2/$3" "$4/"`),
			own("restore --path", "restore", newer, "--path", one, "--to", at.target),
		}},
		{name: fmt.Sprintf("100 changes in %d files", files), ways: []contestant{
			sh("diff -rq", `diff -rq "$1" "$2" || [ $? = 1 ]`),
			sh("btrfs send --no-data, --dump", `btrfs send -q --no-data -p "$1" "$2" | btrfs receive --dump`),
			own("diff", "diff", older, newer),
		}},
		{name: fmt.Sprintf("a file in %d snapshots", len(at.names)-2), ways: []contestant{
			sh("stat", `stat "$5"/snapshot/*/"$3"`),
			own("versions", "versions", filepath.Join(at.source, one)),
		}},
		{name: "all files read", cold: true, ways: []contestant{
			sh("cat", `find "$2" -type f -print0 | xargs -0 cat >/dev/null`),
			own("verify", "verify", newer),
		}},
	}
}

// backedUp makes a source with two backups, between which 100 files changed, and many snapshots.
func (l *lab) backedUp(s settings, files int) (at lookedAt, err error) {
	progress("making %d files, with backups and snapshots", files)
	if at.source, err = l.newSource(); err != nil {
		return at, err
	}
	if err := makeFiles(at.source, files); err != nil {
		return at, err
	}
	if err := l.create("destination"); err != nil {
		return at, err
	}
	top, err := l.mount("destination")
	if err != nil {
		return at, err
	}
	at.backups, at.target = filepath.Join(top, "backups"), filepath.Join(top, "target")
	for i := range 2 {
		if i > 0 {
			time.Sleep(time.Second) // another second has another name
			if err := change(at.source, files, 100); err != nil {
				return at, err
			}
		}
		if err := run(s.program, "-q", at.source, at.backups); err != nil {
			return at, err
		}
	}
	backups, err := list(at.backups)
	if err != nil {
		return at, err
	}
	for _, b := range backups {
		at.names = append(at.names, b.Name)
	}
	if at.names[0] > at.names[1] {
		at.names[0], at.names[1] = at.names[1], at.names[0]
	}
	return at, l.manySnapshots(&at, files, 200/s.scale)
}

// makeFiles makes files of up to 32 KiB.
func makeFiles(dir string, n int) error {
	return files(dir, n, func(i int) int { return sizeUpTo(32*kib, i) })
}

// manySnapshots takes snapshots in which one file has another version now and then.
func (l *lab) manySnapshots(at *lookedAt, files, n int) error {
	const often = 5
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.Local)
	for i := range n {
		if i%often == 0 {
			if err := write(fileName(at.source, files/2+1), strings.NewReader(strings.Repeat("x", 1000+i)), 1000+i); err != nil {
				return err
			}
		}
		name := day.AddDate(0, 0, i).Format("20060102-150405")
		if err := run("btrfs", "subvolume", "snapshot", "-r", at.source, filepath.Join(at.source, snapshotFolder, name)); err != nil {
			return err
		}
		at.names = append(at.names, name)
	}
	return nil
}

// lookOnce measures one way once.
func (l *lab) lookOnce(c lookCase, who contestant, at lookedAt) (usage, error) {
	if err := os.RemoveAll(at.target); err != nil {
		return usage{}, err
	}
	if err := os.Mkdir(at.target, 0o755); err != nil {
		return usage{}, err
	}
	if err := l.sync(); err != nil {
		return usage{}, err
	}
	if c.cold {
		if err := l.remount("destination"); err != nil {
			return usage{}, err
		}
		if err := os.RemoveAll(filepath.Join(at.backups, ".btrfs-backup", "manifests")); err != nil {
			return usage{}, err
		}
	}
	argv, err := who.command(backup{})
	if err != nil {
		return usage{}, err
	}
	return l.measure(argv)
}
