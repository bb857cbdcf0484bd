package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

var errBusy = errors.New("in use")

// BusyError tells that a disk is still open, since it is in use.
type BusyError struct {
	Path    string // what could not be closed
	Action  string // what was tried: "unmounting"
	Holders []Holder
}

// A Holder uses a disk.
type Holder struct {
	PID     int    // 0: no process, but something else
	Command string // of the process, or what the something else is
	Path    string
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("%s %s", h.Command, h.Path)
	}
	return fmt.Sprintf("process %d (%s) at %s", h.PID, h.Command, h.Path)
}

func (e *BusyError) Error() string {
	const most = 5
	var names []string
	for _, h := range e.Holders[:min(len(e.Holders), most)] {
		names = append(names, h.String())
	}
	if more := len(e.Holders) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	by := strings.Join(names, ", ")
	if by == "" {
		by = "something that is no process: the kernel's NFS server, or a swap file"
	}
	return fmt.Sprintf("%s %s: in use by %s", e.Action, e.Path, by)
}

// Hint gives the way forward.
func (e *BusyError) Hint() string { return "end that; the next run closes the disk" }

// holdersOfMount finds what keeps a directory from being unmounted: each process once.
func holdersOfMount(dir string) (holders []Holder) {
	dir = realPath(dir)
	table, _ := mountinfo.GetMounts(nil)
	for _, m := range table {
		if m.Mountpoint != dir && isIn(m.Mountpoint, dir) {
			holders = append(holders, Holder{Command: "what is mounted at", Path: m.Mountpoint})
		}
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range backing {
		if content, _ := os.ReadFile(file); isIn(strings.TrimSpace(string(content)), dir) {
			device := filepath.Base(filepath.Dir(filepath.Dir(file)))
			holders = append(holders, Holder{Command: device + " with", Path: strings.TrimSpace(string(content))})
		}
	}
	for _, pid := range processes() {
		if path := usedBy(pid, dir); path != "" {
			holders = append(holders, Holder{pid, command(pid), path})
		}
	}
	return holders
}

// holdersOfDevice finds where a device is mounted, also in the mount namespaces of others: each of these once.
func holdersOfDevice(device string) (holders []Holder) {
	var namespaces []string
	device = realPath(device)
	for _, pid := range append([]int{os.Getpid()}, processes()...) {
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if err != nil || slices.Contains(namespaces, namespace) {
			continue
		}
		namespaces = append(namespaces, namespace)
		table, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			continue
		}
		mounts, _ := mountinfo.GetMountsFromReader(table, nil)
		table.Close()
		for _, m := range mounts {
			if realPath(m.Source) != device {
				continue
			}
			h := Holder{Command: "what is mounted at", Path: m.Mountpoint}
			if len(namespaces) > 1 {
				h.PID, h.Command = pid, command(pid)
			}
			holders = append(holders, h)
		}
	}
	return holders
}

func processes() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// usedBy gives a path in a directory that a process uses: by its working directory, root, program, open files or mapped ones.
func usedBy(pid int, dir string) (path string) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	links, _ := filepath.Glob(proc + "fd/*")
	for _, link := range append([]string{proc + "cwd", proc + "root", proc + "exe"}, links...) {
		if path, err := os.Readlink(link); err == nil && isIn(path, dir) {
			return path
		}
	}
	maps, _ := os.ReadFile(proc + "maps")
	for line := range strings.Lines(string(maps)) {
		// 7f..-7f.. r-xp 00000000 fd:01 1234   /usr/lib/libc.so.6
		if _, path, found := strings.Cut(line, " /"); found && isIn("/"+strings.TrimSuffix(path, "\n"), dir) {
			return "/" + strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}

func command(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

func isIn(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
