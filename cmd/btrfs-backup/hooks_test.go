package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hooked is a configuration with hooks around everything, which write a diary.
type hooked struct {
	testing.TB
	dir         string
	source      string
	destination string
	scripts     map[string]string // what a hook does after its line in the diary, by that line
	more        string            // lines of all hooks
}

func newHooked(t testing.TB) *hooked {
	t.Helper()
	source, destination := newSmallPair(t)
	return &hooked{TB: t, dir: t.TempDir(), source: source, destination: destination, scripts: make(map[string]string)}
}

func (h *hooked) hook(table, name, around string) string {
	words := func(line string) string {
		return fmt.Sprintf(`["sh", "-c", '''echo "%s${BTRFS_BACKUP_STATUS:+ $BTRFS_BACKUP_STATUS}" >>"%s/diary"; %s''']`, line, h.dir, h.scripts[line])
	}
	return fmt.Sprintf("[[%s]]\nname = %q\naround = %q\nbefore = %s\nafter = %s\n%s\n", table, name, around, words("+"+name), words("-"+name), h.more)
}

// run does the jobs, a later one of which has no hooks.
func (h *hooked) run(args ...string) result {
	h.Helper()
	file := filepath.Join(h.dir, "config.toml")
	text := h.hook("hook", "all", "run") +
		fmt.Sprintf("[job.home]\nsource = %q\ndestination = %q\n", h.source, h.destination) +
		h.hook("job.home.hook", "job", "run") + h.hook("job.home.hook", "db", "snapshot") + h.hook("job.home.hook", "net", "transfer") +
		fmt.Sprintf("[job.later]\nsource = %q\nsnapshot-folder = \"later\"\n", h.source)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
	return invoke(h, h.environ(), append([]string{"run", "--config", file}, args...)...)
}

func (h *hooked) command(args ...string) *exec.Cmd {
	cmd := exec.Command("btrfs-backup", args...)
	cmd.Env = append(os.Environ(), h.environ()...)
	return cmd
}

func (h *hooked) environ() []string {
	return []string{testOnlyRun + "=" + filepath.Join(h.dir, "run"), "XDG_STATE_HOME=" + filepath.Join(h.dir, "state")}
}

// wrote fails the test unless the diary has these lines.
func (h *hooked) wrote(want ...string) {
	h.Helper()
	content, _ := os.ReadFile(filepath.Join(h.dir, "diary"))
	if got := strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", ", "); got != strings.Join(want, ", ") {
		h.Errorf("what ran: %s\nwant:     %s", got, strings.Join(want, ", "))
	}
	_ = os.Remove(filepath.Join(h.dir, "diary"))
}

// isBalanced fails the test unless the after of each before ran, once and in reverse.
func (h *hooked) isBalanced() {
	h.Helper()
	content, _ := os.ReadFile(filepath.Join(h.dir, "diary"))
	var open []string
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		name, _, _ := strings.Cut(line[1:], " ")
		if line[0] == '+' {
			open = append(open, name)
		} else if last := len(open) - 1; last >= 0 && open[last] == name {
			open = open[:last]
		} else {
			open = append(open, line)
		}
	}
	if len(open) > 0 {
		h.Errorf("no pairs: %q in %q", open, content)
	}
}

// has fails the test unless there are so many snapshots of both jobs and backups.
func (h *hooked) has(snapshots, later, backups int) {
	h.Helper()
	for dir, want := range map[string]int{filepath.Join(h.source, "snapshot"): snapshots, filepath.Join(h.source, "later"): later, h.destination: backups} {
		if found, _ := filepath.Glob(filepath.Join(dir, "2*")); len(found) != want {
			h.Errorf("%s holds %v, want %d", dir, found, want)
		}
	}
}

func TestHooksOfARunStandAroundEachOther(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	expect(t, exitDone, h.run())
	h.wrote("+all", "+job", "+db", "-db ok", "+net", "-net ok", "-job ok", "-all ok")
	h.has(1, 1, 1)
}

func TestAHookThatFailsEndsWhatItStandsAround(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line, script, more  string
		status                    int
		ran                       string
		snapshots, later, backups int
	}{
		{"before all", "+all", "exit 1", "", exitFailed, "+all", 0, 0, 0},
		{"before all, a skip", "+all", "exit 75", "", exitDone, "+all", 0, 0, 0},
		{"before the job", "+job", "exit 1", "", exitPartly, "+all, +job, -all failed", 0, 1, 0},
		{"before the job, a skip", "+job", "exit 75", "", exitDone, "+all, +job, -all ok", 0, 1, 0},
		{"before the job, critical", "+job", "exit 1", "critical = true", exitFailed, "+all, +job, -all failed", 0, 0, 0},
		{"before the snapshot", "+db", "exit 1", "", exitPartly, "+all, +job, +db, -job failed, -all failed", 0, 1, 0},
		{"before the snapshot, a skip", "+db", "exit 75", "", exitDone, "+all, +job, +db, -job skipped, -all ok", 0, 1, 0},
		{"before the snapshot, critical", "+db", "exit 1", "critical = true", exitFailed, "+all, +job, +db, -job failed, -all failed", 0, 0, 0},
		{"before the snapshot, optional", "+db", "exit 1", "optional = true", exitDone, "+all, +job, +db, +net, -net ok, -job ok, -all ok", 1, 1, 1},
		{"after the snapshot", "-db", "exit 1", "", exitPartly, "+all, +job, +db, -db ok, +net, -net failed, -job failed, -all failed", 1, 1, 1},
		{"after the snapshot, critical", "-db", "exit 1", "critical = true", exitPartly, "+all, +job, +db, -db ok, +net, -net failed, -job failed, -all failed", 1, 0, 1},
		{"before the transfer", "+net", "exit 1", "", exitPartly, "+all, +job, +db, -db ok, +net, -job failed, -all failed", 1, 1, 0},
		{"after the job", "-job", "exit 1", "", exitPartly, "+all, +job, +db, -db ok, +net, -net ok, -job ok, -all failed", 1, 1, 1},
		{"after all", "-all", "exit 1", "", exitPartly, "+all, +job, +db, -db ok, +net, -net ok, -job ok, -all ok", 1, 1, 1},
		{"no end", "+db", "trap '' TERM; while :; do sleep 1; done", `timeout = "2s"`, exitPartly, "+all, +job, +db, -db failed, -job failed, -all failed", 0, 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHooked(t)
			h.scripts[test.line], h.more = test.script, test.more
			ended := expect(t, test.status, h.run())
			h.wrote(strings.Split(test.ran, ", ")...)
			h.has(test.snapshots, test.later, test.backups)
			if told := strings.Count(ended.stderr, "btrfs-backup: error: "); test.status != exitDone && told != 1 {
				t.Errorf("%d errors are told:\n%s", told, ended.stderr)
			}
		})
	}
}

