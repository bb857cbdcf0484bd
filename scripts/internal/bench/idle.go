package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// idleTimes is how long runs took that had nothing to save.
type idleTimes struct {
	whole []usage // takes a snapshot in which nothing changed, and sends it
	check []usage // with --no-snapshot: finds that nothing is to be sent
	plan  []usage // with --dry-run, where nothing of all that was sent yet
}

// idle measures runs with nothing to save, where there are many snapshots and backups.
func (l *lab) idle(program string, snapshots, rounds int) (idleTimes, error) {
	var times idleTimes
	progress("idle run: making %d snapshots and their backups", snapshots)
	source, err := l.newSource()
	if err != nil {
		return times, err
	}
	if err := files(source, 10, func(int) int { return 100 }); err != nil {
		return times, err
	}
	if err := l.create("destination"); err != nil {
		return times, err
	}
	to, err := l.mount("destination")
	if err != nil {
		return times, err
	}
	if err := takeSnapshots(source, snapshots); err != nil {
		return times, err
	}
	for range rounds {
		plan, err := measure([]string{program, "-q", "--dry-run", source, to})
		if err != nil {
			return times, err
		}
		times.plan = append(times.plan, plan)
	}
	// One stream may hold several snapshots, so that one `btrfs receive` receives them all.
	const sendAll = `cd "$1" && btrfs send -q * | btrfs receive -q "$2"`
	if err := run("sh", "-c", sendAll, "send", filepath.Join(source, snapshotFolder), to); err != nil {
		return times, err
	}
	if err := run(program, "-q", source, to); err != nil {
		return times, err
	}
	for range rounds {
		untilNextSecond() // as a second run in one second waits, to get a name of its own
		whole, err := measure([]string{program, "-q", source, to})
		if err != nil {
			return times, err
		}
		check, err := measure([]string{program, "-q", "--no-snapshot", source, to})
		if err != nil {
			return times, err
		}
		times.whole = append(times.whole, whole)
		times.check = append(times.check, check)
	}
	return times, nil
}

// takeSnapshots takes one per hour of the past.
func takeSnapshots(source string, n int) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	folder, err := os.Open(filepath.Join(source, snapshotFolder))
	if err != nil {
		return err
	}
	defer folder.Close()
	first := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		name := first.Add(time.Duration(i) * time.Hour).Format("20060102-150405")
		if err := btrfs.Snapshot(from, folder, name); err != nil {
			return err
		}
	}
	return btrfs.SyncFilesystem(folder)
}

func untilNextSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }
