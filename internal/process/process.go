// Package process makes of the surroundings that a process was started in what the program can rely on.
package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// IsJournal tells whether a file is the one that systemd names, by device and inode: see systemd.exec(5).
func IsJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	return stream != "" && unix.Fstat(int(f.Fd()), &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// UsablePath adds to a PATH where some distributions keep btrfs, which that of cron lacks. Without one it is the usual one. An
// empty element, which stands for the working directory, is left out.
func UsablePath(path string) string {
	dirs := slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool { return dir == "" })
	if len(dirs) == 0 {
		dirs = []string{"/usr/local/bin", "/usr/bin", "/bin"}
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// POSIXZone understands a time zone such as CET-1CEST,M3.5.0,M10.5.0/3. Go does so only at the end of a file of zones: see RFC
// 8536. What it does not understand is UTC, as it is for date(1).
func POSIXZone(rule string) (*time.Location, error) {
	const (
		header = "TZif2" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		counts = "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x01" + "\x00\x00\x00\x04"
		utc    = "\x00\x00\x00\x00" + "\x00\x00" + "UTC\x00"
		block  = header + counts + utc
	)
	return time.LoadLocationFromTZData("Local", []byte(block+block+"\n"+rule+"\n"))
}
