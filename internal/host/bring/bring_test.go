package bring_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/bring"
)

func TestTheProgramIsBroughtOnceThroughAnyLoginShell(t *testing.T) {
	itself(t)
	for _, shell := range []string{"bash", "dash", "fish", "busybox sh"} {
		t.Run(shell, func(t *testing.T) {
			f := newFar(t)
			f.shell = shell
			if shell == "busybox sh" {
				f.onlyBusybox()
			}
			first := f.arrives(f.home)
			if want := f.home + "/.cache/btrfs-backup/"; !strings.HasPrefix(first.Path, want) {
				t.Errorf("it is at %s", first.Path)
			}
			second, err := f.program("")
			btrfstest.Check(t, err)
			if second.Sent != 0 || second.Path != first.Path {
				t.Errorf("again: %d bytes were sent, to %s", second.Sent, second.Path)
			}
			f.answers(second)
		})
	}
}

func TestWhatALoginShellPrintsIsSkipped(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	f.shell = "bash"
	noise := `echo "Welcome!"; echo "$BASH_EXECUTION_STRING"; echo noise >&2; head -c 100000 /dev/zero; echo -n "no end"`
	btrfstest.Check(t, os.WriteFile(f.home+"/.bashrc", []byte(noise), 0o644))
	f.stub("uname", `echo noise >&2; exec /bin/uname "$@"`)
	f.arrives(f.home)
}

func TestWhereAPlaceCannotHoldOrRunTheProgramTheNextOneIsTried(t *testing.T) {
	t.Parallel()
	const cache = "mkdir -p $HOME/.cache; mount --bind $HOME/.cache $HOME/.cache; mount -o remount,bind,%s $HOME/.cache\n"
	readOnly, noExec := strings.Replace(cache, "%s", "ro", 1), strings.Replace(cache, "%s", "noexec", 1)
	full := "mkdir -p $HOME/.cache; mount -t tmpfs -o size=32k tmpfs $HOME/.cache\n"
	noRuntime := strings.ReplaceAll(readOnly, "$HOME/.cache", "$XDG_RUNTIME_DIR")
	noRun := strings.ReplaceAll(noExec, "$HOME/.cache", "/run")
	noVarTmp := strings.ReplaceAll(full, "$HOME/.cache", "/var/tmp")
	for name, c := range map[string]struct {
		mounts string
		where  func(*far) string
	}{
		"read-only": {readOnly, func(f *far) string { return f.runtime }},
		"noexec":    {noExec + noRuntime, func(*far) string { return "/run" }},
		"full":      {full + noRuntime + noRun, func(*far) string { return "/var/tmp" }},
		"no home":   {"HOME=/none", func(f *far) string { return f.runtime }},
		"all of it": {full + noRuntime + noRun + noVarTmp, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.mounts = c.mounts
			if c.where != nil {
				f.arrives(c.where(f))
				return
			}
			f.refuses(f.home+"/.cache/btrfs-backup: gzip: ", "No space left on device", f.runtime+"/btrfs-backup: mkdir: ", "Read-only file system",
				"/run/btrfs-backup: it cannot run there: ", "Permission denied", "; /var/tmp/btrfs-backup-0: ", "install btrfs-backup there")
			f.holdsOnly("")
		})
	}
}

