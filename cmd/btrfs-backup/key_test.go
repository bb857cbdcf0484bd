package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// A dialog is the program on a terminal of its own, to which a user types. Its standard output is a file.
type dialog struct {
	testing.TB
	cmd    *exec.Cmd
	user   *os.File
	said   bytes.Buffer
	stdout bytes.Buffer
}

func newDialog(t testing.TB, args ...string) *dialog {
	t.Helper()
	user, terminal := newTerminal(t)
	const patience = 5 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	d := &dialog{TB: t, cmd: exec.CommandContext(ctx, "btrfs-backup", args...), user: user}
	d.cmd.Env = append(os.Environ(), "TERM=xterm")
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = terminal, &d.stdout, terminal
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	btrfstest.Check(t, d.cmd.Start())
	return d
}

// await waits until the program said something, and gives all up to it that was said since the last time.
func (d *dialog) await(text string) string {
	d.Helper()
	for part := make([]byte, 1000); ; {
		if at := bytes.Index(d.said.Bytes(), []byte(text)); at >= 0 {
			return string(d.said.Next(at + len(text)))
		}
		n, err := d.user.Read(part)
		if err != nil {
			d.Fatalf("%v after\n%s", err, &d.said)
		}
		d.said.Write(part[:n])
	}
}

func (d *dialog) answer(text string) {
	d.Helper()
	_, err := d.user.WriteString(text)
	btrfstest.Check(d, err)
}

// awaitSilence waits until the terminal does not show what is typed.
func (d *dialog) awaitSilence() {
	d.Helper()
	for {
		mode, err := unix.IoctlGetTermios(int(d.user.Fd()), unix.TCGETS)
		btrfstest.Check(d, err)
		if mode.Lflag&unix.ECHO == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// status waits for the end.
func (d *dialog) status() int {
	_ = d.cmd.Wait() // its status is looked at
	return d.cmd.ProcessState.ExitCode()
}

var keyGroups = regexp.MustCompile(`\b[02-9AC-HJ-NP-Z]{6}\b|\b[02-9AC-HJ-NP-Z]{4}\b`)

// paperKey gives the groups of the key on a page.
func paperKey(t testing.TB, page string) []string {
	t.Helper()
	_, page, _ = strings.Cut(page, "AGE-SECRET-KEY-1")
	page, _, _ = strings.Cut(page, "Blanks")
	groups := keyGroups.FindAllString(page, -1)
	if len(groups) != 10 {
		t.Fatalf("%q", page)
	}
	return groups
}

func TestKeysAreMadeOnATerminalAndTyped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	daily, recipients := filepath.Join(dir, "daily"), filepath.Join(dir, "recipients")
	d := newDialog(t, "key", "new", "-o", daily, "--recipients", recipients)
	const enter = "\n"
	groups := paperKey(t, d.await("Press Enter when you have copied it: "))
	d.answer(enter)
	if hidden := d.await("The last group of the paper key, from your copy: "); !strings.Contains(hidden, "\x1b[?1049l") {
		t.Errorf("the key is not hidden: %q", hidden)
	}
	d.answer("QQQQ" + enter)
	d.await("to see the key again: ")
	d.answer(enter)
	if again := paperKey(t, d.await("Press Enter when you have copied it: ")); strings.Join(again, "") != strings.Join(groups, "") {
		t.Errorf("first %q, then %q", groups, again)
	}
	d.answer(enter)
	d.await("from your copy: ")
	d.answer(strings.ToLower(groups[9]) + enter)
	if status := d.status(); status != 0 || !strings.Contains(d.stdout.String(), "Nobody can help.") {
		t.Errorf("exit status %d, %s", status, &d.stdout)
	}
	for _, group := range groups[:9] {
		if strings.Contains(strings.ToUpper(d.stdout.String()), group) {
			t.Errorf("%s is in the output", group)
		}
	}

	d = newDialog(t, "key", "test", "-i", "-", "--recipients", recipients)
	d.await("(in one line or several): ")
	wrong := "Q" + groups[2][1:]
	if wrong == groups[2] {
		wrong = "P" + groups[2][1:]
	}
	d.answer(strings.Join(groups[:2], " ") + " " + wrong + " " + strings.Join(groups[3:], " ") + enter)
	d.await("a letter of the key is wrong, in group 3")
	d.await("Once more, from the beginning: ")
	d.answer(strings.Join(groups[:5], " ") + enter)
	d.await("30 of 58 letters; go on: ")
	d.answer(strings.Join(groups[5:], "-") + enter)
	if status := d.status(); status != 0 || !strings.Contains(d.stdout.String(), "this is the paper key of ") {
		t.Errorf("exit status %d, %s", status, &d.stdout)
	}
}

func TestCtrlCKeepsNoKey(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"Press Enter when you have copied it: ", "from your copy: ", "to see the key again: "} {
		dir := t.TempDir()
		d := newDialog(t, "key", "new", "-o", filepath.Join(dir, "daily"), "--recipients", filepath.Join(dir, "recipients"))
		for _, question := range []string{"Press Enter when you have copied it: ", "from your copy: ", "to see the key again: "} {
			d.await(question)
			if question == after {
				break
			}
			d.answer("\n")
		}
		const controlC = "\x03"
		d.answer(controlC)
		if status := d.status(); status != 128+int(syscall.SIGINT) || d.stdout.Len() > 0 {
			t.Errorf("%s: exit status %d, %s", after, status, &d.stdout)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Errorf("%s: left %v, %v", after, files, err)
		}
	}
}

func TestAPassphraseIsAskedForAndNotShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, recipients := filepath.Join(dir, "id"), filepath.Join(dir, "recipients")
	btrfstest.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame", "-C", "me@laptop", "-f", key)
	btrfstest.Check(t, os.Rename(key+".pub", recipients))
	d := newDialog(t, "key", "test", "-i", key, "--recipients", recipients)
	said := d.await("Passphrase of " + key + ": ")
	d.awaitSilence()
	d.answer("sesam\n")
	said += d.await("That was wrong. Passphrase of " + key + ": ")
	d.awaitSilence()
	d.answer("sesame\n")
	if status := d.status(); status != 0 || !strings.Contains(d.stdout.String(), "this is the me@laptop ("+recipients+", line 1)") || strings.Contains(said+d.said.String(), "sesam") {
		t.Errorf("exit status %d, %s, said %s", status, &d.stdout, said)
	}
}

func TestAKeyCanBeOnAStickThatKnowsNoModes(t *testing.T) {
	t.Parallel()
	dir := smallFS(t).Dir
	image, stick := filepath.Join(dir, "image"), filepath.Join(dir, "stick")
	btrfstest.Run(t, "truncate", "-s", "16M", image)
	btrfstest.Check(t, os.Mkdir(stick, 0o755))
	btrfstest.Run(t, "mkntfs", "-q", "-F", image)
	btrfstest.Run(t, "mount.ntfs-3g", image, stick)
	defer btrfstest.Unmount(t, stick)
	key, recipients := filepath.Join(stick, "daily"), filepath.Join(dir, "recipients")
	expect(t, exitDone, invoke(t, nil, "key", "new", "-o", key, "--one-recipient", "--recipients", recipients))
	if left := names(t, stick); len(left) != 1 {
		t.Errorf("left %q", left)
	}
	info, err := os.Stat(key)
	btrfstest.Check(t, err)
	if info.Mode()&0o077 == 0 {
		t.Fatalf("it has a mode: %v", info.Mode())
	}
	expect(t, exitDone, invoke(t, nil, "key", "test", "-i", key, "--recipients", recipients), "this is the daily key of ")
	expect(t, exitFailed, invoke(t, nil, "key", "new", "-o", key, "--one-recipient", "--recipients", recipients+"2"), key+" is there already")
}
