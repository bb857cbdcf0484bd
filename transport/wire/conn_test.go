package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A session is a client, and a server that runs a handler.
type session struct {
	*Conn
	server *Conn
	served chan error
}

// dial begins a Conn on the calling side.
func dial(ctx context.Context, rw io.ReadWriteCloser, o Options) (*Conn, error) {
	g, err := Dial(ctx, rw, Hello{}, o)
	if err != nil {
		return nil, err
	}
	return g.Conn(), nil
}

// accept begins a Conn on the serving side.
func accept(ctx context.Context, rw io.ReadWriteCloser, o Options) (*Conn, error) {
	g, err := Accept(ctx, rw, Hello{}, o)
	if err != nil {
		return nil, err
	}
	return g.Conn(), nil
}

func connect(t *testing.T, o Options, handle Handler) *session {
	t.Helper()
	x, y := (&line{}).connect()
	return connectOver(t, x, y, o, handle)
}

func connectOver(t *testing.T, x, y io.ReadWriteCloser, o Options, handle Handler) *session {
	t.Helper()
	s := &session{served: make(chan error, 1)}
	accepted := make(chan error, 1)
	go func() {
		var err error
		s.server, err = accept(t.Context(), y, o)
		accepted <- err
	}()
	c, err := dial(t.Context(), x, o)
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	s.Conn = c
	go func() { s.served <- s.server.Serve(context.WithoutCancel(t.Context()), handle) }()
	return s
}

// end closes the client, and expects the server to be content.
func (s *session) end(t *testing.T) {
	t.Helper()
	s.Close()
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestValuesTravelUnchanged(t *testing.T) {
	type value struct {
		Path  string
		ID    [16]byte
		Time  time.Time
		None  time.Time
		Bytes []byte
		Big   uint64
		Map   map[string]string
		Raw   Raw
	}
	type newer struct {
		value
		Path  string
		Added []string
	}
	synctest.Test(t, func(t *testing.T) {
		s := connect(t, Options{}, func(_ context.Context, verb string, args Raw, _ func(any)) (any, error) {
			var v value
			if err := args.Decode(&v); err != nil {
				return nil, err
			}
			return newer{value: v, Path: v.Path, Added: []string{verb}}, nil
		})
		defer s.end(t)
		raw, err := Encode([]string{"x"})
		if err != nil {
			t.Fatal(err)
		}
		in := value{Path: "/a\xff\xfe\x00b\n", ID: [16]byte{1, 15: 0xff}, Bytes: []byte{0}, Big: math.MaxUint64,
			Time: time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.FixedZone("", 5400)), Map: map[string]string{"\xff": "\xfe"}, Raw: raw}
		var out value
		if err := s.Call(t.Context(), "echo", in, &out, nil); err != nil {
			t.Fatal(err)
		}
		if !out.Time.Equal(in.Time) || !out.None.IsZero() {
			t.Errorf("times %v and %v", out.Time, out.None)
		}
		out.Time, out.None = in.Time, in.None
		if !reflect.DeepEqual(in, out) {
			t.Errorf("%#v\nbecame %#v", in, out)
		}
		if err := s.Call(t.Context(), "nothing", nil, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestCallsRunAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		s := connect(t, Options{}, func(_ context.Context, _ string, args Raw, _ func(any)) (any, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(time.Second)
			return args, nil
		})
		defer s.end(t)
		began := time.Now()
		done := make(chan error)
		for i := range 100 {
			go func() {
				var got int
				err := s.Call(t.Context(), "echo", i, &got, nil)
				if err == nil && got != i {
					err = fmt.Errorf("%d for %d", got, i)
				}
				done <- err
			}()
		}
		for range 100 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("100 calls of a second took %v", d)
		}
	})
}

type hinted struct{ error }

func (hinted) Hint() string { return "try again" }

func TestErrorsTravelWithHintAndDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		detail, err := Encode("more")
		if err != nil {
			t.Fatal(err)
		}
		s := connect(t, Options{}, func(_ context.Context, verb string, _ Raw, _ func(any)) (any, error) {
			switch verb {
			case "plain":
				return nil, errors.New("no space")
			case "hint":
				return nil, fmt.Errorf("receiving: %w", hinted{errors.New("no space")})
			case "error":
				return nil, fmt.Errorf("receiving: %w", &Error{Text: "no space", Advice: "try again", Detail: detail})
			}
			return func() {}, nil // which cannot be encoded
		})
		defer s.end(t)
		for verb, want := range map[string]Error{
			"plain": {Text: "no space"},
			"hint":  {Text: "receiving: no space", Advice: "try again"},
			"error": {Text: "receiving: no space", Advice: "try again", Detail: detail},
		} {
			var got *Error
			err := s.Call(t.Context(), verb, nil, nil, nil)
			if !errors.As(err, &got) || got.Text != want.Text || got.Hint() != want.Advice || !bytes.Equal(got.Detail, want.Detail) {
				t.Errorf("%s: %#v", verb, err)
			}
		}
		var got *Error
		if err := s.Call(t.Context(), "function", nil, nil, nil); !errors.As(err, &got) {
			t.Error(err)
		}
	})
}

func TestNoticesComeInOrderBeforeTheReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const notices = 20000 // more than wait for a slow client
		s := connect(t, Options{}, func(_ context.Context, _ string, _ Raw, notify func(any)) (any, error) {
			for i := range notices {
				notify(i)
			}
			return "done", nil
		})
		defer s.end(t)
		next := 0
		err := s.Call(t.Context(), "count", nil, nil, func(r Raw) {
			var i int
			if err := r.Decode(&i); err != nil || i != next {
				t.Errorf("%d instead of %d: %v", i, next, err)
			}
			if next++; i == 10 {
				time.Sleep(10 * time.Minute) // during which the far side is not silent, but waits
			}
		})
		if err != nil || next != notices {
			t.Errorf("%d notices: %v", next, err)
		}
	})
}

func TestACancelledCallReturnsAtOnceAndEndsItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		s := connect(t, Options{}, func(ctx context.Context, verb string, _ Raw, _ func(any)) (any, error) {
			if verb == "wait" {
				<-ctx.Done()
				time.Sleep(time.Minute)
				close(ended)
			}
			return nil, nil
		})
		defer s.end(t)
		cause := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		began := time.Now()
		if err := s.Call(ctx, "wait", nil, nil, nil); err != cause || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		<-ended
		if err := s.Call(t.Context(), "more", nil, nil, nil); err != nil {
			t.Errorf("the next call: %v", err)
		}
		if err := s.Call(ctx, "more", nil, nil, nil); err != cause {
			t.Errorf("a call with an ended context: %v", err)
		}
	})
}

func TestACallReturnsThoughNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		go func() {
			frame, _ := encodeFrame(Hello{Protocol: Protocol}, maxHello)
			io.WriteString(y, magic+string(frame))
			io.ReadFull(y, make([]byte, len(magic)+len(frame))) // and no more
		}()
		c, err := dial(t.Context(), x, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := c.Call(ctx, "x", make([]byte, 1<<20), nil, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
	})
}

func TestABrokenStreamFailsAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		s := connect(t, Options{}, func(ctx context.Context, _ string, _ Raw, _ func(any)) (any, error) {
			<-ctx.Done()
			time.Sleep(time.Minute)
			ended.Add(1)
			return nil, nil
		})
		done := make(chan error)
		for range 10 {
			go func() { done <- s.Call(t.Context(), "wait", nil, nil, nil) }()
		}
		synctest.Wait()
		s.server.Close()
		for range 10 {
			if err := <-done; !errors.Is(err, ErrBroken) || !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
		if err := s.Call(t.Context(), "more", nil, nil, nil); !errors.Is(err, ErrBroken) {
			t.Error(err)
		}
		if err := <-s.served; !errors.Is(err, ErrClosed) || ended.Load() != 10 {
			t.Errorf("Serve returned %v with %d handlers ended", err, ended.Load())
		}
	})
}

func TestAReplyCountsThoughTheStreamBrokeAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := connect(t, Options{}, func(_ context.Context, _ string, _ Raw, notify func(any)) (any, error) {
			notify(1)
			return 42, nil
		})
		var got int
		err := s.Call(t.Context(), "x", nil, &got, func(Raw) {
			synctest.Wait()
			s.server.Close()
			synctest.Wait()
		})
		if err != nil || got != 42 {
			t.Errorf("%d, %v", got, err)
		}
		<-s.served
	})
}

