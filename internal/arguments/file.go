package arguments

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// argFile is an argument file while its lines are read.
type argFile struct {
	name string
	line int
	info fs.FileInfo
}

func (f argFile) String() string { return fmt.Sprintf("%s:%d", f.name, f.line) }

// addFile adds the arguments in the file that arg, "@FILE", names.
func (e *expander) addFile(arg string) error {
	name := e.resolve(arg[len("@"):])
	info, err := os.Stat(name)
	if err != nil {
		return e.unreadable(arg, name, err)
	}
	if loop := e.loop(name, info); loop != nil {
		return e.errorf("", "argument file includes itself: %s", strings.Join(loop, " -> "))
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return e.unreadable(arg, name, err)
	}
	e.files = append(e.files, argFile{name: name, info: info})
	if err := e.addLines(string(text)); err != nil {
		return err
	}
	e.files = e.files[:len(e.files)-1]
	return nil
}

// unreadable tells why the file that arg names cannot be read. Often it was meant to be a subvolume, say @home.
func (e *expander) unreadable(arg, name string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	forward := fmt.Sprintf("use ./%s for a path that begins with @", arg)
	return e.errorf(forward, "reading argument file %q: %v", name, err)
}

// addLines adds the arguments in text, which is that of the last of e.files.
func (e *expander) addLines(text string) error {
	current := len(e.files) - 1
	for line := range strings.Lines(text) {
		e.files[current].line++
		for _, arg := range splitArgLine(line) {
			if err := e.add(arg); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve gives the path of an included file, which is relative to the directory of the file that includes it.
func (e *expander) resolve(name string) string {
	if len(e.files) == 0 || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(e.files[len(e.files)-1].name), name)
}

// loop gives the chain of files from the first time that this file was included to now, or nil when this is the first.
// Files are compared by identity, as a link gives one file endlessly many names.
func (e *expander) loop(name string, info fs.FileInfo) []string {
	first := slices.IndexFunc(e.files, func(f argFile) bool { return os.SameFile(f.info, info) })
	if first < 0 {
		return nil
	}
	var chain []string
	for _, file := range e.files[first:] {
		chain = append(chain, file.name)
	}
	return append(chain, name)
}

// splitArgLine gives the arguments in a line of an argument file: none in an empty line or a comment, an option and
// all that follows it as its value, or one positional. There is no quoting, so that any path can be written as it is.
func splitArgLine(line string) []string {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil
	}
	if line[0] != '-' {
		return []string{line}
	}
	end := strings.IndexFunc(line, unicode.IsSpace)
	if end < 0 {
		return []string{line}
	}
	return []string{line[:end], strings.TrimLeftFunc(line[end:], unicode.IsSpace)}
}
