package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// architectures are those of a release.
var architectures = []string{"amd64", "arm64", "arm", "riscv64"}

// A linkedPackage is a part of a module that is linked.
type linkedPackage struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// linked gives the packages of other modules that the program has on any architecture.
func linked() (all []linkedPackage, err error) {
	for _, arch := range architectures {
		list := exec.Command("go", "list", "-deps", "-json=Dir,Module", "./cmd/btrfs-backup")
		list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		list.Stderr = os.Stderr
		out, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", arch, err)
		}
		for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
			var p linkedPackage
			if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if p.Module == nil || p.Module.Main {
				continue
			}
			if p.Module.Dir == "" { // with a vendor directory, which is made of the packages that are used
				above, _, _ := strings.Cut(p.Dir, "/vendor/")
				p.Module.Dir = filepath.Join(above, "vendor", p.Module.Path)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

var (
	legal   = regexp.MustCompile(`(?i)^(un)?(licen[sc]e|copying|notice|patents)([-._].*)?$`)
	licence = regexp.MustCompile(`(?i)(licen[sc]e|copying)`)
)

// licences gives the texts of the packages' modules, each once: those in the directories of the packages and all above.
func licences(packages []linkedPackage) (string, error) {
	whose := make(map[string][]string) // by text
	licensed := make(map[string]bool)  // by module
	for _, p := range packages {
		module := p.Module.Path + " " + p.Module.Version
		licensed[module] = licensed[module]
		for dir := p.Dir; ; dir = filepath.Dir(dir) {
			entries, err := os.ReadDir(dir)
			if err != nil {
				return "", err
			}
			for _, e := range entries {
				if e.IsDir() || !legal.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
					continue
				}
				text, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					return "", err
				}
				file, err := filepath.Rel(p.Module.Dir, filepath.Join(dir, e.Name()))
				if err != nil {
					return "", err
				}
				if line := module + ": " + file; !slices.Contains(whose[string(text)], line) {
					whose[string(text)] = append(whose[string(text)], line)
				}
				licensed[module] = licensed[module] || dir == p.Module.Dir && licence.MatchString(e.Name())
			}
			if dir == p.Module.Dir {
				break
			}
		}
	}
	for _, module := range slices.Sorted(maps.Keys(licensed)) {
		if !licensed[module] {
			return "", fmt.Errorf("%s is linked, and has no licence in its directory", module)
		}
	}
	return page(whose), nil
}

const opening = `These modules are linked into btrfs-backup, each under its own licence. The
licence of golang.org/x/sys is also that of Go and its standard library, which
are linked, too.
`

// page has the texts in the order of whose they are.
func page(whose map[string][]string) string {
	titles := make(map[string]string)
	for text, lines := range whose {
		slices.Sort(lines)
		titles[strings.Join(lines, "\n")] = text
	}
	var b strings.Builder
	b.WriteString(opening)
	rule := strings.Repeat("=", 80)
	for _, title := range slices.Sorted(maps.Keys(titles)) {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", rule, title, rule, strings.TrimSpace(titles[title]))
	}
	return b.String()
}
