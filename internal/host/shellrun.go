package host

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"btrfs-backup/transport"
)

// remoteScript is a script that runs on the machine of a Shell. Wait must be called.
type remoteScript struct {
	session *transport.Session
	out     *bufio.Reader // behind the marker
	shell   *Shell
	name    string // of what it does, for messages
}

// start runs a script up to its marker.
func (s *Shell) start(ctx context.Context, name, script string, args ...string) (*remoteScript, error) {
	sudo := ""
	if s.options.Sudo {
		sudo = "sudo -n"
	}
	line := transport.Quote(append([]string{"sh", "-c", scriptStart + script, "sh", sudo}, args...)...)
	session, err := s.ssh.Session(ctx, line)
	if err != nil {
		return nil, err
	}
	r := &remoteScript{session: session, out: bufio.NewReaderSize(session.Stdout, 64<<10), shell: s, name: name}
	said, err := r.skipToMarker()
	if errors.Is(err, errNoMarker) {
		r.session.Kill()
	}
	if err != nil {
		return nil, s.silent(said, r.session.Wait())
	}
	return r, nil
}

// skipToMarker drops what the login shell prints, and gives it if the marker does not come.
func (r *remoteScript) skipToMarker() (said []byte, err error) {
	const enough = 1 << 20
	for len(said) < enough {
		part, err := r.out.ReadSlice(0)
		said = append(said, part...)
		if bytes.HasSuffix(said, []byte(scriptMarker)) {
			return nil, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return said, err
		}
	}
	return said, errNoMarker
}

var errNoMarker = errors.New("no script begins")

// silent explains why a script did not begin.
func (s *Shell) silent(said []byte, waitErr error) error {
	var exit *transport.ExitError
	ended := waitErr == nil || errors.As(waitErr, &exit)
	if !ended && len(said) == 0 || errors.Is(waitErr, transport.ErrDisconnected) {
		return waitErr
	}
	const shown = 200
	text := strings.TrimSpace(string(said[:min(len(said), shown)]))
	err := fmt.Errorf("%s does not run commands; it says %q", s, text)
	if text == "" && exit != nil {
		err = fmt.Errorf("%s does not run commands: %w", s, exit)
	}
	return withHint{err, "the user's login shell there must be a POSIX shell that runs what it is given: see what " +
		"`ssh " + s.ssh.String() + " 'sh -c true'` prints"}
}

// Wait waits for the end of the script and explains its failure.
func (r *remoteScript) Wait() error { return r.shell.explain(r.name, r.session.Wait()) }

// Kill ends the session soon.
func (r *remoteScript) Kill() { r.session.Kill() }

// field reads one field.
func (r *remoteScript) field() (string, error) {
	text, err := r.out.ReadString(0)
	return strings.TrimSuffix(text, "\x00"), err
}

// run runs a script to its end. What it printed before it failed is given too.
func (s *Shell) run(ctx context.Context, name, script string, stdin []byte, args ...string) (printed, error) {
	r, err := s.start(ctx, name, script, args...)
	if err != nil {
		return printed{}, err
	}
	go func() {
		_, _ = r.session.Stdin.Write(stdin) // a script that does not read on tells why
		_ = r.session.Stdin.Close()
	}()
	out, readErr := io.ReadAll(io.LimitReader(r.out, maxAnswer+1))
	if len(out) > maxAnswer {
		r.Kill()
		_ = r.session.Wait() // it was killed
		return printed{}, fmt.Errorf("%s: %s answers with more than %d bytes", name, s, maxAnswer)
	}
	return printed{rest: out}, cmp.Or(r.Wait(), readErr)
}

// maxAnswer is many times what a million subvolumes take.
const maxAnswer = 1 << 30

// printed is what a script printed. The first error stays.
type printed struct {
	rest []byte
	err  error
}

var errIncomplete = errors.New("the answer is not complete")

// next takes a field.
func (a *printed) next() string {
	field, rest, ok := bytes.Cut(a.rest, []byte{0})
	if !ok && a.err == nil {
		a.err = errIncomplete
	}
	a.rest = rest
	return string(field)
}

// number takes a field that is a number.
func (a *printed) number() uint64 {
	text := a.next()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("%q is not a number", text)
	}
	return n
}

// file takes a file.
func (a *printed) file() (f File) {
	size := a.next()
	if size == "-" || a.err != nil {
		return f
	}
	if failure, ok := strings.CutPrefix(size, "!"); ok {
		return File{Failure: failure}
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n >= len(a.rest) || a.rest[n] != 0 {
		a.err = errors.New("a file changed while it was read")
		return f
	}
	f.Content = append(make([]byte, 0, n), a.rest[:n]...)
	a.rest = a.rest[n+1:]
	return f
}
