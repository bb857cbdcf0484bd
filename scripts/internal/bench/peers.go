package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// A peer is a program that makes backups, set up as its manual does it. What it does are shell scripts; see peerScript.
type peer struct {
	name       string
	needs      string // what has to be installed
	filesystem string // of the destination
	setUp      string // what is done once
	backup     string
	restore    string // brings back $file of the newest backup into the directory $target
}

// peerScript is what all scripts of peers begin with. $run counts the backups.
const peerScript = `
set -euo pipefail
source=$1 to=$2 file=$3 target=$4 run=$5
export HOME=$6
export RESTIC_REPOSITORY=$to/repo RESTIC_PASSWORD=bench BORG_REPO=$to/repo BORG_PASSPHRASE=bench
`

// What the peers make is on disk at the end, of whatever kind it is.
const (
	syncBackup  = "\nsync -f \"$to\""
	syncRestore = "\nsync -f \"$target\""
)

const setUpBtrbk = `cat >"$HOME/btrbk.conf" <<END
snapshot_preserve_min all
target_preserve_min all
timestamp_format long
volume $(dirname "$source")
  subvolume $(basename "$source")
    snapshot_dir $(basename "$source")/snapshot
    target $to
END`

// The options of Debian's rsnapshot.conf, whose fields are divided by tabs.
const setUpRsnapshot = `tr ' ' '\t' >"$HOME/rsnapshot.conf" <<END
config_version 1.2
snapshot_root $to/
no_create_root 1
cmd_cp /bin/cp
cmd_rm /bin/rm
cmd_rsync /usr/bin/rsync
verbose 2
lockfile $HOME/rsnapshot.pid
retain alpha 6
retain beta 7
retain gamma 4
backup $source/ localhost/
END`

// peers gives those that this machine has, those beside each other that make the same kind of backup.
func peers(program string) []peer {
	borg := func(encryption string) peer {
		return peer{
			name: "borg, " + encryption, needs: "borg", filesystem: "ext4",
			setUp:   "borg init --encryption " + encryption,
			backup:  `borg create "::$run" "$source"`,
			restore: `cd "$target"; borg extract "::$run" "${source#/}/$file"`,
		}
	}
	all := []peer{
		{
			name: "btrfs-backup", needs: program, filesystem: "btrfs",
			backup:  program + ` -q "$source" "$to"`,
			restore: program + ` restore -q "$to/.latest" --path "$file" --to "$target"`,
		},
		{
			name: "btrbk", needs: "btrbk", filesystem: "btrfs",
			setUp:   setUpBtrbk,
			backup:  `btrbk --quiet --config "$HOME/btrbk.conf" run`,
			restore: `cp -a "$(printf '%s\n' "$to"/* | tail -n 1)/$file" "$target/"`,
		},
		{
			name: "btrfs-backup --engine rsync", needs: "rsync", filesystem: "ext4",
			backup:  program + ` -q --engine rsync "$source" "$to"`,
			restore: program + ` restore -q "$to/.latest" --path "$file" --to "$target"`,
		},
		{
			name: "rsnapshot", needs: "rsnapshot", filesystem: "ext4",
			setUp:   setUpRsnapshot,
			backup:  `rsnapshot -c "$HOME/rsnapshot.conf" alpha`,
			restore: `cp -a "$to/alpha.0/localhost$source/$file" "$target/"`,
		},
		{
			name: "btrfs-backup, store", needs: program, filesystem: "ext4",
			backup:  program + ` -q --recipients "$HOME/recipients" --one-recipient "$source" "store:$to"`,
			restore: program + ` restore -q -i "$HOME/key" "store:$to" --path "$file" --to "$target"`,
		},
		{
			name: "restic", needs: "restic", filesystem: "ext4",
			setUp:   "restic init",
			backup:  `restic backup --quiet "$source"`,
			restore: `restic restore --quiet latest --include "$source/$file" --target "$target"`,
		},
		borg("repokey"),
		borg("none"),
	}
	var installed []peer
	for _, p := range all {
		if _, err := exec.LookPath(p.needs); err != nil {
			progress("%s is not installed, so it is left out", p.needs)
			continue
		}
		installed = append(installed, p)
	}
	return installed
}

// phases are what is measured of each peer, in this order.
var phases = []string{"first backup", "1 % changed", "nothing changed", "one file back"}

// A course is what one peer took for all phases.
type course struct {
	took  []usage // by phase
	space int64   // bytes that all backups took on their filesystem
}

// benchPeers measures whole runs of several programs, each from the same source to a fresh filesystem.
func benchPeers(s settings) error {
	l := newLab(s.dir)
	l.measure = measureTogether
	defer l.close()
	about := describeMachine()
	tree := peerTree{bytes: s.size * mib / s.scale}
	progress("making a tree of %d MiB", tree.bytes/mib)
	if err := l.preparePeers(tree); err != nil {
		return err
	}
	all := peers(s.program)
	courses := make(map[string][]course)
	for round := range s.rounds {
		for _, i := range rand.Perm(len(all)) { // nobody always follows the same one
			c, err := l.course(all[i], tree)
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			progress("round %d of %d: %s: %.2f s, %.2f s, %.2f s, %.2f s", round+1, s.rounds, all[i].name, c.took[0].wall.Seconds(),
				c.took[1].wall.Seconds(), c.took[2].wall.Seconds(), c.took[3].wall.Seconds())
			courses[all[i].name] = append(courses[all[i].name], c)
		}
	}
	var table bytes.Buffer
	fmt.Fprintln(&table, about.sentences(s.rounds, tree))
	printPeers(&table, all, courses)
	if s.into != "" {
		if err := replaceResults(s.into, table.Bytes()); err != nil {
			return err
		}
	}
	_, err := os.Stdout.Write(table.Bytes())
	return err
}

