package transport_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 5 * time.Minute

// testOnlyStart makes a child process that runs this test binary start a program, tell its ID, and sleep.
const testOnlyStart = "BTRFS_BACKUP_TEST_START"

func TestMain(m *testing.M) {
	if os.Getenv(testOnlyStart) != "" {
		_, err := silent.Start(context.Background(), transport.Command{Argv: []string{"sh", "-c", "echo $$; exec sleep 1000"}, Stdout: os.Stdout})
		if err != nil {
			panic(err)
		}
		time.Sleep(patience)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var silent = transport.Local{Log: slog.New(slog.DiscardHandler)}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a program and gives a reader of its standard output.
func start(t testing.TB, ctx context.Context, argv ...string) (*transport.Process, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	check(t, err)
	t.Cleanup(func() { r.Close() })
	p, err := silent.Start(ctx, transport.Command{Argv: argv, Stdout: w})
	w.Close()
	check(t, err)
	return p, bufio.NewReader(r)
}

// readPID reads a line with the ID of a process.
func readPID(t testing.TB, r *bufio.Reader) int {
	t.Helper()
	line, err := r.ReadString('\n')
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	check(t, err)
	return pid
}

// runs tells whether a process is there and has not ended.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return state[0] != 'Z'
}

func waitForEnd(t testing.TB, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); runs(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			_ = unix.Kill(pid, unix.SIGKILL)
			t.Fatalf("process %d still runs", pid)
		}
	}
}

