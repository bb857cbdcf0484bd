package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// testStream is a stream of n bytes, of which stretches shrink and others do not.
func testStream(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 0, n+8)
	for len(data) < n {
		stretch := rng.IntN(1 << 20)
		random := rng.IntN(2) == 0
		for i := 0; i < stretch && len(data) < n; i += 8 {
			v := uint64(i)
			if random {
				v = rng.Uint64()
			}
			data = append(data, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
		}
	}
	return data[:n]
}

// writeAll writes a stream in pieces of random sizes, and closes the sender.
func writeAll(s *Sender, data []byte, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	for len(data) > 0 {
		n := min(len(data), 1+rng.IntN(1<<(1+rng.IntN(20))))
		if _, err := s.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return s.Close()
}

// carry runs a stream through a pair, and returns what came out, and both errors.
func carry(s *Sender, r *Receiver, data []byte) (got []byte, sendErr, receiveErr error) {
	done := make(chan error, 1)
	go func() { done <- writeAll(s, data, uint64(len(data))) }()
	var b bytes.Buffer
	n, err := r.WriteTo(&b)
	if n != int64(b.Len()) {
		err = errors.Join(err, fmt.Errorf("count %d of %d", n, b.Len()))
	}
	return b.Bytes(), <-done, err
}

// The bubble of synctest fails if a goroutine is left behind.

func TestStripesCarryAStreamInOrder(t *testing.T) {
	for conns := 1; conns <= 8; conns++ {
		for _, size := range []int{0, 1, blockSize - 1, blockSize, blockSize + 1, 3<<20 + 11} {
			mode := Compression((conns + size) % 3)
			synctest.Test(t, func(t *testing.T) {
				s, r := NewSender(SenderOptions{Compression: mode}), NewReceiver(ReceiverOptions{})
				for i := range conns {
					a, b := (&line{delay: time.Duration(rand.IntN(20)*i) * time.Millisecond}).connect()
					s.Add(a)
					r.Add(b)
				}
				data := testStream(uint64(size), size)
				got, sendErr, err := carry(s, r, data)
				if sendErr != nil || err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d connections, %d bytes, %v: got %d bytes, %v, %v", conns, size, mode, len(got), sendErr, err)
				}
			})
		}
	}
}

// writes counts what is written to a connection.
type writes struct {
	io.ReadWriteCloser
	times, odd atomic.Int64 // odd are those that leave a part of a packet of SSH
}

func (w *writes) Write(p []byte) (int, error) {
	const packet = 32 << 10
	w.times.Add(1)
	if len(p)%packet != 0 {
		w.odd.Add(1)
	}
	return w.ReadWriteCloser.Write(p)
}

func TestFewPacketsCarryAStreamAndItsAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := NewSender(SenderOptions{Compression: None}), NewReceiver(ReceiverOptions{})
		a, b := (&line{delay: time.Millisecond, rate: 200e6}).connect()
		blocks, acks := &writes{ReadWriteCloser: a}, &writes{ReadWriteCloser: b}
		s.Add(blocks)
		r.Add(acks)
		began := time.Now()
		if _, sendErr, err := carry(s, r, testStream(4, 32<<20)); sendErr != nil || err != nil {
			t.Fatal(sendErr, err)
		}
		const ends = 2 // the last block, which need not be full, and the end
		if blocks.odd.Load() > ends {
			t.Errorf("%d of %d blocks leave a part of a packet", blocks.odd.Load(), blocks.times.Load())
		}
		if most := int64(time.Since(began)/ackPause) + ends; acks.times.Load() > most {
			t.Errorf("%d acknowledgements, want at most %d", acks.times.Load(), most)
		}
	})
}

func TestStripesCarryAStreamOverSockets(t *testing.T) {
	for mode := range compressions {
		s, r := NewSender(SenderOptions{Compression: Compression(mode)}), NewReceiver(ReceiverOptions{})
		for range 4 {
			a, b := socketpair(t)
			s.Add(a)
			r.Add(b)
		}
		data := testStream(7, 20<<20)
		got, sendErr, err := carry(s, r, data)
		if sendErr != nil || err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: got %d bytes, %v, %v", Compression(mode), len(got), sendErr, err)
		}
	}
}

func TestConnectionsMayBeAddedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := NewSender(SenderOptions{}), NewReceiver(ReceiverOptions{})
		var used atomic.Int32
		for i := range 4 {
			time.AfterFunc(time.Duration(4-i)*30*time.Millisecond, func() {
				a, b := (&line{rate: 50e6}).connect()
				s.Add(&noticing{ReadWriteCloser: a, wrote: func() { used.Add(1) }})
				time.Sleep(time.Millisecond)
				r.Add(b)
			})
		}
		data := testStream(1, 30<<20)
		got, sendErr, err := carry(s, r, data)
		if sendErr != nil || err != nil || !bytes.Equal(got, data) {
			t.Fatalf("got %d bytes, %v, %v", len(got), sendErr, err)
		}
		if used.Load() != 4 {
			t.Errorf("%d of 4 connections used", used.Load())
		}
	})
}

// noticing tells of the first write.
type noticing struct {
	io.ReadWriteCloser
	wrote func()
}

func (n *noticing) Write(p []byte) (int, error) {
	if n.wrote != nil {
		n.wrote()
		n.wrote = nil
	}
	return n.ReadWriteCloser.Write(p)
}

func TestABrokenConnectionBreaksTheStreamAndItCanBeContinued(t *testing.T) {
	data := testStream(2, 6<<20)
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			s, r := NewSender(SenderOptions{Compression: Zstd}), NewReceiver(ReceiverOptions{})
			for range 1 + rng.IntN(4)*int(1-seed%2) { // several only if blocks fail: acknowledgements choose their way
				a, b := (&line{delay: time.Duration(rng.IntN(5)) * time.Millisecond}).connect()
				if seed%2 == 0 {
					a = &brittle{a, rng.IntN(600 << 10)}
				} else {
					b = &brittle{b, rng.IntN(4 * ackLength)}
				}
				s.Add(a)
				r.Add(b)
			}
			got, sendErr, err := carry(s, r, data)
			if !errors.Is(sendErr, ErrBroken) || !errors.Is(err, ErrBroken) {
				t.Fatalf("seed %d: errors %v and %v", seed, sendErr, err)
			}
			at := int64(len(got))
			s2, r2 := NewSender(SenderOptions{Offset: at}), NewReceiver(ReceiverOptions{Offset: at})
			a, b := net.Pipe()
			s2.Add(a)
			r2.Add(b)
			rest, sendErr, err := carry(s2, r2, data[at:])
			if sendErr != nil || err != nil || !bytes.Equal(append(got, rest...), data) {
				t.Fatalf("seed %d: continued at %d: %d bytes, %v, %v", seed, at, len(rest), sendErr, err)
			}
		})
	}
}

func TestEOFWithoutAnEndBreaksTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReceiver(ReceiverOptions{})
		a, b := net.Pipe()
		go io.Copy(io.Discard, a)
		r.Add(b)
		a.Write(rawBlock(0, []byte("abc")))
		a.Close()
		var got bytes.Buffer
		if n, err := r.WriteTo(&got); n != 3 || got.String() != "abc" || !errors.Is(err, ErrBroken) {
			t.Errorf("wrote %d, %q: %v", n, got.String(), err)
		}
	})
}

func TestOffsetsThatDifferAreRefused(t *testing.T) {
	for _, at := range [][2]int64{{0, 5}, {5, 0}} {
		synctest.Test(t, func(t *testing.T) {
			s, r := NewSender(SenderOptions{Offset: at[0]}), NewReceiver(ReceiverOptions{Offset: at[1]})
			a, b := net.Pipe()
			s.Add(a)
			r.Add(b)
			_, sendErr, err := carry(s, r, make([]byte, 10<<20))
			if !errors.Is(errors.Join(sendErr, err), ErrMalformed) || !errors.Is(sendErr, ErrBroken) || !errors.Is(err, ErrBroken) {
				t.Errorf("%v: %v, %v", at, sendErr, err)
			}
		})
	}
}

// fullDisk takes so many bytes.
type fullDisk struct{ left int }

var errFull = errors.New("disk full")

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(d.left, len(p))
	d.left -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestAWriteErrorIsReturnedAndTheSenderRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := NewSender(SenderOptions{}), NewReceiver(ReceiverOptions{})
		for range 3 {
			a, b := net.Pipe()
			s.Add(a)
			r.Add(b)
		}
		done := make(chan error)
		go func() { done <- writeAll(s, make([]byte, 10<<20), 1) }()
		if n, err := r.WriteTo(&fullDisk{1 << 20}); n != 1<<20 || err != errFull {
			t.Errorf("WriteTo: %d, %v", n, err)
		}
		r.Abort(nil) // which must not cut off the refusal
		if err := <-done; !errors.Is(err, ErrRefused) || errors.Is(err, ErrBroken) {
			t.Errorf("Write: %v", err)
		}
	})
}

