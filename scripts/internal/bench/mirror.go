package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A mirrorCase is a state of source and destination that a directory is copied in, to a folder on ext4.
type mirrorCase struct {
	name   string
	change func(source string) error // of the source, since the backup before; nil for none
}

func mirrorCases(files int) []mirrorCase {
	return []mirrorCase{
		{name: fmt.Sprintf("%d files, nothing changed", files)},
		{name: fmt.Sprintf("%d files, 1 %% changed", files), change: func(source string) error { return rewrite(source, files, 100) }},
	}
}

// rsyncDefaults are the options that btrfs-backup gives rsync.
const rsyncDefaults = "--archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded --one-file-system --sparse"

// mirrorContestants copy a subvolume, $1, to the folder $2, each upon its own backup before, and have all of it on disk at the
// end. The first is the one that the others are compared with.
func mirrorContestants(program string) []contestant {
	script := func(text string) func(b backup) ([]string, error) {
		return func(b backup) ([]string, error) { return []string{"sh", "-euc", text, "sh", b.source, b.to}, nil }
	}
	own := func(options ...string) func(b backup) ([]string, error) {
		return func(b backup) ([]string, error) {
			return append(append([]string{program, "-q"}, options...), b.source, b.to), nil
		}
	}
	const snapshots = " --exclude=/" + snapshotFolder
	const last = `last=$(ls "$2" | tail -n 1); new="$2/$(date +%s%N)"; `
	return []contestant{
		{name: "rsync --link-dest", command: script(last + `rsync ` + rsyncDefaults + snapshots + ` ${last:+--link-dest="$2/$last"} "$1/" "$new/"; sync -f "$2"`)},
		{name: "cp -al, rsync", command: script(last + `[ -z "$last" ] || cp -al "$2/$last" "$new"; rsync ` + rsyncDefaults + snapshots + ` "$1/" "$new/"; sync -f "$2"`)},
		{name: "btrfs-backup --engine rsync --no-dedup", command: own("--engine", "rsync", "--no-dedup"), ours: true},
		{name: "btrfs-backup --engine rsync", command: own("--engine", "rsync"), ours: true},
		{name: "btrfs-backup --engine mirror", command: own("--engine", "mirror"), ours: true},
		{name: "btrfs-backup --engine mirror --only-changed", upon: "btrfs-backup --engine mirror",
			command: own("--engine", "mirror", "--only-changed"), ours: true},
	}
}

// benchMirror measures copies of a subvolume with a million small files.
func benchMirror(s settings) error {
	if _, err := exec.LookPath("rsync"); err != nil {
		return err
	}
	l := newLab(s.dir)
	defer l.close()
	files := 1_000_000 / s.scale
	source, err := l.newTree(files)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(mirrorContestants(s.program), func(c contestant) bool { return !s.who.MatchString(c.name) })
	first, err := l.firstCopies(all, source, files)
	if err != nil {
		return err
	}
	begin := slices.DeleteFunc(slices.Clone(all), func(c contestant) bool { return c.upon != "" })
	printComparison(os.Stdout, testCase{name: fmt.Sprintf("%d files, first copy", files)}, begin, first)
	snapshot := ""
	if snapshots, err := list(filepath.Join(source, snapshotFolder)); err == nil { // that of the mirror, if there is one
		snapshot = snapshots[0].Name
	}
	for _, c := range mirrorCases(files) {
		if !s.only.MatchString(c.name) {
			continue
		}
		if c.change != nil {
			if err := c.change(source); err != nil {
				return err
			}
		}
		results := make(map[string][]usage)
		for round := range s.rounds {
			for _, i := range rand.Perm(len(all)) { // nobody always follows the same one
				u, err := l.copyOnce(all[i], source, snapshot)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, all[i].name, err)
				}
				progress("%s: round %d of %d: %s: %.2f s", c.name, round+1, s.rounds, all[i].name, u.wall.Seconds())
				results[all[i].name] = append(results[all[i].name], u)
			}
		}
		printComparison(os.Stdout, testCase{name: c.name}, all, results)
	}
	return nil
}

// newTree makes a subvolume of files of 100 bytes, a hundred to a directory.
func (l *lab) newTree(files int) (string, error) {
	progress("making %d files", files)
	source, err := l.newSource()
	if err != nil {
		return "", err
	}
	return source, rewrite(source, files, 1)
}

// rewrite makes every file anew whose number divides by step.
func rewrite(source string, files, step int) error {
	for i := 0; i < files; i += step {
		dir := filepath.Join(source, strconv.Itoa(i/10_000), strconv.Itoa(i/100%100))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		line := fmt.Sprintf("file %d, made with step %d, ", i, step)
		content := strings.Repeat(line, 4)[:100]
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// newExt4 makes and mounts a filesystem with room for some copies of so many files.
func (l *lab) newExt4(name string, files int) (string, error) {
	f, err := os.Create(l.image(name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Truncate(imageSize); err != nil {
		return "", err
	}
	if err := run("mkfs.ext4", "-q", "-b", "1024", "-N", strconv.Itoa(2*files+100_000), l.image(name)); err != nil {
		return "", err
	}
	return l.mount(name)
}

// firstImage is where the destination of a contestant lies with one backup on it.
func firstImage(who contestant) string {
	return "first-" + strings.ReplaceAll(cmp.Or(who.upon, who.name), " ", "-")
}

// firstCopies gives each contestant a destination with a backup that it made itself, and tells what that took.
func (l *lab) firstCopies(all []contestant, source string, files int) (map[string][]usage, error) {
	results := make(map[string][]usage)
	for _, who := range all {
		if who.upon != "" {
			continue
		}
		top, err := l.newExt4(firstImage(who), files)
		if err != nil {
			return nil, err
		}
		u, err := l.copyTo(who, source, top)
		if err != nil {
			return nil, err
		}
		progress("first copy by %s: %.2f s", who.name, u.wall.Seconds())
		results[who.name] = []usage{u}
		if err := l.unmount(firstImage(who)); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (l *lab) copyTo(who contestant, source, top string) (usage, error) {
	to := filepath.Join(top, "backups")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return usage{}, err
	}
	argv, err := who.command(backup{source: source, to: to})
	if err != nil {
		return usage{}, err
	}
	if err := l.sync(); err != nil {
		return usage{}, err
	}
	return l.measure(argv)
}

// copyOnce measures one contestant once. What the destination holds has to be read from its disk, as on any day.
func (l *lab) copyOnce(who contestant, source, first string) (usage, error) {
	// The folder is known by its identity: it is the same disk as before, or a new one. Of its snapshots, that of the first copy is there.
	if err := deleteSnapshots(source, first); err != nil {
		return usage{}, err
	}
	if err := l.remount("source"); err != nil {
		return usage{}, err
	}
	if err := l.copy(firstImage(who), "destination"); err != nil {
		return usage{}, err
	}
	top, err := l.mount("destination")
	if err != nil {
		return usage{}, err
	}
	u, err := l.copyTo(who, source, top)
	if err != nil {
		return u, err
	}
	return u, l.unmount("destination")
}
