package draft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Dialog asks a user.
type Dialog struct {
	Ask      func(ctx context.Context, question string) (answer string, err error)
	Tell     func(line string)
	Complain func(error) // of an answer
}

// ask asks until the answer will do. No answer is the proposal.
func (d Dialog) ask(ctx context.Context, question, proposal string, check func(answer string) error) (string, error) {
	if proposal != "" {
		question += " [" + proposal + "]"
	}
	for {
		answer, err := d.Ask(ctx, question+":")
		if err != nil {
			return "", err
		}
		if answer == "" {
			answer = proposal
		}
		if err = check(answer); err == nil {
			return answer, nil
		}
		d.Complain(err)
	}
}

// Choose asks a handful of questions.
func (d Dialog) Choose(ctx context.Context, found Found) (c Choice, err error) {
	if err := d.chooseSources(ctx, found, &c); err != nil {
		return c, err
	}
	if err := d.chooseDestination(ctx, found, &c); err != nil {
		return c, err
	}
	var every due.Every
	c.Every, err = d.ask(ctx, "How often? hourly, daily, weekly, 6h, ...", "daily", func(answer string) (err error) {
		every, err = due.Parse(answer, nil)
		return err
	})
	if err != nil {
		return c, err
	}
	d.Tell("Of older ones, 7d 4w keeps one for each of the newest 7 days and 4 weeks.")
	if c.HasSnapshots() {
		proposal := "7d"
		if every.Length < 24*time.Hour {
			proposal = "24h 7d"
		}
		if c.KeepSnapshots, err = d.ask(ctx, "Keep which snapshots here?", proposal, checkPolicy); err != nil {
			return c, err
		}
	}
	c.KeepBackups, err = d.ask(ctx, "Keep which backups there?", "14d 8w 12m", checkPolicy)
	return c, err
}

func checkPolicy(text string) error {
	_, err := retention.Parse(text)
	if err != nil {
		return hint.New(err, retention.Grammar)
	}
	return nil
}

func (d Dialog) chooseSources(ctx context.Context, found Found, c *Choice) error {
	question, proposal := "Back up which directories?", "/home"
	if len(found.Sources) > 0 {
		var numbers []string
		d.Tell("There are these subvolumes:")
		for i, s := range found.Sources {
			numbers = append(numbers, strconv.Itoa(i+1))
			d.Tell(fmt.Sprintf("%4d  %s", i+1, s))
		}
		question, proposal = "Back up which? Numbers, or other directories", strings.Join(numbers, " ")
	}
	_, err := d.ask(ctx, question, proposal, func(answer string) (err error) {
		c.Sources, err = readSources(answer, found)
		return err
	})
	return err
}

// readSources reads numbers of subvolumes, and directories.
func readSources(answer string, found Found) (sources []Source, err error) {
	for word := range strings.FieldsSeq(strings.ReplaceAll(answer, ",", " ")) {
		if n, err := strconv.Atoi(word); err == nil {
			if n < 1 || n > len(found.Sources) {
				return nil, fmt.Errorf("there is no subvolume %d", n)
			}
			word = found.Sources[n-1]
		}
		if !filepath.IsAbs(word) {
			return nil, hint.New(fmt.Errorf("%q is no absolute path", word), "begin it with a slash")
		}
		source, err := SourceAt(filepath.Clean(word))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	if len(sources) == 0 {
		return nil, errors.New("nothing would be backed up")
	}
	return sources, nil
}

func (d Dialog) chooseDestination(ctx context.Context, found Found, c *Choice) error {
	proposal := ""
	if len(found.Disks) > 0 {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		proposal = filepath.Join(found.Disks[0].Mount, name)
	}
	_, err := d.ask(ctx, "Where to? A folder on another disk, or HOST:/PATH", proposal, func(answer string) (err error) {
		c.Destination = answer
		c.Rsync, err = checkDestination(answer, c.Sources)
		return err
	})
	if err != nil {
		return err
	}
	if c.Rsync {
		d.Tell(fmt.Sprintf("%s is not on btrfs: rsync makes copies of directories there.", c.Destination))
	}
	disk, onDisk := found.DiskOf(c.Destination)
	if !onDisk {
		return nil
	}
	answer, err := d.ask(ctx, fmt.Sprintf("Is the disk at %s always there? yes or no", disk.Mount), "no", func(answer string) error {
		if !slices.Contains([]string{"yes", "y", "no", "n"}, strings.ToLower(answer)) {
			return errors.New("answer yes or no")
		}
		return nil
	})
	if strings.HasPrefix(strings.ToLower(answer), "n") {
		c.Disk = &disk
	}
	return err
}

// checkDestination refuses what a run would refuse, and tells whether only rsync can copy there.
func checkDestination(answer string, sources []Source) (rsync bool, err error) {
	p, err := job.ParsePlace(answer)
	if err != nil {
		return false, err
	}
	if _, isMachine := p.(job.Machine); isMachine {
		return false, nil
	}
	if _, isHere := p.(job.Local); !isHere || !filepath.IsAbs(answer) {
		return false, hint.New(fmt.Errorf("%q is neither a folder nor one on another machine", answer), "begin it with a slash, or write HOST:/PATH")
	}
	to, err := FilesystemAt(answer)
	if err != nil {
		return false, err
	}
	for _, source := range append([]Source{{Path: "/"}}, sources...) {
		from, err := FilesystemAt(source.Path)
		if err != nil {
			return false, err
		}
		if from == to {
			return false, hint.New(fmt.Errorf("%s is on the same filesystem as %s", answer, source.Path), "mount the disk for the backups first, or name another folder")
		}
	}
	return !to.IsBtrfs(), nil
}
