package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// startProgram runs a line through an ssh program.
func (m *Machine) startProgram(ctx context.Context, config *configuration, line string, said func(line string)) (*transport.Session, error) {
	argv := append(m.programArgv(config), "--", m.target.Host, line)
	return m.runProgram(ctx, config, transport.Command{Argv: argv, Name: lineName(line), Said: said}, config.classify)
}

// runProgram runs an ssh program. It connects while the session runs, so that Wait tells whether it could. It cannot ask the
// user: it runs in a process group of its own, which may not read from the terminal.
func (m *Machine) runProgram(ctx context.Context, config *configuration, c transport.Command, classify func(err error, stood bool) error) (*transport.Session, error) {
	inR, inW, err := transport.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := transport.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	local := transport.Local{Log: m.log, Level: m.options.Level}
	c.Stdin, c.Stdout = inR, outW
	p, err := local.Start(ctx, c)
	closed := errors.Join(inR.Close(), outW.Close())
	if err = errors.Join(err, closed); err != nil {
		return nil, errors.Join(fmt.Errorf("%s needs the ssh program (%s): %w", m, config.why, err), inW.Close(), outR.Close())
	}
	output := &programOutput{pipe: outR}
	wait := sync.OnceValue(func() error {
		err := classify(p.Wait(), output.some.Load())
		_ = inW.Close() // nobody reads it
		return err
	})
	return transport.NewSession(inW, output, wait, p.Kill), nil
}

// programArgv gives the program with its options, the user's first: ssh takes the first value of each. A live master
// connection is used, but none is started, which would go on in the background with our standard error.
func (m *Machine) programArgv(c *configuration) []string {
	argv := append([]string{c.program}, m.arguments(m.target, m.options.Options)...)
	argv = append(argv, "-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ClearAllForwardings=yes",
		"-o", seconds("ConnectTimeout", cmp.Or(c.connectTimeout, defaultConnectTimeout)),
		"-o", seconds("ServerAliveInterval", cmp.Or(c.aliveInterval, defaultAliveInterval)),
		"-o", "ServerAliveCountMax="+strconv.Itoa(cmp.Or(c.aliveCount, defaultAliveCount)))
	if c.settings.get("remotecommand") != "" { // ssh refuses both; OpenSSH before 7.6 has neither
		argv = append(argv, "-o", "RemoteCommand=none")
	}
	return argv
}

func seconds(key string, d time.Duration) string {
	return key + "=" + strconv.Itoa(max(1, int(d.Seconds())))
}

// classify tells a failure of ssh itself, which ends with status 255, from one of the command. Some of its messages are the same
// before and after it has connected: stood tells that the machine had been heard.
func (c *configuration) classify(err error, stood bool) error {
	var exit *transport.ExitError
	if !errors.As(err, &exit) || exit.State != "exit status 255" {
		return err
	}
	says := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(exit.Stderr, part) })
	}
	cause := errors.New(exit.Stderr)
	switch { // the messages of OpenSSH's clientloop.c, packet.c, sshconnect.c and kex.c
	case says("kex_exchange_identification", "banner exchange"):
		return c.unreachable(cause)
	case says("closed by remote host", "send disconnect", "Read from remote host", "Broken pipe", "not responding"),
		stood && says("Connection reset", "Connection closed", "timed out"):
		return &failure{text: exit.Program + " on " + c.target.String() + ": connection lost", cause: cause, kind: transport.ErrDisconnected,
			hint: "see whether " + c.target.String() + " and the network to it are up, and what its sshd logged"}
	case says("Permission denied", "Too many authentication failures"):
		return &failure{text: "logging in at " + c.target.String(), cause: cause,
			hint: "ssh cannot ask for a passphrase or password here: load the key with ssh-add, and try " + c.target.byHand("ssh")}
	case says("Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"):
		return &failure{text: "connecting to " + c.target.String(), cause: cause,
			hint: "compare the key's fingerprint with the machine's, and run " + c.target.byHand("ssh") + " once by hand"}
	case says("Connection refused", "timed out", "No route to host", "Network is unreachable", "Could not resolve hostname",
		"Connection reset", "Connection closed", "Host is down"):
		return c.unreachable(cause)
	}
	return err
}

// programOutput closes a pipe when it was read to its end.
type programOutput struct {
	pipe *os.File
	some atomic.Bool // something was read
}

func (o *programOutput) Read(p []byte) (int, error) {
	n, err := o.pipe.Read(p)
	if n > 0 {
		o.some.Store(true)
	}
	if err != nil {
		_ = o.pipe.Close() // only read from
	}
	return n, err
}
