package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// insteadOf runs the program, or what the test put in its place.
const insteadOf = `test -f "$dir/instead" || exec "$real" "$@"; . "$dir/instead"`

// becomes lets the program be a script from now on.
func (s standIn) becomes(t testing.TB, script string) {
	t.Helper()
	btrfstest.Check(t, os.WriteFile(filepath.Join(s.dir, "instead"), []byte(script+"\n"), 0o644))
}

func (s standIn) isItselfAgain(t testing.TB) {
	t.Helper()
	remove(t, filepath.Join(s.dir, "instead"))
}

// greets gives a script that says hello as this program does, but in another protocol.
func (s standIn) greets(t testing.TB, protocol int) (script string) {
	t.Helper()
	const magic = "\x00\xffbtrfs-backup\r\n" // as in transport/wire/hello.go: it never changes
	hello, err := wire.Encode(wire.Hello{Protocol: protocol, Version: "9.9"})
	btrfstest.Check(t, err)
	greeting := append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(hello))), hello...)
	file := filepath.Join(s.dir, "greeting")
	btrfstest.Check(t, os.WriteFile(file, greeting, 0o644))
	return "cat '" + file + "'; exec cat >/dev/null"
}

func TestRemoteOfAnotherProtocolTellsWhichSideToUpdate(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, insteadOf)
	f := newFarRig(t, agent.options())
	before := names(t, f.destination)
	for name, peer := range map[string]struct {
		protocol int
		hint     string
	}{
		"newer": {wire.Protocol + 98, "hint: update btrfs-backup on this machine"},
		"older": {wire.Protocol - 1, "hint: update btrfs-backup on the far side"},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.inFar(t)
			agent.becomes(t, agent.greets(t, peer.protocol))
			run := start(t, f.to([]string{"--agent", "installed"}))
			speaks := "btrfs-backup 9.9 on the far side speaks protocol"
			tellsOnce(t, expect(t, exitFailed, run.wait(), "btrfs-backup: error: ", f.url, speaks, peer.hint))
			f.holdsOnly(before)
			f.far.noSession(t)
		})
	}
	agent.isItselfAgain(t)
	f.healsFar()
}

// tellsOnce fails the test if a run told of one cause more than once.
func tellsOnce(t testing.TB, r result) {
	t.Helper()
	if n := strings.Count(r.stderr, "btrfs-backup: error:"); n != 1 {
		t.Errorf("%d errors for one cause:\n%s", n, r.stderr)
	}
}

func TestRemoteWhoseProgramDoesNotFitIsServedByThisOneOnlyIfThatMayBeBrought(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, insteadOf)
	f := newFarRig(t, agent.options())
	before, found := names(t, f.destination), ""
	for _, state := range []struct{ program, says, told string }{
		{`echo "unrecognized arguments: --protocol=1" >&2; exit 2`, "unrecognized arguments", "is not installed there"},
		{`echo "$0: not found" >&2; exit 127`, ": not found", "is not installed there"},
		{agent.greets(t, wire.Protocol+98), "speaks protocol", "there speaks another protocol"},
	} {
		agent.becomes(t, state.program)
		tellsOnce(t, expect(t, exitFailed, f.send("--agent", "installed"), "btrfs-backup: error: ", f.url, state.says, "btrfs-backup: hint: "))
		f.holdsOnly(before)
		run := f.healsFar()
		_, place, told := strings.Cut(run.stderr, f.far.place("")+": btrfs-backup "+state.told+"; using the one brought to ")
		if told != (found == "") || strings.Count(run.stderr, "brought") > 1 { // only when it is brought
			t.Errorf("it is told as\n%s", run.stderr)
		}
		if told {
			place, _, _ = strings.Cut(place, "\n")
			var size string
			if found, size, _ = strings.Cut(place, ", "); !exists(found) || !strings.HasSuffix(size, " MiB") {
				t.Errorf("it was brought to %q", place)
			}
		}
		f.change()
		before = names(t, f.destination)
	}
}

func TestRemoteOfAnotherProtocolThatIsAForcedCommandIsToldAsSuch(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, insteadOf)
	f := newFarRig(t, sshtest.Options{})
	f.far = newLink(t, forced(agent.greets(t, wire.Protocol-1)))
	refused := expect(t, exitFailed, invokeCmd(t, f.to(nil, f.far.place(f.destination))), "speaks protocol", "hint: update btrfs-backup on the far side")
	tellsOnce(t, refused)
}

func TestRemoteForcedCommandThatIsMissingIsToldAndNothingBrought(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	f.far = newLink(t, forced("/opt/btrfs-backup serve"))
	before := f.far.proxy.Up.Load()
	refused := expect(t, exitFailed, invokeCmd(t, f.to(nil, f.far.place(f.destination))), "does not run commands", "/opt/btrfs-backup",
		"hint: ", "bound to a command")
	tellsOnce(t, refused)
	if sent := f.far.proxy.Up.Load() - before; sent > 100_000 {
		t.Errorf("%d bytes were sent to nobody", sent)
	}
}

