package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// meet runs a handshake over a pipe, with something before what the server says.
func handshake(ctx context.Context, before string, client, server Hello) (c, s *Greeting, clientErr, serverErr error) {
	x, y := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.WriteString(y, before)
		s, serverErr = Accept(ctx, y, server, Options{})
	}()
	c, clientErr = Dial(ctx, x, client, Options{})
	<-done
	return c, s, clientErr, serverErr
}

func TestBothSidesIntroduceThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part, err := Encode(map[string]int{"answer": 42})
		if err != nil {
			t.Fatal(err)
		}
		c, s, cErr, sErr := handshake(t.Context(), "", Hello{Version: "1.0"},
			Hello{Version: "1.1", Abilities: []string{"send", "prune"}, Part: part})
		if cErr != nil || sErr != nil {
			t.Fatal(cErr, sErr)
		}
		defer s.Conn().Close()
		defer c.Conn().Close()
		if h := s.Peer(); h.Version != "1.0" || h.Protocol != Protocol || h.Abilities != nil {
			t.Errorf("the server knows %+v", h)
		}
		var got map[string]int
		h := c.Peer()
		if err := h.Part.Decode(&got); err != nil || got["answer"] != 42 || len(h.Abilities) != 2 || h.Version != "1.1" {
			t.Errorf("the client knows %+v, %v, %v", h, got, err)
		}
		if c.Banner() != "" {
			t.Errorf("banner %q", c.Banner())
		}
	})
}

func TestABannerIsSkippedAndKept(t *testing.T) {
	for _, banner := range []string{"Welcome to nas\r\n", magic[:5] + magic[:9], strings.Repeat("x", maxNoise)} {
		synctest.Test(t, func(t *testing.T) {
			c, s, cErr, sErr := handshake(t.Context(), banner, Hello{}, Hello{})
			if cErr != nil || sErr != nil {
				t.Fatal(cErr, sErr)
			}
			defer s.Conn().Close()
			defer c.Conn().Close()
			if c.Banner() != banner {
				t.Errorf("banner %.100q", c.Banner())
			}
		})
	}
}

func TestWhatIsNotOurProgramIsToldInOneLine(t *testing.T) {
	for name, c := range map[string]struct {
		says  string
		stays bool // does not close the stream
		want  string
	}{
		"a complaint":      {"bash: \x1b[1mbtrfs-backup\x1b[0m:\n command not found\n", false, "btrfs-backup\x1b[0m: command not found"},
		"nothing":          {"", false, ""},
		"silence":          {"Password: ", true, "Password:"},
		"the end counts":   {strings.Repeat("hello ", 1000) + "no such file", false, "no such file"},
		"no end of noise":  {strings.Repeat("y\n", maxNoise), true, "y y y"},
		"bytes":            {"\xff\xfe\x00caf\xc3\xa9", false, "café"},
		"a terminal's way": {"\x00\xffbtrfs-backup\r\r\n", false, "btrfs-backup"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			x, y := net.Pipe()
			wrote := make(chan []byte, 1)
			go func() {
				io.WriteString(y, c.says)
				if !c.stays {
					y.Close()
				}
				got, _ := io.ReadAll(y)
				wrote <- got
			}()
			conn, err := Dial(ctx, x, Hello{}, Options{})
			var none *NoAgentError
			if conn != nil || !errors.As(err, &none) {
				t.Fatalf("%s: %v, %v", name, conn, err)
			}
			if !strings.Contains(none.Said, c.want) || len(none.Said) > 410 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q", name, err)
			}
			if got := <-wrote; len(got) > 0 {
				t.Errorf("%s: %q was written to a shell", name, got)
			}
			if late := errors.Is(err, context.DeadlineExceeded); late != (name == "silence") {
				t.Errorf("%s: %v, the deadline: %v", name, none.Err, late)
			}
		})
	}
}

func TestTheServerDemandsTheMagicFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hello := string(frame(Hello{Protocol: Protocol}))
		for _, says := range []string{"", "GET / HTTP/1.1\r\n\r\n", " " + magic + hello, strings.ToUpper(magic) + hello} {
			x, y := net.Pipe()
			go io.Copy(io.Discard, x)
			go func() {
				io.WriteString(x, says)
				x.Close()
			}()
			var none *NoAgentError
			if conn, err := Accept(t.Context(), y, Hello{}, Options{}); conn != nil || !errors.As(err, &none) {
				t.Errorf("%q: %v, %v", says, conn, err)
			}
		}
	})
}

// stranger answers with a hello of its own.
func stranger(y net.Conn, hello any) {
	frame, err := encodeFrame(hello, maxHello)
	if err != nil {
		panic(err)
	}
	io.WriteString(y, magic+string(frame))
	io.Copy(io.Discard, y)
}

func TestAnotherProtocolIsRefusedWithAHint(t *testing.T) {
	for protocol, hint := range map[int]string{Protocol - 1: "far side", Protocol + 1: "this machine"} {
		synctest.Test(t, func(t *testing.T) {
			x, y := net.Pipe()
			go stranger(y, map[string]any{"protocol": protocol, "version": "9.9", "new": []int{1}})
			_, err := Dial(t.Context(), x, Hello{Version: "1.0"}, Options{})
			var mismatch *ProtocolError
			if !errors.As(err, &mismatch) || mismatch.Theirs != protocol || mismatch.TheirVersion != "9.9" {
				t.Fatal(err)
			}
			if !strings.Contains(mismatch.Hint(), hint) {
				t.Errorf("protocol %d: %s", protocol, mismatch.Hint())
			}
		})
	}
}

func TestAHelloWithUnknownFieldsIsUnderstood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		go stranger(y, map[string]any{"protocol": Protocol, "version": "9.9", "new": []int{1}})
		c, err := Dial(t.Context(), x, Hello{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.Conn().Close()
	})
}

func TestAGreetingGoesOnAsAStreamWithNothingLost(t *testing.T) {
	x, y := net.Pipe()
	accepted := make(chan *Greeting, 1)
	go func() {
		g, err := Accept(t.Context(), y, Hello{}, Options{})
		if err != nil {
			panic(err)
		}
		accepted <- g
	}()
	g, err := Dial(t.Context(), x, Hello{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	calling, serving := g.Stream(), (<-accepted).Stream()
	for _, way := range []struct{ from, to io.ReadWriteCloser }{{calling, serving}, {serving, calling}} {
		go io.WriteString(way.from, "what follows")
		got := make([]byte, len("what follows"))
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "what follows" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := errors.Join(calling.Close(), serving.Close()); err != nil {
		t.Error(err)
	}
}
