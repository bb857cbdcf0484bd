// Package config reads jobs from files in TOML. A file says what a command line says, under the names of its options, and what
// surrounds the jobs: when they are due, disks, hooks, notices.
//
// All that is wrong is told at once, each with the line where it stands. A key that is not known is an error, as is a file that others
// could change: whoever can write it is root.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/notify"
)

// SystemFile is the configuration of the machine.
const SystemFile = "/etc/btrfs-backup/config.toml"

// DropIns is the directory beside DefaultFile whose files are read, too, in the order of their names.
const DropIns = "conf.d"

// DefaultFile is SystemFile for root. Others have one of their own, in $XDG_CONFIG_HOME or ~/.config.
func DefaultFile() string {
	dir, err := os.UserConfigDir()
	if os.Geteuid() == 0 || err != nil {
		return SystemFile
	}
	return filepath.Join(dir, "btrfs-backup/config.toml")
}

// A Config is what the files say.
type Config struct {
	Jobs     []*Job // in the order of the files
	Disks    Disks
	Hooks    []hook.Hook // around each run
	Notify   notify.Settings
	Log      string // the directory of log files; "": none
	Textfile string // for Prometheus; "": none

	nearest func(word string, names []string) string // what is misspelled, or ""
}

// Disks are those of a configuration.
type Disks []disk.Disk

// Of gives the disk that a place is on, nil if there is none.
func (d Disks) Of(p job.Place) *disk.Disk {
	local, isLocal := p.(job.Local)
	i := slices.IndexFunc(d, func(one disk.Disk) bool { return isLocal && one.Holds(local.Path) })
	if i < 0 {
		return nil
	}
	return &d[i]
}

// A Job is a job and what surrounds it.
type Job struct {
	Name    string
	Spec    job.Spec
	Options Options // that made the Spec
	Origin  Origin

	Every     due.Every
	MaxAge    time.Duration            // after which a backup counts as late; 0: twice Every
	MaxAgeAt  map[string]time.Duration // at single destinations, by name
	Auto      bool                     // run when it is due, not only when it is named
	Tags      []string
	Online    string // see package online; "": not looked at
	OnBattery bool   // run also on battery
	Metered   bool   // run also on a metered network
	Hooks     []hook.Hook

	settings []setting
}

// Options are those of the command line, bound to a Spec.
type Options interface {
	// Names are those that a job may have.
	Names() []string
	// Repeatable tells that an option may be given more than once.
	Repeatable(name string) bool
	// Set gives an option a value, as text. The error names the option.
	Set(name, value string) error
	// Complete ends the setting, and gives what is wrong with all of them together.
	Complete() job.Complaints
}

// A Source is where a configuration comes from.
type Source struct {
	File    string                                   // "": DefaultFile and its drop-ins
	Options func(*job.Spec) Options                  // makes them for a Spec
	Nearest func(word string, names []string) string // what is misspelled, or ""
	Look    bool                                     // no job is run, so that what hooks run may be missing
}

// Read reads a configuration. Errors about what it says are Complaints.
func Read(s Source) (*Config, error) {
	r := &reader{Source: s, root: newTable(Origin{}), config: &Config{nearest: s.Nearest}}
	files, err := r.files()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		r.load(file)
	}
	r.readAll()
	if err := r.complaints.Err(); err != nil {
		return nil, err
	}
	return r.config, nil
}

const manual = "see btrfs-backup.toml(5)"

// reader is the reading of a configuration.
type reader struct {
	Source
	root       *table
	config     *Config
	complaints hint.Complaints
	told       map[string]bool // of what several jobs inherit

	intervals map[string]string
	excludes  map[string]*table
}

// complain adds what is wrong at a line.
func (r *reader) complain(at Origin, forward, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	forward = cmp.Or(forward, hint.Of(err), manual)
	err = fmt.Errorf("%s: %w", at, err)
	if r.told[err.Error()] {
		return
	}
	if r.told == nil {
		r.told = make(map[string]bool)
	}
	r.told[err.Error()] = true
	r.complaints.Add("", forward, "%w", err)
}

// unknown complains of a key.
func (r *reader) unknown(t *table, key string, names []string) {
	forward := "the keys here: " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
	if near := r.Nearest(key, names); near != "" {
		forward = fmt.Sprintf("did you mean %s?", near)
	} else if len(names) == 0 || len(names) > 20 {
		forward = manual
	}
	r.complain(t.values[key].Origin, forward, "there is no key %q", key)
}

func (r *reader) files() ([]string, error) {
	if r.File != "" {
		return []string{r.File}, nil
	}
	first := DefaultFile()
	more, err := dropIns(filepath.Join(filepath.Dir(first), DropIns))
	if err != nil {
		r.complaints.Add("", "look at its owner and mode", "reading the configuration: %w", err)
		return nil, r.complaints
	}
	if _, err := os.Stat(first); !errors.Is(err, fs.ErrNotExist) {
		more = append([]string{first}, more...)
	} else if len(more) == 0 {
		forward := "btrfs-backup config init writes one; without it: btrfs-backup SOURCE DEST"
		if first != SystemFile {
			forward += "; that of the machine is for sudo, or --config " + SystemFile
		}
		return nil, hint.New(fmt.Errorf("there is no configuration %s", first), forward)
	}
	return more, nil
}

// dropIns gives the files of a directory in the order of their names. Hidden ones are those of editors.
func dropIns(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".toml") && name[0] != '.' {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, err
}

// load adds what a file says.
func (r *reader) load(file string) {
	content, err := readPrivate(file)
	if err != nil {
		r.complaints = append(r.complaints, hint.Complaint{Err: err})
		return
	}
	t, err := parse(file, content)
	if err != nil {
		r.complaints.Add("", manual+"; texts stand in quotes", "%w", err)
		return
	}
	for _, key := range t.keys {
		r.merge(r.root, key, t.values[key])
	}
}

// merge adds a value from another file. What both have is a mistake, unless it is a table whose keys differ.
func (r *reader) merge(into *table, key string, v value) {
	before, there := into.values[key]
	outer, isTable := before.any.(*table)
	inner, alsoTable := v.any.(*table)
	switch {
	case !there:
		into.set(key, v)
	case isTable && alsoTable && (into == r.root || into == r.root.values["exclude"].any):
		for _, key := range inner.keys {
			r.merge(outer, key, inner.values[key])
		}
	default:
		r.complain(v.Origin, "give it once", "%s stands at %s already", key, before.Origin)
	}
}
