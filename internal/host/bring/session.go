package bring

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

//go:embed bring.sh
var commented string

var script = regexp.MustCompile(`(?m)^\s*(#.*)?\n|\s+#.*$`).ReplaceAllString(commented, "")

// line is a command line that runs the script. What the script says begins with both nonces in one word, which no echo of the
// line holds.
func line(nonce1, nonce2, sha, action string, args ...string) string {
	return transport.Quote(append([]string{"sh", "-c", script, "sh", nonce1, nonce2, sha, action}, args...)...)
}

// A dialog is a run of the script at the far end.
type dialog struct {
	ctx     context.Context
	m       Machine
	session *transport.Session
	most    *io.LimitedReader
	out     *bufio.Reader
	nonce   string
	noise   []byte // what came before the script
	met     bool   // the script is there
}

func start(ctx context.Context, m Machine, sha, action string, args ...string) (*dialog, error) {
	nonce1, nonce2 := rand.Text(), rand.Text()
	session, err := m.Session(ctx, line(nonce1, nonce2, sha, action, args...))
	if err != nil {
		return nil, err
	}
	most := &io.LimitedReader{R: session.Stdout, N: 1 << 20} // a login shell may never stop talking
	return &dialog{ctx: ctx, m: m, session: session, most: most, out: bufio.NewReader(most), nonce: nonce1 + nonce2}, nil
}

// next gives the next thing that the script says; "" is its end.
func (d *dialog) next() (key, text string) {
	for {
		line, err := d.out.ReadString('\n')
		noise, said, ok := strings.Cut(line, d.nonce+" ")
		if !d.met {
			d.noise = append(d.noise, noise...)
		}
		if ok && err == nil {
			d.met = true
			key, text, _ = strings.Cut(strings.TrimSuffix(said, "\n"), " ")
			return key, oneLine(text)
		}
		if err != nil {
			return "", ""
		}
	}
}

// end waits for the end of a script that said less than it should.
func (d *dialog) end() error {
	if d.most.N == 0 {
		d.session.Kill()
	}
	err := d.session.Wait()
	var exit *transport.ExitError
	switch said := oneLine(string(d.noise)); {
	case d.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", d.m, context.Cause(d.ctx))
	case errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable):
		return err
	case d.met:
		return cmp.Or(err, io.ErrUnexpectedEOF)
	case said != "":
		return d.noShell(fmt.Errorf("its shell prints %q", said))
	case errors.As(err, &exit):
		return d.noShell(err)
	default:
		return d.noShell(errors.New("its shell prints nothing"))
	}
}

func (d *dialog) noShell(err error) error {
	return hint.Newf(fmt.Errorf("%s: %w: %w", d.m, ErrNoShell, err), "install btrfs-backup there; if the key is bound to a command, "+
		"that must be a btrfs-backup serve; else see what `ssh %s 'sh -c true'` prints", d.m)
}

// oneLine is one line of the end of a text.
func oneLine(text string) string {
	const most = 400
	text = strings.Join(strings.Fields(text), " ")
	return text[max(0, len(text)-most):]
}

// A state is what the script finds.
type state struct {
	system, cpu, user, installed string
	unpack                       []string
	blind                        bool // it cannot tell a SHA-256
	have                         *Copy
	places                       []spot
	changed                      []string // why what is there is not run
}

type spot struct{ index, top string }

// look finds out what is there.
func look(ctx context.Context, m Machine, sha string) (*state, error) {
	d, err := start(ctx, m, sha, "find")
	if err != nil {
		return nil, err
	}
	_ = d.session.Stdin.Close() // nothing comes
	there := &state{}
	for {
		switch key, text := d.next(); key {
		case "":
			return nil, fmt.Errorf("looking for btrfs-backup: %w", d.end())
		case "end":
			d.session.Kill()
			_ = d.session.Wait() // all was said
			return there, nil
		default:
			there.learn(key, text, sha)
		}
	}
}

func (s *state) learn(key, text, sha string) {
	index, rest, _ := strings.Cut(text, " ")
	switch key {
	case "system":
		s.system = text
	case "cpu":
		s.cpu = text
	case "user":
		s.user = text
	case "installed":
		s.installed = text
	case "unpack":
		s.unpack = strings.Fields(text)
	case "blind":
		s.blind = true
	case "changed":
		s.changed = append(s.changed, text)
	case "place":
		s.places = append(s.places, spot{index, rest})
	case "have":
		if s.have == nil {
			s.have = &Copy{Path: rest, place: index, sha: sha, user: s.user}
		}
	}
}

// A refusal is why the program cannot be in a place.
type refusal string

func (r refusal) Error() string { return string(r) }

// put sends the program.
func (c *Copy) put(ctx context.Context, m Machine, p *program, unpack []string) error {
	d, err := start(ctx, m, p.sha, "put", append([]string{c.place}, unpack...)...)
	if err != nil {
		return err
	}
	key, text := d.next()
	if key == "ready" {
		sent := make(chan int64)
		go func() { sent <- p.send(d.session.Stdin, len(unpack) > 0 && unpack[0] == "gzip") }()
		key, text = d.next()
		if key != "have" {
			d.session.Kill() // it may not have read all of it
		}
		c.Sent = <-sent
	}
	switch key {
	case "have":
		c.Path = text
		return d.session.Wait()
	case "no":
		d.session.Kill()
		_ = d.session.Wait() // the reason was said
		return refusal(text)
	default:
		return d.end()
	}
}

// send gives the bytes that were written. Whether they arrived is told by the far end.
func (p *program) send(to io.WriteCloser, compressed bool) int64 {
	counter := &counter{to: bufio.NewWriterSize(to, 64<<10)}
	if compressed {
		z := gzip.NewWriter(counter)
		_, _ = z.Write(p.content)
		_ = z.Close()
	} else {
		_, _ = counter.Write(p.content)
	}
	_ = counter.to.Flush()
	_ = to.Close()
	return counter.n
}

type counter struct {
	to *bufio.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}