func TestAPeerThatDoesNotListenHoldsNobodyForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReceiver(ReceiverOptions{})
		a, b := net.Pipe()
		r.Add(b)
		go a.Write(rawBlock(0, []byte("abc")))
		if _, err := r.WriteTo(&fullDisk{}); err != errFull {
			t.Error(err)
		}
	})
}

func TestAbortReleasesEverybody(t *testing.T) {
	cause := errors.New("interrupted")
	for _, conns := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) {
			limit := rate.NewLimiter(1000, 1000)
			s, r := NewSender(SenderOptions{Limit: limit}), NewReceiver(ReceiverOptions{Limit: limit})
			for range conns {
				a, b := net.Pipe()
				s.Add(a)
				r.Add(b)
			}
			time.AfterFunc(time.Second, func() { s.Abort(cause) })
			if conns == 0 {
				time.AfterFunc(time.Second, func() { r.Abort(cause) })
			}
			_, sendErr, err := carry(s, r, make([]byte, 10<<20))
			if !errors.Is(sendErr, cause) || conns == 0 && !errors.Is(err, cause) || conns > 0 && !errors.Is(err, ErrBroken) {
				t.Errorf("%d connections: %v, %v", conns, sendErr, err)
			}
			if err := s.Close(); !errors.Is(err, cause) {
				t.Errorf("Close: %v", err)
			}
			a, b := net.Pipe()
			s.Add(a)
			r.Add(b)
			if _, err := b.Read(make([]byte, 1)); err == nil {
				t.Error("a connection added afterwards stays open")
			}
		})
	}
}

func TestAnAbortedReceiverStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("interrupted")
		s, r := NewSender(SenderOptions{Compression: None}), NewReceiver(ReceiverOptions{})
		a, b := (&line{rate: 1e6}).connect()
		s.Add(a)
		r.Add(b)
		time.AfterFunc(time.Second, func() { r.Abort(cause) })
		if _, sendErr, err := carry(s, r, make([]byte, 10<<20)); !errors.Is(sendErr, ErrBroken) || !errors.Is(err, cause) {
			t.Errorf("%v, %v", sendErr, err)
		}
		time.Sleep(time.Second) // the line's
	})
}

// writerFunc is a writer.
type writerFunc func(p []byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

func TestNothingIsWrittenAfterAnAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("interrupted")
		s, r := NewSender(SenderOptions{Compression: None}), NewReceiver(ReceiverOptions{})
		a, b := (&line{}).connect()
		s.Add(a)
		r.Add(b)
		go writeAll(s, make([]byte, 10<<20), 1)
		n, err := r.WriteTo(writerFunc(func(p []byte) (int, error) {
			synctest.Wait() // until all that fits has arrived
			r.Abort(cause)
			return len(p), nil
		}))
		if n == 0 || n > blockSize || !errors.Is(err, cause) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func TestAShortWriteIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := NewSender(SenderOptions{}), NewReceiver(ReceiverOptions{})
		a, b := (&line{}).connect()
		s.Add(a)
		r.Add(b)
		go writeAll(s, make([]byte, 1000), 1)
		if n, err := r.WriteTo(writerFunc(func([]byte) (int, error) { return 10, nil })); n != 10 || err != io.ErrShortWrite {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func TestTheLimitHoldsOnEitherSide(t *testing.T) {
	for _, sender := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			limit := rate.NewLimiter(1e6, 50e3) // a burst shorter than a block
			var so SenderOptions
			var ro ReceiverOptions
			var wire atomic.Int64
			count := func(n int) { wire.Add(int64(n)) }
			if sender {
				so = SenderOptions{Limit: limit, Compression: None, Wire: count}
			} else {
				so, ro = SenderOptions{Compression: None}, ReceiverOptions{Limit: limit, Wire: count}
			}
			s, r := NewSender(so), NewReceiver(ro)
			for range 3 {
				a, b := (&line{}).connect()
				s.Add(a)
				r.Add(b)
			}
			began := time.Now()
			const size = 10e6
			if _, sendErr, err := carry(s, r, make([]byte, size)); sendErr != nil || err != nil {
				t.Fatal(sendErr, err)
			}
			if n := wire.Load(); n < size || n > size+size/1000 { // of headers
				t.Errorf("counted %d bytes on the wire", n)
			}
			if d := time.Since(began); d < 9900*time.Millisecond || d > 10100*time.Millisecond {
				t.Errorf("%v for 10 MB at 1 MB/s", d)
			}
		})
	}
}
