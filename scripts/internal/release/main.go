// Command release writes into a directory what an installation has beside the program and is made of the sources:
//
//	units/       the units of systemd, for a program at the path that is given
//	licences     those of all modules that are linked
//
// It fails if a module has no licence.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/schedule"
)

func main() {
	program := flag.String("program", "/usr/bin/btrfs-backup", "its path when it is installed")
	flag.Parse()
	if err := write(flag.Arg(0), *program); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func write(dir, program string) error {
	units := filepath.Join(dir, "units")
	if err := os.MkdirAll(units, 0o755); err != nil {
		return err
	}
	for _, f := range schedule.Packaged(program) {
		if err := os.WriteFile(filepath.Join(units, filepath.Base(f.Path)), []byte(f.Content), 0o644); err != nil {
			return err
		}
	}
	packages, err := linked()
	if err != nil {
		return err
	}
	text, err := licences(packages)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "licences"), []byte(text), 0o644)
}