// A peerTree is what is backed up: half of the bytes are in files of up to 32 KiB, half in 8 large ones, and of both every other is
// text, which compresses; the rest does not.
type peerTree struct{ bytes int }

const largeFiles = 8

func (t peerTree) small() int        { return max(t.bytes/2/(16*kib), 100) }
func (t peerTree) changed() int      { return t.small() / 100 }
func large(dir string, i int) string { return filepath.Join(dir, "large", fmt.Sprint(i)) }

// lost is the file that is to come back, one of those that change rewrites.
func (t peerTree) lost() string { return fileName("", t.changed()/6*3*(t.small()/t.changed())) }

func (t peerTree) grow(dir string) error {
	content := []io.Reader{newProse(), rand.NewChaCha8([32]byte{})}
	for i := range t.small() {
		if err := write(fileName(dir, i), content[i%2], sizeUpTo(32*kib, i)); err != nil {
			return err
		}
	}
	for i := range largeFiles {
		if err := write(large(dir, i), content[i%2], t.bytes/2/largeFiles); err != nil {
			return err
		}
	}
	return nil
}

// change changes 1 % of the small files, and 1 % of the bytes of a large one, within it.
func (t peerTree) change(dir string) error {
	if err := change(dir, t.small(), t.changed()); err != nil {
		return err
	}
	f, err := os.OpenFile(large(dir, 1), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	content := make([]byte, info.Size()/100)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(content) // it never fails
	if _, err := f.WriteAt(content, info.Size()/2); err != nil {
		return err
	}
	return f.Close()
}

// preparePeers makes the filesystems that those of each peer are copies of.
func (l *lab) preparePeers(tree peerTree) error {
	source, err := l.newSource()
	if err != nil {
		return err
	}
	if err := tree.grow(source); err != nil {
		return err
	}
	if err := l.unmount("source"); err != nil {
		return err
	}
	if err := os.Rename(l.image("source"), l.image("pristine")); err != nil {
		return err
	}
	return errors.Join(l.create("btrfs"), l.createBy("ext4", "mkfs.ext4", "-q"))
}

// course measures one peer once, from a fresh source to a fresh destination.
func (l *lab) course(who peer, tree peerTree) (course, error) {
	var c course
	at, err := l.place(who, tree)
	if err != nil {
		return c, err
	}
	empty, err := used(at.to)
	if err != nil {
		return c, err
	}
	if err := run(at.script(who.setUp, 0)...); err != nil {
		return c, err
	}
	for i, phase := range phases {
		script := who.backup + syncBackup
		switch i {
		case 1:
			err = tree.change(at.source)
		case 3:
			script = who.restore + syncRestore
		}
		if err != nil {
			return c, err
		}
		u, err := l.cold(at.script(script, min(i, 2)))
		if err != nil {
			return c, fmt.Errorf("%s: %w", phase, err)
		}
		c.took = append(c.took, u)
	}
	if err := at.checkRestored(); err != nil {
		return c, err
	}
	full, err := used(at.to)
	if err != nil {
		return c, err
	}
	c.space = full - empty
	return c, errors.Join(l.unmount("source"), l.unmount("destination"))
}

// A peerPlace is what one peer works on.
type peerPlace struct {
	source, to string
	file       string // in the source, that is to come back
	target     string // the directory that it comes back to
	home       string // for configurations and caches
}

// script gives the command that runs a script of a peer.
func (at peerPlace) script(text string, run int) []string {
	return []string{"bash", "-c", peerScript + text, "peer", at.source, at.to, at.file, at.target, strconv.Itoa(run), at.home}
}

// place makes the filesystems and directories of one peer.
func (l *lab) place(who peer, tree peerTree) (at peerPlace, err error) {
	if err := errors.Join(l.copy("pristine", "source"), l.copy(who.filesystem, "destination"), forgetRuns()); err != nil {
		return at, err
	}
	for _, name := range []string{"source", "destination"} {
		if _, err := l.mount(name); err != nil {
			return at, err
		}
	}
	at = peerPlace{
		source: filepath.Join(l.dir, "source", "data"),
		to:     filepath.Join(l.dir, "destination", "backups"),
		file:   tree.lost(),
		target: filepath.Join(l.dir, "source", "target"),
		home:   filepath.Join(l.dir, "home"),
	}
	if err := os.RemoveAll(at.home); err != nil {
		return at, err
	}
	for _, dir := range []string{at.to, at.target, at.home} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return at, err
		}
	}
	return at, makeKey(at.home)
}

// makeKey makes the key that backups in our store are encrypted for.
func makeKey(dir string) error {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "key"), []byte(key.String()+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "recipients"), []byte(key.Recipient().String()+"\n"), 0o644))
}

// cold measures a program for which source and destination have to be read from their disks, as on any day.
func (l *lab) cold(argv []string) (usage, error) {
	if err := errors.Join(l.remount("source"), l.remount("destination"), l.sync()); err != nil {
		return usage{}, err
	}
	untilNextSecond() // some names of backups are dates
	return l.measure(argv)
}

// checkRestored makes sure that the file came back as it is now.
func (at peerPlace) checkRestored() error {
	want, err := os.ReadFile(filepath.Join(at.source, at.file))
	if err != nil {
		return err
	}
	var found bool
	err = filepath.WalkDir(at.target, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		got, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s came back as it was before the change", at.file)
		}
		found = true
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("%s did not come back", at.file)
	}
	return err
}

// used gives the bytes that a filesystem took of its disk.
func used(path string) (int64, error) {
	if err := run("sync", "-f", path); err != nil {
		return 0, err
	}
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	return int64(s.Blocks-s.Bfree) * s.Bsize, err
}