func TestNoticesThatNobodyTakesAreFew(t *testing.T) {
	for _, size := range []int{1, 64 << 10} {
		in := newInbox()
		n := 0
		for in.put(message{Kind: kindNotice, Body: make(Raw, size)}) {
			if n++; n > maxInbox {
				t.Fatalf("%d notices of %d bytes wait", n, size)
			}
		}
		if n*size > maxInbox+size {
			t.Errorf("%d notices of %d bytes wait", n, size)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		go stranger(x, Hello{Protocol: Protocol})
		c, err := accept(t.Context(), y, Options{})
		if err != nil {
			t.Fatal(err)
		}
		cause := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := c.Serve(ctx, nil); err != cause {
			t.Error(err)
		}
	})
}

func TestAnIdleConnectionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := connect(t, Options{}, func(context.Context, string, Raw, func(any)) (any, error) { return nil, nil })
		defer s.end(t)
		time.Sleep(time.Hour)
		if err := s.Call(t.Context(), "x", nil, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// deafening swallows what is written to it from some time on.
type deafening struct {
	io.ReadWriteCloser
	on atomic.Bool
}

func (d *deafening) Write(p []byte) (int, error) {
	if d.on.Load() {
		return len(p), nil
	}
	return d.ReadWriteCloser.Write(p)
}

func TestASilentPeerIsGivenUp(t *testing.T) {
	for _, silentServer := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x, y := (&line{}).connect()
			cx, cy := &deafening{ReadWriteCloser: x}, &deafening{ReadWriteCloser: y}
			s := connectOver(t, cx, cy, Options{Beat: time.Second, Silence: 5 * time.Second},
				func(ctx context.Context, _ string, _ Raw, _ func(any)) (any, error) {
					<-ctx.Done()
					return nil, nil
				})
			time.Sleep(500 * time.Millisecond)
			began := time.Now()
			if silentServer {
				cy.on.Store(true)
			} else {
				cx.on.Store(true)
			}
			err := s.Call(t.Context(), "x", nil, nil, nil)
			serveErr := <-s.served
			if d := time.Since(began); d < 4*time.Second || d > 6*time.Second {
				t.Errorf("given up after %v", d)
			}
			if !errors.Is(err, ErrBroken) || silentServer != errors.Is(err, ErrSilent) || silentServer == errors.Is(serveErr, ErrSilent) {
				t.Errorf("Call: %v, Serve: %v", err, serveErr)
			}
		})
	}
}

func TestALongMessageIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := (&line{rate: 10e3}).connect()
		s := connectOver(t, x, y, Options{Beat: time.Second, Silence: 5 * time.Second},
			func(_ context.Context, _ string, args Raw, _ func(any)) (any, error) { return len(args), nil })
		defer s.end(t)
		var n int
		if err := s.Call(t.Context(), "x", make([]byte, 2e6), &n, nil); err != nil || n < 2e6 {
			t.Errorf("%d, %v", n, err)
		}
	})
}

func TestMessagesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := connect(t, Options{}, func(_ context.Context, verb string, _ Raw, _ func(any)) (any, error) {
			if verb == "long" {
				return make([]byte, maxReply), nil
			}
			return make([]byte, 2*maxCall), nil
		})
		defer s.end(t)
		if err := s.Call(t.Context(), "x", make([]byte, maxCall), nil, nil); err == nil || errors.Is(err, ErrBroken) {
			t.Errorf("a long call: %v", err)
		}
		var far *Error
		if err := s.Call(t.Context(), "long", nil, nil, nil); !errors.As(err, &far) {
			t.Errorf("a long reply: %v", err)
		}
		var got []byte
		if err := s.Call(t.Context(), "x", nil, &got, nil); err != nil || len(got) != 2*maxCall {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestCallsInFlightAreLimited(t *testing.T) {
	for _, size := range []int{0, maxCall - 1000} {
		synctest.Test(t, func(t *testing.T) {
			var running, most atomic.Int32
			release := make(chan struct{})
			s := connect(t, Options{}, func(context.Context, string, Raw, func(any)) (any, error) {
				most.Store(max(most.Load(), running.Add(1)))
				<-release
				running.Add(-1)
				return nil, nil
			})
			defer s.end(t)
			const calls = maxInFlight + 10
			done := make(chan error, calls)
			args := make([]byte, size)
			n := calls
			if size > 0 {
				n = 10
			}
			for range n {
				go func() { done <- s.Call(t.Context(), "wait", args, nil, nil) }()
			}
			synctest.Wait()
			close(release)
			refused := 0
			for range n {
				if err := <-done; err != nil {
					if !strings.Contains(err.Error(), "too many calls") {
						t.Error(err)
					}
					refused++
				}
			}
			if want := map[bool]int32{true: maxInFlight, false: maxInFlightBytes / maxCall}[size == 0]; most.Load() != want || refused != n-int(want) {
				t.Errorf("%d at a time, %d refused", most.Load(), refused)
			}
		})
	}
}

func frame(v any) []byte {
	b, err := encodeFrame(v, math.MaxInt32)
	if err != nil {
		panic(err)
	}
	return b
}

func lengthen(n uint32, data string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), data...)
}

