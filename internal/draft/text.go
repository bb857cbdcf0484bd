package draft

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Choice is what a user chose.
type Choice struct {
	Sources     []Source
	Destination string // a folder for a folder of each source: here, or HOST:/PATH
	Rsync       bool   // the destination takes no subvolumes
	Disk        *Disk  // that holds the destination and may be away

	Log           string // a directory; "": none
	Every         string
	KeepSnapshots string // of sources that have snapshots
	KeepBackups   string
}

// A Source is a directory.
type Source struct {
	Path      string
	Subvolume bool
}

// HasSnapshots tells that there is a source of which snapshots are taken.
func (c Choice) HasSnapshots() bool {
	return !c.Rsync && slices.ContainsFunc(c.Sources, func(s Source) bool { return s.Subvolume })
}

// Text is the configuration.
func (c Choice) Text() string {
	var b strings.Builder
	b.WriteString(headText)
	if c.Log != "" {
		fmt.Fprintf(&b, "\nlog = %s # info.log has a line for each backup\n", strconv.Quote(c.Log))
	}
	fmt.Fprintf(&b, defaultText, strconv.Quote(c.Every), strconv.Quote(c.KeepBackups))
	if c.Rsync {
		fmt.Fprintf(&b, "engine = \"rsync\" # copies of directories: the destination is not on btrfs\n")
	}
	if c.Disk != nil {
		fmt.Fprintf(&b, diskText, nameOf(filepath.Base(c.Disk.Mount)), strconv.Quote(c.Disk.Mount), c.Disk.UUID)
	}
	taken := make(map[string]bool)
	for _, source := range c.Sources {
		name := nameOf(strings.Trim(source.Path, "/"))
		for unique, n := name, 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", unique, n)
		}
		taken[name] = true
		fmt.Fprintf(&b, jobText, name, strconv.Quote(source.Path), strconv.Quote(strings.TrimSuffix(c.Destination, "/")+"/"+name))
		if source.Subvolume && !c.Rsync {
			fmt.Fprintf(&b, "keep-snapshots = %s # here\n", strconv.Quote(c.KeepSnapshots))
		}
	}
	return b.String() + tailText
}

const headText = `# What is backed up, where to, and when. All keys: man btrfs-backup.toml
# After a change:  btrfs-backup config check
`

const defaultText = `
[default]
every = %s # hourly, daily, weekly, monthly; or 6h, 2d
keep-backups = %s # one for each of the newest days, weeks, ...
`

const diskText = `
[disk.%s]
mount = %s
uuid = "%s"
when-absent = "skip" # that it is away is no failure; "fail" makes it one
`

const jobText = `
[job.%s]
source = %s
destination = %s
`

const tailText = `
# More for a job; see the manual:
#   exclude = ["*.iso"]                  what rsync leaves out
#   max-age = "3d"                       warn when there is no newer backup
#   destination = ["/mnt/usb/home", "root@nas:/backup/home"]
`

// nameOf makes a name of a path that a key in TOML can be.
func nameOf(path string) string {
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, path)
	if name == "" {
		return "root"
	}
	return name
}