func TestRemoteProgramThatFailsIsToldWithItsWords(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, insteadOf)
	f := newFarRig(t, agent.options())
	before := names(t, f.destination)
	agent.becomes(t, `echo "Traceback (most recent call last):" >&2; exit 1`)
	run := start(t, f.to(nil))
	tellsOnce(t, expect(t, exitFailed, run.wait(), "btrfs-backup: error: ", f.url, "Traceback (most recent call last):", "btrfs-backup: hint: "))
	f.holdsOnly(before)
	agent.isItselfAgain(t)
	f.healsFar()
}

func TestRemoteCommandTellsWhereTheProgramIs(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, insteadOf)
	f := newFarRig(t, agent.options())
	agent.becomes(t, `echo "$0: not found" >&2; exit 127`)
	program := newAgent(t, `touch "$dir/called"; exec "$real" "$@"`)
	path := filepath.Join(program.dir, "btrfs-backup")
	f.healsFar("--remote-command", path)
	if !exists(filepath.Join(program.dir, "called")) {
		t.Errorf("%s was not used", path)
	}
	f.change()
	before := names(t, f.destination)
	missing := path + "-x"
	tellsOnce(t, expect(t, exitFailed, f.send("--remote-command", missing), "btrfs-backup: error: ", f.url, missing, "hint: is --remote-command right?"))
	f.holdsOnly(before)
}

// forced are options of an sshd that runs a command in place of the one that it is given.
func forced(command string) sshtest.Options {
	return sshtest.Options{Config: []string{"ForceCommand " + command}}
}

func TestRemoteWhoseShellGreetsIsServedByTheAgent(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, forced(`echo Welcome to this machine; exec sh -c "$SSH_ORIGINAL_COMMAND"`))
	healed := f.healsFar("-v", "debug")
	if !strings.Contains(healed.stderr, "Welcome to this machine") {
		t.Errorf("the greeting was not skipped:\n%s", healed.stderr)
	}
}

func TestRemoteWhoseShellOnlySpeaksIsToldWithItsWords(t *testing.T) {
	t.Parallel()
	const words = "This account is currently not available." // nologin(8)
	f := newFarRig(t, sshtest.Options{})
	f.far = newLink(t, forced("echo "+words+"; exit 1"))
	refused := expect(t, exitFailed, invokeCmd(t, f.to(nil, f.far.place(f.destination))), words, "btrfs-backup: hint: ")
	tellsOnce(t, refused)
}

// newSudo makes a sudo that writes down what it is called for.
func newSudo(t testing.TB) standIn {
	t.Helper()
	return newStandIn(t, "sudo", `printf "%s\n" "$*" >>"$dir/calls"
test -f "$dir/instead" && . "$dir/instead"
test "$1 $2" = "-n --" && shift 2 && exec "$@"`)
}

func TestRemoteSudoIsUsedAndItsRefusalTold(t *testing.T) {
	t.Parallel()
	sudo := newSudo(t)
	f := newFarRig(t, sudo.options())
	f.healsFar("--ssh-sudo")
	calls, err := os.ReadFile(filepath.Join(sudo.dir, "calls"))
	btrfstest.Check(t, err)
	if !strings.Contains(string(calls), "btrfs-backup serve") {
		t.Errorf("sudo was called for %q", calls)
	}
	program, err := exec.LookPath("btrfs-backup")
	btrfstest.Check(t, err)
	sudo.becomes(t, `echo "sudo: a password is required" >&2; exit 1`)
	f.change()
	before := names(t, f.destination)
	refused := f.send("--ssh-sudo")
	tellsOnce(t, expect(t, exitFailed, refused, "btrfs-backup: error: ", f.url, "a password is required", "hint: ",
		": root ALL=(root) NOPASSWD: "+program+" serve *\n"))
	f.holdsOnly(before)
	sudo.isItselfAgain(t)
	f.healsFar("--ssh-sudo")
}

func TestRemoteSudoRunsWhatWasBrought(t *testing.T) {
	t.Parallel()
	sudo, home := newSudo(t), t.TempDir()
	f := newFarRig(t, sshtest.Options{Env: []string{"PATH=" + sudo.dir + ":/usr/bin:/bin", "HOME=" + home}})
	f.healsFar("--ssh-sudo")
	calls, err := os.ReadFile(filepath.Join(sudo.dir, "calls"))
	btrfstest.Check(t, err)
	for call := range strings.Lines(string(calls)) {
		if !strings.HasPrefix(call, "-n -- "+home+"/.cache/btrfs-backup/") || !strings.HasSuffix(call, fmt.Sprintf("/btrfs-backup serve --protocol=%d\n", wire.Protocol)) {
			t.Errorf("sudo was called for %q", call)
		}
	}
	sudo.becomes(t, `echo "sudo: a password is required" >&2; exit 1`)
	f.change()
	tellsOnce(t, expect(t, exitFailed, f.send("--ssh-sudo"), "btrfs-backup: error: ", f.url, "a password is required", "hint: ",
		": root ALL=(root) NOPASSWD: "+home+"/.cache/btrfs-backup/*/btrfs-backup serve *\n"))
}
