package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A contestant is one way to make a backup. All of them take a read-only snapshot, send it, and leave both on disk.
type contestant struct {
	name    string
	command func(b backup) ([]string, error)
	upon    string // the contestant upon whose first backup it builds, if not upon its own
	ours    bool   // its first process does the work, so that its memory says something
}

// backup is what contestants are asked to do.
type backup struct {
	source    string // a subvolume; its snapshots lie in the folder "snapshot" in it
	to        string // folder of the backups
	parent    string // name of a snapshot that is there already, or ""
	host      string // name of the machine that the folder of the backups is on, or ""
	directory string // for files that a contestant needs
}

// url names a folder of the machine that the backups are on.
func (b backup) url(folder string) string {
	if b.host == "" {
		return folder
	}
	return "ssh://" + b.host + folder
}

const snapshotFolder = "snapshot"

// byHand is the first of the contestants; the others are compared with it.
const byHand = `
set -eu
source=$1 to=$2 parent=$3; shift 3
btrfs subvolume snapshot -r "$source" "$source/snapshot/by-hand"
sync -f "$source/snapshot"
btrfs send "$@" ${parent:+-p "$source/snapshot/$parent"} "$source/snapshot/by-hand" | btrfs receive "$to"
sync -f "$to"`

// contestants gives those that this machine has the programs for.
func contestants(program string) ([]contestant, error) {
	if _, err := exec.LookPath(program); err != nil {
		return nil, err
	}
	all := []contestant{
		{name: "by hand", command: typed()},
		{name: "by hand, --proto 2 --compressed-data", command: typed("--proto", "2", "--compressed-data")},
		{name: "btrfs-backup -q", command: ours(program, "-q"), ours: true},
		{name: "btrfs-backup", command: ours(program), ours: true},
	}
	const option, receiver = "--receiver", "stock"
	if err := run(program, option, receiver, "--version"); err == nil { // else an older one is measured
		all = append(all, contestant{name: "btrfs-backup -q --receiver stock", command: ours(program, "-q", option, receiver), ours: true})
	}
	if _, err := exec.LookPath("btrbk"); err != nil {
		progress("btrbk is not installed, so it is left out")
		return all, nil
	}
	return append(all, contestant{name: "btrbk", command: btrbk}), nil
}

func typed(options ...string) func(backup) ([]string, error) {
	return func(b backup) ([]string, error) {
		return append([]string{"sh", "-c", byHand, "by-hand", b.source, b.to, b.parent}, options...), nil
	}
}

func ours(program string, options ...string) func(backup) ([]string, error) {
	return func(b backup) ([]string, error) {
		return append(append([]string{program}, options...), b.source, b.to), nil
	}
}

// btrbk leaves its backup to the kernel to write out some time, so the same sync is added.
func btrbk(b backup) ([]string, error) {
	const config = `
snapshot_preserve_min all
target_preserve_min all
timestamp_format long
volume %s
  subvolume %s
    snapshot_dir %[2]s/%s
    target %s
`
	file := filepath.Join(b.directory, "btrbk.conf")
	text := fmt.Sprintf(config, filepath.Dir(b.source), filepath.Base(b.source), snapshotFolder, b.url(b.to))
	const script = `btrbk --quiet --config "$1" run && sync -f "$2"`
	return []string{"sh", "-c", script, "btrbk", file, b.to}, os.WriteFile(file, []byte(text), 0o644)
}