func TestAftersRunWhenASignalEndsTheProgramInAnyPhase(t *testing.T) {
	t.Parallel()
	const (
		ends = "kill -TERM $PPID; exec sleep 1000"
		goes = "kill -TERM $PPID"
	)
	tests := []struct{ name, line, script, ran string }{
		{"before all", "+all", ends, "+all, -all failed"},
		{"before the job", "+job", ends, "+all, +job, -job failed, -all failed"},
		{"before the snapshot", "+db", ends, "+all, +job, +db, -db failed, -job failed, -all failed"},
		{"after the snapshot", "-db", goes, ""},
		{"before the transfer", "+net", ends, "+all, +job, +db, -db ok, +net, -net failed, -job failed, -all failed"},
		{"in the transfer", "", "", "+all, +job, +db, -db ok, +net, -net failed, -job failed, -all failed"},
		{"after the transfer", "-net", goes, ""},
		{"after the job", "-job", goes, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHooked(t)
			if h.scripts[test.line] = test.script; test.line == "" {
				h.destination = "shell://cat >/dev/null; " + ends
			}
			expect(t, 128+int(syscall.SIGTERM), h.run())
			if test.ran == "" { // how soon the program takes the signal is not known
				h.isBalanced()
			} else {
				h.wrote(strings.Split(test.ran, ", ")...)
			}
			left := invoke(t, h.environ(), "hooks", "finish")
			if expect(t, exitDone, left); left.stderr != "" {
				t.Errorf("afters were left: %s", left.stderr)
			}
		})
	}
}

func TestTheNextRunEndsWhatHooksOfAKilledOneBegan(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"run", "hooks finish"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			h := newHooked(t)
			place := h.destination
			h.destination = "shell://kill -9 $PPID; exec sleep 1000"
			if killed := h.run(); killed.status != 128+int(syscall.SIGKILL) {
				t.Fatalf("exit status %d", killed.status)
			}
			h.wrote("+all", "+job", "+db", "-db ok", "+net")
			if by != "run" {
				expect(t, exitDone, invoke(t, h.environ(), "hooks", "finish"), "hook net of job home: process ", "was killed in the transfer: its after runs now")
				h.wrote("-net failed", "-job failed", "-all failed")
				return
			}
			h.destination = place
			expect(t, exitDone, h.run(), "hook net of job home: process ", "was killed in the transfer: its after runs now")
			h.wrote("-net failed", "-job failed", "-all failed", "+all", "+job", "+net", "-net ok", "-job ok", "-all ok")
			h.has(1, 1, 1) // the snapshot that was there was sent
		})
	}
}

func TestALeftOverAfterThatFailsIsToldAndStopsNoJob(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	place := h.destination
	h.destination, h.scripts["-net"] = "shell://kill -9 $PPID", "exit 1"
	if killed := h.run(); killed.status != 128+int(syscall.SIGKILL) {
		t.Fatalf("exit status %d", killed.status)
	}
	h.destination, h.scripts["-net"] = place, ""
	expect(t, exitPartly, h.run(), "error: job home: hook net after the transfer: exit status 1")
	h.has(1, 1, 1)
}

func TestAHookThatIsNotExecutableIsAnErrorOfTheConfiguration(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	program := filepath.Join(h.dir, "stop")
	write(t, program, "#!/bin/sh\n")
	h.more = fmt.Sprintf("[[job.home.hook]]\nbefore = [%q]\nuser = \"no-such-user\"", program)
	expect(t, exitUsage, h.run(), program+" is not executable", "hint: chmod +x "+program, "no-such-user is unknown", "config.toml:")
	h.wrote()
	h.has(0, 0, 0)
	file := filepath.Join(h.dir, "config.toml")
	expect(t, exitUsage, invoke(t, h.environ(), "config", "check", "--config", file), program+" is not executable")
	expect(t, exitDone, invoke(t, h.environ(), "config", "show", "--config", file, "home"))
	if told := expect(t, exitDiffer, invoke(t, h.environ(), "status", "--config", file)); !strings.Contains(told.stdout, "NEVER") {
		t.Errorf("told: %s", told.stdout)
	}
}
