package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// A farRig is a rig whose destination lies on another machine.
type farRig struct {
	*rig
	far *link
	url string // of the destination, as the program names it
}

func newFarRig(t testing.TB, o sshtest.Options) *farRig {
	t.Helper()
	return newFarRigOn(t, o, rigSize)
}

// newFarRigOn makes a rig with a destination filesystem of that size.
func newFarRigOn(t testing.TB, o sshtest.Options, size int64) *farRig {
	t.Helper()
	btrfstest.RequireRoot(t)
	f := &farRig{far: newLink(t, o)}
	f.rig = &rig{TB: t, sourceFS: btrfstest.New(t, rigSize), destinationFS: btrfstest.New(t, size), past: &past{}}
	f.source, f.destination = filepath.Join(f.sourceFS.Dir, "home"), filepath.Join(f.destinationFS.Dir, "backups")
	f.url = f.far.place(f.destination)
	btrfstest.Run(t, "btrfs", "subvolume", "create", f.source)
	btrfstest.SmallFiles(t, f.source, 20, 1)
	f.change()
	expect(t, exitDone, f.send())
	f.change()
	return f
}

// inFar gives the rig to a subtest.
func (f *farRig) inFar(t testing.TB) *farRig {
	sub := *f
	sub.rig = f.rig.in(t)
	return &sub
}

// to prepares a run from the source to the places, of which none stands for the destination. What the options say of SSH
// comes before what the link says, so that it counts.
func (f *farRig) to(options []string, places ...string) *exec.Cmd {
	if len(places) == 0 {
		places = []string{f.url}
	}
	return f.commandTo(nil, slices.Concat(options, f.far.options, []string{f.source}, places)...)
}

func (f *farRig) send(options ...string) result {
	f.Helper()
	return invokeCmd(f, f.to(options))
}

// healsFar fails the test unless a plain run saves all there is, leaves nothing else, and no process behind.
func (f *farRig) healsFar(options ...string) result {
	f.Helper()
	healed := expect(f, exitDone, f.send(options...))
	f.isSavedFar()
	f.far.noSession(f)
	return healed
}

// isSavedFar is isSaved for the destination.
func (f *farRig) isSavedFar() {
	f.Helper()
	f.isSaved(f.destination)
	if outstanding := f.ledger()[f.newest()].Locks; slices.Contains(outstanding, f.url) {
		f.Fatalf("the ledger still says that %s lacks %s", f.url, f.newest())
	}
}

// transferSize is what a transfer brings that something happens to on the way, and transferRate gives that the time.
const transferSize = 20 << 20

// slowly are options for such a transfer.
func slowly(more ...string) []string {
	return append([]string{"--rate-limit", "10M", "--compress", "none"}, more...)
}

// midway starts a run that sends transferSize bytes, and waits until some of it has been received.
func (f *farRig) midway(options ...string) *background {
	f.Helper()
	f.write("large", transferSize)
	before := f.far.proxy.Up.Load()
	run := start(f, f.to(slowly(options...)))
	f.far.crosses(f, before+transferSize/3)
	return run
}

// crosses waits until so many bytes have gone up the link.
func (l *link) crosses(t testing.TB, n int64) {
	t.Helper()
	eventually(t, func() bool { return l.proxy.Up.Load() >= n }, func() string {
		return fmt.Sprintf("%d bytes went up, not %d", l.proxy.Up.Load(), n)
	})
}

// sessions gives the processes that the sshd started for its clients. sshd(8) tells them its port in SSH_CONNECTION.
func (r *remote) sessions() []int {
	var pids []int
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		ours := func(variable string) bool {
			return strings.HasPrefix(variable, "SSH_CONNECTION=") && strings.HasSuffix(variable, fmt.Sprintf(" %d", r.Port))
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && slices.ContainsFunc(strings.Split(string(environ), "\x00"), ours) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// noSession fails the test if a process of the remote's sessions stays.
func (r *remote) noSession(t testing.TB) {
	t.Helper()
	eventually(t, func() bool { return len(r.sessions()) == 0 }, func() string {
		what := ""
		for _, pid := range r.sessions() {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			what += fmt.Sprintf("\n%d: %s", pid, strings.ReplaceAll(string(line), "\x00", " "))
		}
		return "sessions stay:" + what
	})
}

// keeper waits for the agent that receives: the one that has the unfinished backup open.
func (f *farRig) keeper() (pid int) {
	f.Helper()
	eventually(f, func() bool {
		keepers := slices.DeleteFunc(f.far.sessions(), func(pid int) bool { return !hasOpen(pid, btrfs.Incoming(f.newest())) })
		if len(keepers) > 0 {
			pid = keepers[0]
		}
		return len(keepers) == 1
	}, func() string { return "no single agent has " + btrfs.Incoming(f.newest()) + " open" })
	return pid
}

// hasOpen tells whether a process has an open file with this in its path.
func hasOpen(pid int, part string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(files, func(file string) bool {
		path, _ := os.Readlink(file)
		return strings.Contains(path, part)
	})
}

func parent(t testing.TB, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	btrfstest.Check(t, err)
	_, rest, _ := strings.Cut(string(stat), ") ") // proc(5): pid (comm) state ppid
	ppid, err := strconv.Atoi(strings.Fields(rest)[1])
	btrfstest.Check(t, err)
	return ppid
}

func kill(t testing.TB, pid int) {
	t.Helper()
	btrfstest.Check(t, syscall.Kill(pid, syscall.SIGKILL))
}

// A standIn is a program that stands in front of another one in PATH.
type standIn struct{ dir string }

// newStandIn makes a program of a script, which finds in $real what it stands in front of, in $dir a directory of its own.
func newStandIn(t testing.TB, name, script string) standIn {
	t.Helper()
	s := standIn{t.TempDir()}
	real, _ := exec.LookPath(name) // there may be none
	text := fmt.Sprintf("#!/bin/sh\ndir='%s' real='%s'\n%s\n", s.dir, real, script)
	btrfstest.WriteProgram(t, filepath.Join(s.dir, name), text)
	return s
}

// options are those of an sshd whose sessions find the program in PATH.
func (s standIn) options() sshtest.Options {
	return sshtest.Options{Env: []string{"PATH=" + s.dir + ":" + os.Getenv("PATH")}}
}

// newAgent makes a script stand in front of this program.
func newAgent(t testing.TB, script string) standIn {
	t.Helper()
	return newStandIn(t, "btrfs-backup", script)
}

// briefly is a script for agents that keep an interrupted transfer for a moment.
const briefly = `exec "$real" "$@" --resume-window 500ms`
