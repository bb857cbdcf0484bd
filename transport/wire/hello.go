package wire

import (
	"context"
	"errors"
	"io"
)

// Protocol is the version of what follows the hello.
const Protocol = 8

// The magic is no text, and is damaged by a terminal, which turns CR LF into something else.
const magic = "\x00\xffbtrfs-backup\r\n"

const (
	maxNoise = 64 << 10
	maxHello = 1 << 20
)

// A Hello is how a side introduces itself. Its form is the same in all versions: fields may be added, never changed.
type Hello struct {
	Protocol  int      `cbor:"protocol"` // set by Dial and Accept
	Version   string   `cbor:"version"`
	Abilities []string `cbor:"abilities,omitempty"`
	Part      Raw      `cbor:"part,omitzero"` // whatever else the sides want to know first
}

// A Greeting is a stream on which both sides have introduced themselves. It goes on as a Conn or as a plain stream.
type Greeting struct {
	conn    *Conn
	calling bool
}

// Dial begins on the calling side. The context is for the beginning only. Nothing is written before the far side has proved
// to be our program: it might be a shell, which would run it. What a login shell prints before is skipped, see Banner. The
// error is a *NoAgentError if nothing else comes, and a *ProtocolError if the versions do not fit.
//
// Dial takes over rw, and closes it if it fails. Close must end a Read and a Write that wait.
func Dial(ctx context.Context, rw io.ReadWriteCloser, hello Hello, o Options) (*Greeting, error) {
	c := newConn(rw, o, maxReply, maxCall)
	noise := &noise{}
	err := c.begin(ctx, func() error {
		if err := noise.skip(c.in); err != nil {
			return err
		}
		go c.greet(hello)
		return c.meet(hello)
	})
	if said, clean := noise.said(); err != nil && !clean {
		err = &NoAgentError{Said: said, Err: err}
	}
	if err != nil {
		return nil, err
	}
	c.banner = noise.banner()
	return &Greeting{c, true}, nil
}

// Accept begins on the serving side. See Dial; here the magic must come first.
func Accept(ctx context.Context, rw io.ReadWriteCloser, hello Hello, o Options) (*Greeting, error) {
	c := newConn(rw, o, maxCall, maxReply)
	err := c.begin(ctx, func() error {
		go c.greet(hello)
		if err := demandMagic(c.in); err != nil {
			return err
		}
		return c.meet(hello)
	})
	if err != nil {
		return nil, err
	}
	return &Greeting{c, false}, nil
}

// Peer is the far side's hello.
func (g *Greeting) Peer() Hello { return g.conn.peer }

// Banner is what came before the far side's first word, up to 64 KiB, unchanged: a login shell's greeting.
func (g *Greeting) Banner() string { return g.conn.banner }

// Conn goes on with calls. On the serving side Serve is to follow.
func (g *Greeting) Conn() *Conn {
	g.conn.start()
	if g.calling {
		go g.conn.listen()
	}
	return g.conn
}

// Stream goes on with whatever else the sides have agreed on.
func (g *Greeting) Stream() io.ReadWriteCloser { return rest{g.conn.in, g.conn.rw} }

// rest is a stream of which some may have been read ahead.
type rest struct {
	io.Reader
	io.WriteCloser
}

// begin runs the handshake, and ends the connection if that fails or the context ends.
func (c *Conn) begin(ctx context.Context, handshake func() error) error {
	done := make(chan error, 1)
	go func() { done <- handshake() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

// greet writes magic and hello. It has a goroutine of its own, as both sides may write first.
func (c *Conn) greet(hello Hello) {
	hello.Protocol = Protocol
	frame, err := encodeFrame(hello, maxHello)
	if err == nil {
		_, err = c.rw.Write(append([]byte(magic), frame...))
	}
	c.greeted <- err
}

// meet reads the far side's hello and compares. Before it refuses, the far side has got ours, and can tell the same.
func (c *Conn) meet(hello Hello) error {
	if err := readFrame(c.in, maxHello, &c.peer); err != nil {
		return broken(err)
	}
	if err := <-c.greeted; err != nil {
		return broken(err)
	}
	if c.peer.Protocol != Protocol {
		return &ProtocolError{Ours: Protocol, Theirs: c.peer.Protocol, OurVersion: hello.Version, TheirVersion: c.peer.Version}
	}
	return nil
}

func demandMagic(r io.Reader) error {
	got := make([]byte, len(magic))
	if n, err := io.ReadFull(r, got); err != nil {
		return &NoAgentError{Said: oneLine(got[:n]), Err: err}
	}
	if string(got) != magic {
		return &NoAgentError{Said: oneLine(got), Err: errors.New("something else came first")}
	}
	return nil
}