func TestArgumentsReachTheProgramAsTheyAre(t *testing.T) {
	odd := []string{"", "two words", "$HOME", "`id`", "$(id)", "a;b", "*", "'", `"`, `\`, "new\nline", "\xff", "-n", "--", "&", "|"}
	got, err := silent.Output(t.Context(), append([]string{"printf", `%s\0`}, odd...)...)
	check(t, err)
	if want := strings.Join(odd, "\x00") + "\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOutputIsWhatTheProgramWrites(t *testing.T) {
	const size = 3 << 20 // more than any pipe holds
	got, err := silent.Output(t.Context(), "head", "-c", strconv.Itoa(size), "/dev/zero")
	check(t, err)
	if len(got) != size {
		t.Errorf("%d bytes, want %d", len(got), size)
	}
}

func TestOutputOfAFailedProgramIsGivenWithTheError(t *testing.T) {
	got, err := silent.Output(t.Context(), "sh", "-c", "echo some; exit 1")
	if got != "some\n" || err == nil {
		t.Errorf("%q, error: %v", got, err)
	}
}

func TestMessagesOfProgramsAreNotTranslated(t *testing.T) {
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("OTHER", "kept")
	got, err := silent.Output(t.Context(), "sh", "-c", `echo "$LC_ALL $OTHER"`)
	check(t, err)
	if got != "C kept\n" {
		t.Errorf("the environment holds %q", got)
	}
}

func TestStreamsThatAreNotGivenAreEmpty(t *testing.T) {
	p, err := silent.Start(t.Context(), transport.Command{Argv: []string{"cat"}})
	check(t, err)
	check(t, p.Wait())
}

func TestExitErrorTellsTheLastLines(t *testing.T) {
	tests := []struct {
		name, script, want string
	}{
		{"said nothing", "exit 3", "sh: exit status 3"},
		{"one line", "echo ERROR: it failed >&2; exit 1", "sh: it failed"},
		{"blank lines", "printf '\\n first \\n\\nsecond\\n' >&2; exit 1", "sh: first; second"},
		{"many lines", "seq 9 >&2; exit 1", "sh: 6; 7; 8; 9"},
		{"no end of line", "printf 'a\\nb' >&2; exit 1", "sh: a; b"},
		{"carriage returns", "printf '1%%\\r2%%\\rdone' >&2; exit 1", "sh: 1%; 2%; done"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := silent.Output(t.Context(), "sh", "-c", test.script)
			var exit *transport.ExitError
			if !errors.As(err, &exit) || exit.Killed() || exit.Error() != test.want {
				t.Errorf("error: %v, want %q", err, test.want)
			}
		})
	}
}

func TestExitErrorNamesTheSubcommand(t *testing.T) {
	for want, argv := range map[string][]string{
		"btrfs frobnicate": {"btrfs", "frobnicate", "-x"},
		"false":            {"/bin/false", "--option"},
		"ls":               {"ls", "/missing/path"},
	} {
		var exit *transport.ExitError
		if _, err := silent.Output(t.Context(), argv...); !errors.As(err, &exit) || exit.Program != want {
			t.Errorf("%q: %v, want %s", argv, err, want)
		}
	}
}

func TestASignalThatEndsAProgramIsTold(t *testing.T) {
	_, err := silent.Output(t.Context(), "sh", "-c", "echo all is well >&2; kill -9 $$")
	var exit *transport.ExitError
	if !errors.As(err, &exit) || !exit.Killed() || exit.Error() != "sh: signal: killed" {
		t.Errorf("error: %v", err)
	}
}

func TestAMissingProgramIsTold(t *testing.T) {
	p, err := silent.Start(t.Context(), transport.Command{Argv: []string{"no-such-program", "send"}})
	if p != nil || !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "starting no-such-program send") {
		t.Errorf("error: %v", err)
	}
}

func TestTheEndOfTheContextKillsTheWholeGroup(t *testing.T) {
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	p, stdout := start(t, ctx, "sh", "-c", "sleep 1000 & echo $!; echo $$; wait")
	grandchild, child := readPID(t, stdout), readPID(t, stdout)
	if !runs(grandchild) || !runs(child) {
		t.Fatal("they do not run")
	}
	cancel(cause)
	if err := p.Wait(); !errors.Is(err, cause) {
		t.Errorf("error: %v, want %v", err, cause)
	}
	waitForEnd(t, child)
	waitForEnd(t, grandchild)
}

func TestKillKillsTheWholeGroup(t *testing.T) {
	p, stdout := start(t, t.Context(), "sh", "-c", "sleep 1000 & echo $!; wait")
	grandchild := readPID(t, stdout)
	p.Kill()
	if err := p.Wait(); err == nil {
		t.Error("a killed program succeeded")
	}
	waitForEnd(t, grandchild)
}

func TestAProgramRunsInAGroupOfItsOwn(t *testing.T) {
	p, stdout := start(t, t.Context(), "sh", "-c", "echo $$; exec sleep 1000")
	pid := readPID(t, stdout)
	if group, err := unix.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process %d is in group %d, %v", pid, group, err)
	}
	p.Kill()
	_ = p.Wait() // it was killed
}

func TestAProgramDiesWithTheProcessThatStartedIt(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), testOnlyStart+"=1")
	stdout, err := parent.StdoutPipe()
	check(t, err)
	check(t, parent.Start())
	pid := readPID(t, bufio.NewReader(stdout))
	if !runs(pid) {
		t.Error("it does not run")
	}
	check(t, parent.Process.Signal(syscall.SIGKILL))
	_ = parent.Wait() // it was killed
	waitForEnd(t, pid)
}

func TestAProgramOutlivesTheThreadThatAskedForIt(t *testing.T) {
	type asked struct {
		p      *transport.Process
		stdout *bufio.Reader
		thread int
	}
	result := make(chan asked)
	for range 20 { // some of these threads start programs unless another one does
		go func() {
			runtime.LockOSThread() // for good, so that the thread ends
			p, stdout := start(t, context.Background(), "sh", "-c", "echo $$; exec sleep 1000")
			result <- asked{p, stdout, unix.Gettid()}
		}()
		a := <-result
		pid := readPID(t, a.stdout)
		if a.thread != os.Getpid() { // the first thread does not end
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", a.thread)); err != nil {
					break
				}
			}
		}
		if !runs(pid) {
			t.Error("it was killed with the thread")
		}
		a.p.Kill()
		_ = a.p.Wait() // it was killed
	}
}

func TestPipePassesBytesThroughALargeBuffer(t *testing.T) {
	r, w, err := transport.Pipe()
	check(t, err)
	defer r.Close()
	const size = 1 << 20
	for _, end := range []*os.File{r, w} {
		if got, err := unix.FcntlInt(end.Fd(), unix.F_GETPIPE_SZ, 0); err != nil || got != size {
			t.Fatalf("the buffer has %d bytes, %v, want %d", got, err, size)
		}
	}
	n, err := w.Write(make([]byte, size)) // nobody reads yet
	check(t, errors.Join(err, w.Close()))
	if got, err := io.Copy(io.Discard, r); got != int64(n) || err != nil {
		t.Errorf("%d bytes came through, %v, want %d", got, err, n)
	}
}

// runScript runs a script to its end and gives what it said and how it ended.
func runScript(t testing.TB, c transport.Command, script string) (said []string, err error) {
	t.Helper()
	c.Argv, c.Said = []string{"sh", "-c", script}, func(line string) { said = append(said, line) }
	p, err := silent.Start(t.Context(), c)
	check(t, err)
	err = p.Wait()
	return said, err
}

func TestStandardOutputCanBeToldToo(t *testing.T) {
	said, err := runScript(t, transport.Command{Merged: true, Dir: "/"}, "echo out; echo err >&2; pwd; exit 7")
	if got := strings.Join(said, " "); got != "out err /" {
		t.Errorf("said: %s", got)
	}
	exit := new(transport.ExitError)
	if !errors.As(err, &exit) || exit.Status != 7 {
		t.Errorf("error: %v", err)
	}
}

func TestAnotherUsersProgramSeesLittleOfTheEnvironment(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Setenv("SECRET", "1")
	t.Setenv("TZ", "UTC")
	user := &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, 2}}
	said, err := runScript(t, transport.Command{Merged: true, User: user, Env: []string{"HOME=/x"}}, `echo "$(id -u) $(id -G) $HOME $TZ ${SECRET-unset}"`)
	check(t, err)
	if got := strings.Join(said, " "); got != "65534 65534 1 2 /x UTC unset" {
		t.Errorf("said: %s", got)
	}
}

func TestAGroupThatIsGivenGraceMayTidyUpAndIsKilledThen(t *testing.T) {
	const loop = "while :; do sleep 1; done"
	tests := []struct {
		name, script, last string
		grace              time.Duration
	}{
		{"it tidies up", `trap 'echo tidied; exit' TERM; echo $$ $$; ` + loop, "tidied", patience},
		{"it ignores the signal", `trap '' TERM; sh -c '` + loop + `' >&- & echo $! $$; ` + loop, "", 2 * time.Second},
		{"a child does", `(trap '' TERM; exec sh -c '` + loop + `') >&- & sleep 1; echo $! $$; ` + loop, "", 2 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			check(t, err)
			defer r.Close()
			ctx, cancel := context.WithCancel(t.Context())
			p, err := silent.Start(ctx, transport.Command{Argv: []string{"sh", "-c", test.script}, Stdout: w, Grace: test.grace})
			w.Close()
			check(t, err)
			stdout := bufio.NewReader(r)
			var child, leader int
			_, err = fmt.Fscanln(stdout, &child, &leader)
			check(t, err)
			cancel()
			if err := p.Wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("error: %v", err)
			}
			waitForEnd(t, leader)
			waitForEnd(t, child)
			if last, _ := io.ReadAll(stdout); strings.TrimSpace(string(last)) != test.last {
				t.Errorf("it said %q at last, want %q", last, test.last)
			}
		})
	}
}
