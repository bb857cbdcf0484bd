// Command bench compares btrfs-backup with the commands that one would type by hand, and with btrbk.
//
// It works in a directory of its own, in memory, and is run by scripts/bench, which provides that.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// settings are the options of the command line.
type settings struct {
	program string // of the tool that is measured
	dir     string // where images and mount points are made
	rounds  int
	scale   int            // what all sizes are divided by
	only    *regexp.Regexp // the names of the cases to measure
	remote  bool           // measure transfers over SSH
	mirror  bool           // measure copies by rsync
	who     *regexp.Regexp // the names of the contestants, of these
	restore bool           // measure getting data back, and looking at it
	offsite bool           // measure encrypted backups to a server, and to a folder
	peers   bool           // measure other programs, too
	size    int            // MiB of the tree for these
	into    string         // document that gets the results of these
}

func main() {
	s := settings{scale: 1, only: regexp.MustCompile("")}
	quick := flag.Bool("quick", false, "one round of a tenth of the size, to see whether everything works")
	flag.StringVar(&s.program, "program", "btrfs-backup", "`PATH` of the program to measure")
	flag.StringVar(&s.dir, "dir", "", "empty `DIRECTORY` to work in, on a tmpfs")
	flag.IntVar(&s.rounds, "rounds", 5, "`NUMBER` of times that everything is measured")
	flag.Func("only", "measure only the cases whose names match `REGEXP`", func(text string) (err error) {
		s.only, err = regexp.Compile(text)
		return err
	})
	s.who = regexp.MustCompile("")
	flag.Func("who", "with --mirror, measure only those whose names match `REGEXP`", func(text string) (err error) {
		s.who, err = regexp.Compile(text)
		return err
	})
	flag.BoolVar(&s.remote, "remote", false, "measure transfers over SSH")
	flag.BoolVar(&s.mirror, "mirror", false, "measure copies of a directory by rsync")
	flag.BoolVar(&s.restore, "restore", false, "measure getting data back, and looking at it")
	flag.BoolVar(&s.offsite, "offsite", false, "measure encrypted backups to a server, and to a folder")
	flag.BoolVar(&s.peers, "peers", false, "measure whole runs of several programs")
	flag.IntVar(&s.size, "size", 512, "`MIB` of the tree for --peers")
	flag.StringVar(&s.into, "into", "", "replace the results of --peers in the `DOCUMENT`, too")
	flag.Parse()
	if *quick {
		s.rounds, s.scale = 1, 10
	}
	measure := bench
	if s.remote {
		measure = benchRemote
	}
	if s.mirror {
		measure = benchMirror
	}
	if s.restore {
		measure = benchRestore
	}
	if s.offsite {
		measure = benchOffsite
	}
	if s.peers {
		measure = benchPeers
	}
	err := os.Setenv("XDG_STATE_HOME", filepath.Join(s.dir, "state")) // where this machine remembers runs
	if err == nil {
		err = measure(s)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func bench(s settings) error {
	all, err := contestants(s.program)
	if err != nil {
		return err
	}
	for _, c := range cases(s.scale) {
		if _, err := exec.LookPath("nbdfuse"); err != nil && c.slow {
			progress("%s: nbdfuse is not installed, so this is left out", c.name)
			continue
		}
		if s.only.MatchString(c.name) {
			if err := benchCase(s, c, all); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	for _, snapshots := range []int{2000 / s.scale, 10_000 / s.scale} {
		if name := fmt.Sprintf("%s, %d snapshots", idleCase, snapshots); s.only.MatchString(name) {
			if err := benchIdle(s, name, snapshots); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func benchCase(s settings, c testCase, all []contestant) error {
	l := newLab(s.dir)
	defer l.close()
	results, err := l.compare(c, all, s.rounds)
	if err != nil {
		return err
	}
	printComparison(os.Stdout, c, all, results)
	return nil
}

// idleCase is the name of the case without anything to save.
const idleCase = "nothing changed"

func benchIdle(s settings, name string, snapshots int) error {
	l := newLab(s.dir)
	defer l.close()
	took, err := l.idle(s.program, snapshots, s.rounds)
	if err != nil {
		return err
	}
	printIdle(os.Stdout, name, took)
	return nil
}

// progress tells on standard error what is being done, as all of it takes minutes.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