func TestAnOrdinaryUserGetsTheProgramOnlyWhereNobodyElseCanChangeIt(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(f *far){
		"home that others can write to": func(f *far) { btrfstest.Check(f, os.Chmod(f.home, 0o777)) },
		"home of another user":          func(f *far) { btrfstest.Check(f, os.Chown(f.home, 1, 1)) },
		"directory of another user": func(f *far) {
			btrfstest.Check(f, os.MkdirAll(f.home+"/.cache/btrfs-backup", 0o777))
			btrfstest.Check(f, os.Chown(f.home+"/.cache/btrfs-backup", 1, 1))
			btrfstest.Check(f, os.Chmod(f.home+"/.cache/btrfs-backup", 0o777))
		},
		"symbolic link": func(f *far) {
			btrfstest.Check(f, os.Mkdir(f.home+"/.cache", 0o755))
			btrfstest.Check(f, os.Chown(f.home+"/.cache", 65534, 65534))
			btrfstest.Check(f, os.Symlink(f.empty(), f.home+"/.cache/btrfs-backup"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.shell = "setpriv --reuid 65534 --regid 65534 --clear-groups sh"
			btrfstest.Check(t, os.Chown(f.home, 65534, 65534))
			prepare(f)
			f.arrives("/var/tmp") // XDG_RUNTIME_DIR is root's
			trap := f.varTmp + "/btrfs-backup-65534"
			btrfstest.Check(t, os.RemoveAll(trap))
			btrfstest.Check(t, os.Mkdir(trap, 0o777))
			btrfstest.Check(t, os.Chown(trap, 1, 1))
			f.refuses("/var/tmp/btrfs-backup-65534: ")
		})
	}
}

func TestAChangedProgramIsNotRunButReplaced(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	c := f.arrives(f.home)
	evil := filepath.Join(f.dir, "evil")
	btrfstest.Check(t, os.WriteFile(evil, []byte("#!/bin/sh\necho evil\n"), 0o755))
	for name, change := range map[string]func() error{
		"content": func() error { return os.WriteFile(c.Path, []byte("#!/bin/sh\necho evil\n"), 0o755) },
		"rights":  func() error { return os.Chmod(c.Path, 0o777) },
		"owner":   func() error { return os.Chown(c.Path, 1, 1) },
		"link":    func() error { return errors.Join(os.Remove(c.Path), os.Symlink(evil, c.Path)) },
		"nowhere": func() error { return errors.Join(os.Remove(c.Path), os.Symlink("/nowhere", c.Path)) },
		"folder":  func() error { return errors.Join(os.Remove(c.Path), os.Mkdir(c.Path, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := *f
			f.TB = t
			btrfstest.Check(t, change())
			out, err := f.runs(c.Line(false, "serve"))
			if err == nil || out != "" || !strings.Contains(err.Error(), c.Path) {
				t.Errorf("run, it says %q, %v", out, err)
			}
			f.said.Reset()
			f.arrives(f.home)
			if !strings.Contains(f.said.String(), c.Path) || !strings.Contains(f.said.String(), "bringing it anew") {
				t.Errorf("the log says %q", f.said)
			}
		})
	}
}

func TestTwoClientsAtOnceBringOneProgram(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	machines := []bring.Machine{f.machine(), f.connection(), f.connection()}
	var group sync.WaitGroup
	for _, m := range machines {
		group.Go(func() {
			if c, err := bring.Program(t.Context(), m, bring.Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
				t.Error(err)
			} else {
				f.answers(c)
			}
		})
	}
	group.Wait()
	f.holdsOnly(f.home)
}

func TestWhatWasBroughtInPartIsRemoved(t *testing.T) {
	itself(t)
	f := newFar(t)
	f.mounts = "mkdir -p $HOME/.cache"
	started := make(chan error)
	f.proxy.Delay(20 * time.Millisecond)
	before := f.proxy.Up.Load()
	go func() {
		_, err := f.program("")
		started <- err
	}()
	eventually(t, "some of it is sent", func() bool { return f.proxy.Up.Load() > before+300_000 })
	f.proxy.Cut()
	if err := <-started; err == nil {
		t.Error("the cut was not noticed")
	}
	eventually(t, "what came is removed", func() bool {
		left, err := filepath.Glob(f.home + "/.cache/btrfs-backup/*/.*")
		return err == nil && len(left) == 0
	})
	f.proxy.Delay(0)
	c := f.arrives(f.home)

	leftover := filepath.Join(filepath.Dir(c.Path), ".new-X") // of a machine that crashed
	btrfstest.Check(t, os.WriteFile(leftover, nil, 0o600))
	aged(t, leftover, 25*time.Hour)
	_, err := f.program("")
	btrfstest.Check(t, err)
	f.holdsOnly(f.home)
}

// aged lets a file be older.
func aged(t testing.TB, path string, by time.Duration) {
	t.Helper()
	when := time.Now().Add(-by)
	btrfstest.Check(t, os.Chtimes(path, when, when))
}

func TestVersionsThatNobodyUsedForAMonthAreRemoved(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	c := f.arrives(f.home)
	versions := f.home + "/.cache/btrfs-backup/"
	const day = 24 * time.Hour
	old, recent := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for name, age := range map[string]time.Duration{old: 32 * day, recent: 29 * day, "mine": 99 * day} {
		btrfstest.Check(t, os.Mkdir(versions+name, 0o700))
		btrfstest.Check(t, os.WriteFile(versions+name+"/btrfs-backup", nil, 0o700))
		aged(t, versions+name, age)
	}
	aged(t, filepath.Dir(c.Path), 40*day)
	again, err := f.program("")
	btrfstest.Check(t, err)
	if again.Sent != 0 {
		t.Error("the version in use was removed")
	}
	for name, want := range map[string]bool{old: false, recent: true, "mine": true} {
		if _, err := os.Stat(versions + name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingIsSentToWhatIsNoShell(t *testing.T) {
	t.Parallel()
	for name, account := range map[string]struct{ command, says string }{
		"closed":        {"echo This account is not available.; exit 1", "This account is not available."},
		"failing":       {"false", "exit status 1"},
		"echo":          {`printf "%s" "$2"`, "sh -c"},
		"talk":          {"head -c 3000000 /bin/ls", ""},
		"endless talk":  {"yes", "y y y"},
		"silent":        {"true", "its shell prints nothing"},
		"silent reader": {"cat", "its shell prints nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFar(t)
			f.shell = account.command + " #"
			if err := f.refuses("does not run commands", account.says, "command"); !errors.Is(err, bring.ErrNoShell) {
				t.Errorf("error: %v", err)
			}
			if sent := f.proxy.Up.Load(); sent > 100_000 {
				t.Errorf("%d bytes were sent", sent)
			}
		})
	}
}

func TestMissingProgramsOfAnOddMachineAreNamedOrDoneWithout(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	f.onlyBusybox()
	btrfstest.Check(t, os.Remove(f.bin+"/gzip"))
	f.shell = "busybox sh"
	f.mounts += "\nmount --bind " + f.bin + " /usr/bin"
	f.arrives(f.home)
	for _, program := range []string{"sha256sum", "shasum", "openssl"} {
		_ = os.Remove(f.bin + "/" + program) // busybox has not all of them
	}
	f.refuses("none of sha256sum, shasum and openssl")
}

func TestTheContextEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	f.shell = "sleep 1000 #"
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := bring.Program(ctx, f.machine(), bring.Options{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
}

func TestAnotherCPUGetsItsOwnProgram(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	f.stub("uname", `case $1 in -m) echo aarch64 ;; *) echo Linux ;; esac`)
	agents := filepath.Join(f.dir, "agents")
	btrfstest.Check(t, os.Mkdir(agents, 0o755))
	f.refuses("the program for its CPU is missing: "+bring.DefaultAgents+"/btrfs-backup-linux-arm64", "hint: copy btrfs-backup-linux-arm64 of a release to "+bring.DefaultAgents)

	forArm := []byte("#!/bin/sh\necho this is \"[$*]\"\n")
	btrfstest.Check(t, os.WriteFile(agents+"/btrfs-backup-linux-arm64", forArm, 0o644))
	for _, sent := range []bool{true, false} {
		c, err := f.program(agents)
		btrfstest.Check(t, err)
		if content, err := os.ReadFile(c.Path); err != nil || string(content) != string(forArm) || (c.Sent > 0) != sent {
			t.Errorf("there is %q, %v; %d bytes were sent", content, err, c.Sent)
		}
		f.answers(c)
	}

	f.stub("uname", `case $1 in -m) echo sparc ;; *) echo Linux ;; esac`)
	f.refuses("there is no program for its CPU, sparc")
	f.stub("uname", `echo FreeBSD`)
	f.refuses("its system is FreeBSD, not Linux")
}
