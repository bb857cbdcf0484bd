package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// printPeers prints a table in Markdown: of each phase the median of the time that passed, and of the time of processors.
func printPeers(w io.Writer, all []peer, courses map[string][]course) {
	fmt.Fprintf(w, "\n| wall / CPU, in seconds       | to   ")
	for _, phase := range phases {
		fmt.Fprintf(w, " | %-15s", phase)
	}
	fmt.Fprint(w, " | space    | memory  |\n|:-----------------------------|:------")
	fmt.Fprint(w, strings.Repeat("|----------------:", len(phases)), "|---------:|--------:|\n")
	for _, who := range all {
		fmt.Fprintf(w, "| %-28s | %-5s", who.name, who.filesystem)
		var peak int64
		for phase := range phases {
			var took []usage
			for _, c := range courses[who.name] {
				took = append(took, c.took[phase])
			}
			u := middle(took)
			peak = max(peak, u.peak)
			fmt.Fprintf(w, " | %6.2f / %6.2f", u.wall.Seconds(), u.cpu.Seconds())
		}
		// the same amount but for chance: the last one will do
		last := courses[who.name][len(courses[who.name])-1]
		fmt.Fprintf(w, " | %8s | %7s |\n", mebibytes(last.space), mebibytes(peak))
	}
}

// A machineState tells on what, and with what, was measured.
type machineState struct {
	commit, cpu, load string
	versions          []string
}

func describeMachine() machineState {
	m := machineState{commit: "unknown", cpu: "processor", load: load()}
	// --always: there may be no tag; sudo's root does not own the files
	if commit, err := exec.Command("git", "-c", "safe.directory=*", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		m.commit = strings.TrimSpace(string(commit))
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); model != nil {
			m.cpu = string(model[1])
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		m.versions = append(m.versions, "Linux "+version(unix.ByteSliceToString(name.Release[:])))
	}
	for _, ask := range []string{"btrfs --version", "btrbk --version", "rsync --version", "rsnapshot version", "restic version", "borg --version"} {
		program, word, _ := strings.Cut(ask, " ")
		if said, err := exec.Command(program, word).Output(); err == nil { // else it is not here, and takes no part
			m.versions = append(m.versions, program+" "+version(string(said)))
		}
	}
	return m
}

// version finds the version in what a program says of itself.
func version(said string) string { return regexp.MustCompile(`\d+(\.\d+)+`).FindString(said) }

// load gives that of the last minute.
func load() string {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(average))[0]
}

// sentences tell what the results are of, at the end of the measurement.
func (m machineState) sentences(rounds int, tree peerTree) string {
	figures := fmt.Sprintf("Medians of %d rounds", rounds)
	if rounds == 1 {
		figures = "One round"
	}
	busy := ""
	if before, err := strconv.ParseFloat(m.load, 64); err == nil && before > 1 {
		busy = "\n**The machine was busy with other work**, so times may be a multiple of those of one that is not."
	}
	return fmt.Sprintf(`%s at commit %s on %s: a tree of %d MiB in %d files. Load %s before, and %s at the end; %d cores, %s;
%s.%s`, figures, m.commit, time.Now().Format(time.DateOnly), tree.bytes/mib, tree.small()+largeFiles, m.load, load(),
		runtime.NumCPU(), m.cpu, strings.Join(m.versions, ", "), busy)
}

// The lines of a document between which its results are.
const (
	resultsBegin = "<!-- results of scripts/bench --peers -->\n"
	resultsEnd   = "<!-- end of results -->\n"
)

// replaceResults replaces the results in a document, and nothing else.
func replaceResults(file string, results []byte) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(old, []byte(resultsBegin))
	_, after, ends := bytes.Cut(rest, []byte(resultsEnd))
	if !begins || !ends {
		return fmt.Errorf("%s: results have no place there, between %q and %q", file, resultsBegin, resultsEnd)
	}
	return os.WriteFile(file, []byte(string(before)+resultsBegin+string(results)+resultsEnd+string(after)), 0o644)
}