func TestServeRejectsMalformedMessages(t *testing.T) {
	nested := strings.Repeat("\x81", 100) + "\x01"
	for name, b := range map[string][]byte{
		"too long":           lengthen(maxCall+1, ""),
		"empty":              lengthen(0, ""),
		"no CBOR":            lengthen(3, "\xff\xff\xff"),
		"more after it":      lengthen(3, "\xa0\xa0\xa0"),
		"no map":             lengthen(1, "\x01"),
		"no kind":            lengthen(1, "\xa0"),
		"duplicate key":      lengthen(5, "\xa2\x01\x01\x01\x01"),
		"nested":             frame(message{Kind: kindCall, Verb: "x", Body: Raw(nested)}),
		"a tag":              lengthen(6, "\xa2\x01\x02\x04\xc1\x01"),
		"a huge array":       lengthen(1<<20+10, "\xa2\x01\x02\x04\x9a\x00\x10\x00\x01"+strings.Repeat("\x00", 1<<20+1)),
		"a reply":            frame(message{Kind: kindReply}),
		"a notice":           frame(message{Kind: kindNotice}),
		"an unknown kind":    frame(message{Kind: 77}),
		"two calls, one ID":  append(frame(message{Kind: kindCall, ID: 1}), frame(message{Kind: kindCall, ID: 1})...),
		"an indefinite item": lengthen(7, "\xa2\x01\x02\x04\x9f\x01\xff"),
	} {
		synctest.Test(t, func(t *testing.T) {
			err, _ := serveBytes(t, b)
			if !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrBroken) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		err, _ := serveBytes(t, lengthen(1000, "\xa1\x01"))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut off: %v", err)
		}
	})
}

// serveBytes serves a client that says just this, and returns what Serve says and the number of calls.
func serveBytes(t *testing.T, b []byte) (error, int) {
	x, y := net.Pipe()
	go func() {
		io.WriteString(x, magic)
		x.Write(frame(Hello{Protocol: Protocol}))
		x.Write(b)
		x.Close()
	}()
	go io.Copy(io.Discard, x)
	c, err := accept(t.Context(), y, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	err = c.Serve(t.Context(), func(ctx context.Context, verb string, args Raw, notify func(any)) (any, error) {
		calls.Add(1)
		var v any
		if err := args.Decode(&v); err != nil {
			t.Errorf("a handler got %q: %v", args, err)
		}
		notify(1)
		<-ctx.Done()
		return v, nil
	})
	return err, int(calls.Load())
}

func TestAFrameTakesNoMoreMemoryThanArrives(t *testing.T) {
	before := heap()
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- readFrame(r, maxReply, new(message)) }()
	w.Write(lengthen(maxReply, "some"))
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("%d bytes for a header", grown)
	}
	w.Close()
	<-done
}

func FuzzServe(f *testing.F) {
	f.Add(append(frame(message{Kind: kindCall, ID: 1, Verb: "x", Body: Raw("\x01")}), frame(message{Kind: kindCancel, ID: 1})...))
	f.Add(append(frame(message{Kind: kindBeat}), frame(message{Kind: kindCall, ID: 1})...))
	f.Add(lengthen(maxCall, "\xa1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		hang := time.AfterFunc(5*time.Minute, func() { panic("hang") })
		defer hang.Stop()
		if err, _ := serveBytes(t, b); err != nil && !errors.Is(err, ErrBroken) {
			t.Error(err)
		}
	})
}
