// Package hook runs programs before and after parts of a backup: to stop a database while its snapshot is taken, to open and
// close what is needed.
//
// The befores of a part run in order, the afters in reverse: of each hook whose before succeeded or was killed, so that it may have
// had an effect, whatever became of the part, and also when the run is ended by a signal. Before a before runs, its after is noted
// on disk, so that Finish runs it if the run is killed. An after may therefore run twice, or without its before.
//
// A hook is an argument vector, never a line for a shell. It reads nothing, runs in / and in a process group of its own, and that
// group is ended when its time is over. Variables tell it what it is for; what it says is logged.
package hook

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// A Phase is a part of a backup.
type Phase string

// The phases, of which each but the first is within that.
const (
	Run      Phase = "run"      // all of a job
	Snapshot Phase = "snapshot" // taking a snapshot, or copying a source that has none
	Transfer Phase = "transfer" // sending snapshots, and retention
)

// A Hook is what a user wants to run around a phase.
type Hook struct {
	Name     string        `toml:"name"` // in messages; "": that of its program
	Before   []string      `toml:"before"`
	After    []string      `toml:"after"`
	Around   string        `toml:"around"`   // a Phase; "": Run
	Timeout  time.Duration `toml:"timeout"`  // of each of them; 0: 10 minutes
	Critical bool          `toml:"critical"` // a failure ends the whole run, not only the job
	Optional bool          `toml:"optional"` // a failure is a warning
	User     string        `toml:"user"`     // as whom it runs; "": as this program does
}

// DefaultTimeout is that of a hook without one.
const DefaultTimeout = 10 * time.Minute

func (h Hook) title() string {
	for _, argv := range [][]string{h.Before, h.After} {
		if h.Name == "" && len(argv) > 0 {
			return transport.ProgramName(argv)
		}
	}
	return h.Name
}

func (h Hook) phase() Phase { return cmp.Or(Phase(h.Around), Run) }

// Check gives all that can be said against what the hook says.
func (h Hook) Check() hint.Complaints {
	var c hint.Complaints
	if !slices.Contains([]Phase{Run, Snapshot, Transfer}, h.phase()) {
		c.Add("around", "use run, snapshot or transfer", "%s is unknown", h.Around)
	}
	if len(h.Before)+len(h.After) == 0 {
		c.Add("before", `give before or after, such as ["systemctl", "stop", "mariadb"]`, "is missing, and so is after: there is nothing to run")
	}
	if h.Timeout < 0 {
		c.Add("timeout", "use a time such as 2m", "%s is not a time to wait", h.Timeout)
	}
	if h.Critical && h.Optional {
		c.Add("optional", "choose one", "contradicts critical: a failure is a warning or ends the run")
	}
	return c
}

// CheckHere gives all that this machine lacks to run the hook.
func (h Hook) CheckHere() hint.Complaints {
	var c hint.Complaints
	checkProgram("before", h.Before, &c)
	checkProgram("after", h.After, &c)
	if _, err := as(h.User); errors.As(err, new(user.UnknownUserError)) {
		c.Add("user", "name a user of /etc/passwd", "%s is unknown", h.User)
	} else if err != nil {
		c.Add("user", "name a user of /etc/passwd", "%s: %w", h.User, err)
	}
	return c
}

// checkProgram complains of what could not be started.
func checkProgram(setting string, argv []string, c *hint.Complaints) {
	if len(argv) == 0 {
		return
	}
	name := argv[0]
	_, err := exec.LookPath(name)
	inner := new(exec.Error)
	if errors.As(err, &inner) {
		err = hint.WithoutPath(inner.Err, name)
	}
	switch {
	case name == "" || strings.Contains(name, "/") && !filepath.IsAbs(name):
		c.Add(setting, "begin with a slash, or name a program that is in PATH", "%q is no absolute path", name)
	case errors.Is(err, exec.ErrNotFound):
		c.Add(setting, "install it, or give its path. A line for a shell is [\"sh\", \"-c\", \"...\"]", "%q is not in PATH", name)
	case errors.Is(err, fs.ErrPermission):
		c.Add(setting, "chmod +x "+transport.Quote(name), "%s is not executable", name)
	case err != nil:
		c.Add(setting, "give the path of a program", "%s: %w", name, err)
	}
}

// an identity is as whom a hook runs.
type identity struct {
	credential *syscall.Credential // nil: as this program does
	env        []string
}

// as gives the identity of a user.
func as(name string) (identity, error) {
	if name == "" {
		return identity{}, nil
	}
	found, err := user.Lookup(name)
	if err != nil {
		return identity{}, err
	}
	groups, err := found.GroupIds()
	if err != nil {
		return identity{}, err
	}
	id := identity{env: []string{"HOME=" + found.HomeDir, "USER=" + name, "LOGNAME=" + name}}
	if found.Uid == strconv.Itoa(os.Geteuid()) {
		return id, nil
	}
	numbers := make([]uint32, 0, len(groups)+2)
	for _, text := range append([]string{found.Uid, found.Gid}, groups...) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return identity{}, fmt.Errorf("user %s: %w", name, err)
		}
		numbers = append(numbers, uint32(n))
	}
	id.credential = &syscall.Credential{Uid: numbers[0], Gid: numbers[1], Groups: numbers[2:]}
	return id, nil
}
