package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"btrfs-backup/internal/hint"
	"btrfs-backup/transport"
	"btrfs-backup/transport/ssh"
)

// An RsyncLink is how an rsync on this machine reaches another one.
//
// rsync gets this program as its remote shell (Rsh). That hands its streams to the process that made the link, which connects
// them to a session of its own connection. So there is one way of reaching machines, and one connection to each.
type RsyncLink struct {
	Prefix  string   // of a path there: "host:", or "" for this machine
	Options []string // that rsync needs
	Env     []string // that it needs

	meeting *rendezvous // nil for this machine
	secret  string
	open    func(ctx context.Context, words []string, said func(line string)) (*transport.Session, error)
	ctx     context.Context // ends with the link
	cancel  context.CancelFunc

	mu      sync.Mutex
	failure error
}

// secretVariable tells Rsh what proves that it is rsync's.
const secretVariable = "BTRFS_BACKUP_RSH"

// newRsyncLink makes a link whose sessions open opens. It lasts as long as ctx at most.
func newRsyncLink(ctx context.Context,
	open func(ctx context.Context, words []string, said func(line string)) (*transport.Session, error)) (*RsyncLink, error) {
	meeting, err := meet(newAddress())
	if err != nil {
		return nil, err
	}
	l := &RsyncLink{meeting: meeting, secret: newSecret(), open: open}
	l.ctx, l.cancel = context.WithCancel(ctx)
	context.AfterFunc(l.ctx, func() { _ = meeting.Close() })
	l.Env = []string{secretVariable + "=" + l.secret}
	go meeting.serve(l.receive)
	return l, nil
}

// Close ends the link. What runs over it fails.
func (l *RsyncLink) Close() {
	if l.cancel != nil {
		l.cancel()
	}
}

// Err tells why the other machine could not be reached or was lost: rsync itself knows no more than that its streams ended. It
// is nil if the link did what it could.
func (l *RsyncLink) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

func (l *RsyncLink) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
}

// rshArgv is what rsync is to run. After "--" no word is taken for an option or an argument file.
func (l *RsyncLink) rshArgv() ([]string, error) {
	self, err := os.Executable()
	return []string{self, "rsh", "--", l.meeting.address}, err
}

// rshOption quotes a program for rsync's option -e, which is split at spaces. In quotes of either kind, that kind is written
// twice (rsync/main.c: do_cmd).
func rshOption(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		if strings.ContainsAny(word, ` '"`) {
			word = "'" + strings.ReplaceAll(word, "'", "''") + "'"
		}
		words[i] = word
	}
	return strings.Join(words, " ")
}

// commandLine gives what rsync wants to run on the other machine, of the words that it gives to a remote shell:
// [-l USER] HOST COMMAND... (rsync/main.c: do_cmd). rsync has quoted them; a remote shell joins them by spaces.
func commandLine(words []string) (string, error) {
	rest := words
	if len(rest) >= 2 && rest[0] == "-l" {
		rest = rest[2:]
	}
	if len(rest) < 2 {
		return "", fmt.Errorf("rsync gives its remote shell no command: %q", words)
	}
	return strings.Join(rest[1:], " "), nil
}

// rsyncShell makes a link over which rsync runs itself on the other machine.
func rsyncShell(ctx context.Context, machine *ssh.Machine, sudo bool) (*RsyncLink, error) {
	argv := []string{"rsync"}
	if sudo {
		argv = []string{"sudo", "-n", "rsync"}
	}
	if err := checkRsync(ctx, machine, argv); err != nil {
		return nil, err
	}
	open := func(ctx context.Context, words []string, said func(string)) (*transport.Session, error) {
		line, err := commandLine(words)
		if err != nil {
			return nil, err
		}
		return machine.HeardSession(ctx, line, said)
	}
	l, err := newRsyncLink(ctx, open)
	if err != nil {
		return nil, err
	}
	rsh, err := l.rshArgv()
	if err != nil {
		l.Close()
		return nil, err
	}
	l.Prefix = "remote:"
	// -s sends paths to the far rsync itself, past the shell; older versions do not know its long name
	l.Options = []string{"-s", "-e", rshOption(rsh)}
	if sudo {
		l.Options = append(l.Options, "--rsync-path="+strings.Join(argv, " "))
	}
	return l, nil
}

// checkRsync fails unless the machine runs rsync when it is told to: rsync's own messages would not tell why.
func checkRsync(ctx context.Context, machine *ssh.Machine, argv []string) error {
	const enough = 200 // of the answer
	session, err := machine.Session(ctx, transport.Quote(append(argv, "--version")...))
	if err != nil {
		return err
	}
	_ = session.Stdin.Close() // it is not read
	answer, _ := io.ReadAll(io.LimitReader(session.Stdout, enough))
	if len(answer) == enough && !strings.HasPrefix(string(answer), "rsync ") {
		session.Kill() // whatever it is, it may go on
	}
	_, _ = io.Copy(io.Discard, session.Stdout)
	err = session.Wait()
	var exit *transport.ExitError
	switch {
	case strings.HasPrefix(string(answer), "rsync ") && err == nil:
		return nil
	case len(answer) > 0:
		first, _, _ := strings.Cut(string(answer), "\n")
		return hint.New(fmt.Errorf("running rsync on %s: this comes in place of it: %q", urlOf(machine), first),
			"the key there must allow any command, and the user's login shell must print nothing of its own")

	case errors.As(err, &exit):
		return hint.New(fmt.Errorf("running rsync on %s: %w", urlOf(machine), exit), rsyncHint(machine, exit))
	case err == nil:
		return hint.New(fmt.Errorf("running rsync on %s: it says nothing", urlOf(machine)), "the key there must allow any command")
	}
	return err
}

func rsyncHint(machine *ssh.Machine, exit *transport.ExitError) string {
	if text := loginHint(machine, exit); text != "" {
		return text
	}
	if exit.State == "exit status 127" || strings.Contains(exit.Stderr, "command not found") {
		return "install rsync on " + machine.String()
	}
	return "the key there must allow any command: see what `ssh " + machine.String() + " rsync --version` prints"
}

// TunnelTo makes a link over which rsync reaches the daemon at an address, HOST:PORT, as the machine sees it. rsync takes it
// for whatever daemon it is told to connect to.
func TunnelTo(ctx context.Context, machine *ssh.Machine, address string) (*RsyncLink, error) {
	l, err := newRsyncLink(ctx, func(ctx context.Context, _ []string, _ func(string)) (*transport.Session, error) {
		return machine.Dial(ctx, address)
	})
	if err != nil {
		return nil, err
	}
	rsh, err := l.rshArgv()
	if err != nil {
		l.Close()
		return nil, err
	}
	l.Env = append(l.Env, connectProgram(rsh))
	return l, nil
}

// connectProgram is the variable that makes rsync reach daemons by a program. It is run by a shell, and %H in it stands for the
// host (rsync/socket.c: open_socket_out_wrapped, sock_exec).
func connectProgram(argv []string) string {
	return "RSYNC_CONNECT_PROG=" + strings.ReplaceAll(transport.Quote(argv...), "%", "%%")
}
