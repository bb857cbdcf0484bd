package attributes

import (
	"errors"
	"fmt"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"

	"golang.org/x/sys/unix"
)

// A Report tells what was set.
type Report struct {
	Files   int64    `json:"files"`              // all of whose flags are set
	Failed  []Failed `json:"failed,omitempty"`   // the first ones
	Missed  int64    `json:"missed,omitempty"`   // all that failed
	LeftOut int      `json:"left_out,omitempty"` // List.LeftOut
}

// Failed is a file that has not all of its flags.
type Failed struct {
	Path  string      `json:"path"`
	Flags btrfs.Flags `json:"flags"` // that it lacks
	Why   string      `json:"why,omitempty"`
}

// Lines tells people of it.
func (r Report) Lines() (lines []string) {
	if r.Files > 0 {
		of := fmt.Sprintf("%d files and directories", r.Files)
		if r.Files == 1 {
			of = "1 file or directory"
		}
		lines = append(lines, fmt.Sprintf("what chattr had set of %s is set again", of))
	}
	const most = 5
	for _, f := range r.Failed[:min(most, len(r.Failed))] {
		lines = append(lines, fmt.Sprintf("%s lacks the attribute %s: %s", progress.Name(f.Path), f.Flags, f.Why))
	}
	if r.Missed > most {
		lines = append(lines, fmt.Sprintf("... and %d more; --json names them", r.Missed-most))
	}
	return lines
}

const mostFailed = 100

// Set gives the files beneath a directory the flags of a list, the last those that keep a file as it is. It goes on after failures: a
// file with content cannot be made one that is not copied on write.
func Set(root *os.File, l List) (r Report) {
	const pinning = btrfs.ImmutableFlag | btrfs.AppendFlag
	lacks, why := make(map[string]btrfs.Flags), make(map[string]string)
	for _, pass := range []btrfs.Flags{btrfs.KnownFlags &^ pinning, btrfs.KnownFlags} {
		for _, f := range l.Files {
			if f.Flags&pinning == 0 && pass == btrfs.KnownFlags || pass != btrfs.KnownFlags && f.Flags&pass == 0 {
				continue
			}
			missing, err := set1(root, f.Path, f.Flags&pass)
			if lacks[f.Path] = missing; err != nil {
				why[f.Path] = err.Error()
			}
		}
	}
	for _, f := range l.Files {
		missing := lacks[f.Path]
		if missing == 0 {
			r.Files++
			continue
		}
		if r.Missed++; len(r.Failed) < mostFailed {
			reason := why[f.Path]
			if missing == btrfs.NoCowFlag && reason == "" {
				reason = "only an empty file can be given it"
			}
			r.Failed = append(r.Failed, Failed{f.Path, missing, reason})
		}
	}
	r.LeftOut = l.LeftOut
	return r
}

// set1 gives what could not be set of one file.
func set1(root *os.File, path string, flags btrfs.Flags) (missing btrfs.Flags, err error) {
	file, err := open(root, path)
	if err != nil {
		return flags, err
	}
	defer file.Close()
	if err = btrfs.SetFlags(file, flags); err != nil { // some go not together, or not with a property
		for bit := btrfs.Flags(1); bit != 0; bit <<= 1 {
			if flags&bit == 0 {
				continue
			}
			if now, nowErr := btrfs.FlagsOf(file); nowErr == nil {
				err = btrfs.SetFlags(file, now|bit)
			}
		}
	}
	got, gotErr := btrfs.FlagsOf(file)
	if missing = flags &^ got; missing == 0 {
		return 0, nil
	}
	return missing, errors.Join(err, gotErr)
}

// open opens a file or a directory, and nothing that does something when it is opened.
func open(root *os.File, path string) (*os.File, error) {
	f, err := btrfs.OpenUnmounted(root, path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil, errors.New("it is neither a file nor a directory")
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}
