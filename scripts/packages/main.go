// Command packages makes a package for Debian or for RPM by nfpm:
//
//	packages CONFIGURATION deb|rpm DIRECTORY
//
// Variables of the environment stand in the configuration, and the paths of files in it are below the present directory.
// SOURCE_DATE_EPOCH is the time of whatever has none. It prints the path of the package.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: packages CONFIGURATION deb|rpm DIRECTORY")
		os.Exit(2)
	}
	path, err := write(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func write(configuration, format, dir string) (path string, err error) {
	config, err := nfpm.ParseFileWithEnvMapping(configuration, os.Getenv)
	if err != nil {
		return "", err
	}
	info, err := config.Get(format)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, packager.ConventionalFileName(info))
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	return path, errors.Join(packager.Package(info, file), file.Close())
}
