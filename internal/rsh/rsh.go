// Package rsh is the remote shell of an rsync that this program runs.
//
// rsync gets this program as its remote shell (Run). That hands its streams to the process that made the Link, which connects
// them to a session of its own connection. So there is one way of reaching machines, and one connection to each.
package rsh

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// A Link is how an rsync on this machine reaches another one. The zero Link leads to this machine.
type Link struct {
	Prefix  string   // of a path there: "host:", or "" for this machine
	Options []string // that rsync needs
	Env     []string // that it needs

	address string
	secret  string
	open    opener
	ctx     context.Context // ends with the link
	cancel  context.CancelFunc

	mu      sync.Mutex
	failure error
}

// Reachable is a machine that an rsync on this one can reach. The link must be closed.
type Reachable interface {
	Rsync(ctx context.Context) (*Link, error)
}

// An opener opens a session for the words that rsync gives to a remote shell. said is told what the far side says.
type opener func(ctx context.Context, words []string, said func(line string)) (*transport.Session, error)

// secretVariable tells Run what proves that it is rsync's.
const secretVariable = "BTRFS_BACKUP_RSH"

// newLink makes a link that lasts as long as ctx at most, and gives the program that rsync is to run.
func newLink(ctx context.Context, open opener) (l *Link, argv []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	listener, err := handoff.Listen()
	if err != nil {
		return nil, nil, err
	}
	l = &Link{address: listener.Address, secret: handoff.NewSecret(), open: open}
	l.ctx, l.cancel = context.WithCancel(ctx)
	context.AfterFunc(l.ctx, func() { _ = listener.Close() })
	l.Env = []string{secretVariable + "=" + l.secret}
	go listener.Serve(l.answer)
	return l, []string{self, "rsh", "--", l.address}, nil // after "--" no word is taken for an option or an argument file
}

// Close ends the link. What runs over it fails.
func (l *Link) Close() {
	if l.cancel != nil {
		l.cancel()
	}
}

// Err tells why the other machine could not be reached or was lost: rsync itself knows no more than that its streams ended. It
// is nil if the link did what it could.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

func (l *Link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
}

// shellOption quotes a program for rsync's option -e, which is split at spaces. In quotes of either kind, that kind is written
// twice (rsync/main.c: do_cmd).
func shellOption(argv []string) string {
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

// Shell makes a link over which rsync runs itself on the other machine, by argv there.
func Shell(ctx context.Context, machine *ssh.Machine, argv []string) (*Link, error) {
	open := func(ctx context.Context, words []string, said func(string)) (*transport.Session, error) {
		line, err := commandLine(words)
		if err != nil {
			return nil, err
		}
		return machine.HeardSession(ctx, line, said)
	}
	l, shell, err := newLink(ctx, open)
	if err != nil {
		return nil, err
	}
	l.Prefix = "remote:"
	// -s sends paths to the far rsync itself, past the shell; older versions do not know its long name
	l.Options = []string{"-s", "-e", shellOption(shell)}
	if len(argv) > 1 {
		l.Options = append(l.Options, "--rsync-path="+strings.Join(argv, " "))
	}
	return l, nil
}

// Tunnel makes a link over which rsync reaches the daemon at an address, HOST:PORT, as the machine sees it. rsync takes it for
// whatever daemon it is told to connect to.
func Tunnel(ctx context.Context, machine *ssh.Machine, address string) (*Link, error) {
	l, shell, err := newLink(ctx, func(ctx context.Context, _ []string, _ func(string)) (*transport.Session, error) {
		return machine.Dial(ctx, address)
	})
	if err != nil {
		return nil, err
	}
	l.Env = append(l.Env, connectProgram(shell))
	return l, nil
}

// connectProgram is the variable that makes rsync reach daemons by a program. It is run by a shell, and %H in it stands for the
// host (rsync/socket.c: open_socket_out_wrapped, sock_exec).
func connectProgram(argv []string) string {
	return "RSYNC_CONNECT_PROG=" + strings.ReplaceAll(transport.Quote(argv...), "%", "%%")
}
