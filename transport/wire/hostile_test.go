package wire

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

func frameOf(h header, payload []byte) []byte {
	b := make([]byte, blockHeader, blockHeader+len(payload))
	h.put(b)
	return append(b, payload...)
}

func rawBlock(offset uint64, data []byte) []byte {
	return frameOf(header{offset: offset, raw: uint32(len(data)), payload: uint32(len(data))}, data)
}

func zstdBlock(offset uint64, raw int, data []byte) []byte {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	z := encoder.EncodeAll(data, nil)
	return frameOf(header{offset: offset, raw: uint32(raw), payload: uint32(len(z)), flags: flagZstd}, z)
}

func endAt(offset uint64) []byte { return frameOf(header{offset: offset, flags: flagEnd}, nil) }

func TestReceiverRejectsMalformedBlocks(t *testing.T) {
	ten := make([]byte, 10)
	zeros := make([]byte, maxBlock+1)
	corrupt := zstdBlock(0, 1000, zeros[:1000])
	corrupt[len(corrupt)-1] ^= 1
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	for name, frames := range map[string][]byte{
		"empty block":           rawBlock(0, nil),
		"long block":            rawBlock(0, zeros),
		"long payload":          frameOf(header{raw: 10, payload: math.MaxUint32, flags: flagZstd}, nil),
		"payload unlike length": frameOf(header{raw: 10, payload: 9}, ten),
		"unknown flag":          frameOf(header{raw: 10, payload: 10, flags: 4}, ten),
		"end with data":         frameOf(header{raw: 10, payload: 10, flags: flagEnd}, ten),
		"duplicate":             join(rawBlock(20, ten), rawBlock(20, ten)),
		"before the beginning":  join(rawBlock(0, ten), rawBlock(5, ten)),
		"overlap behind":        join(rawBlock(20, ten), rawBlock(25, ten)),
		"overlap before":        join(rawBlock(20, ten), rawBlock(15, ten)),
		"overlap around":        join(rawBlock(20, ten), rawBlock(15, zeros[:30])),
		"too far ahead":         rawBlock(maxAhead-9, ten),
		"wrapping around":       rawBlock(math.MaxUint64-5, ten),
		"behind the end":        join(endAt(20), rawBlock(15, ten)),
		"end before a block":    join(rawBlock(20, ten), endAt(25)),
		"end before the start":  join(rawBlock(0, ten), endAt(5)),
		"second end":            join(endAt(20), endAt(30)),
		"zstd too long":         zstdBlock(0, 999, zeros[:1000]),
		"zstd too short":        zstdBlock(0, 1001, zeros[:1000]),
		"zstd bomb":             zstdBlock(0, 1000, make([]byte, 64<<20)),
		"zstd corrupt":          corrupt,
		"zstd not":              frameOf(header{raw: 100, payload: 10, flags: flagZstd}, ten),
	} {
		synctest.Test(t, func(t *testing.T) {
			r := NewReceiver(ReceiverOptions{})
			a, b := net.Pipe()
			r.Add(b)
			go io.Copy(io.Discard, a)
			go a.Write(frames)
			var got bytes.Buffer
			_, err := r.WriteTo(&got)
			if !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrBroken) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := a.Write(ten); err == nil {
				t.Errorf("%s: the connection stays open", name)
			}
		})
	}
}

func TestReceiverRejectsWhatItHasTaken(t *testing.T) {
	for name, frame := range map[string][]byte{
		"before the beginning": rawBlock(50, make([]byte, 10)),
		"across the beginning": rawBlock(95, make([]byte, 10)),
		"once more":            rawBlock(100, make([]byte, 10)),
		"end":                  endAt(105),
	} {
		synctest.Test(t, func(t *testing.T) {
			r := NewReceiver(ReceiverOptions{Offset: 100})
			a, b := net.Pipe()
			defer a.Close()
			r.Add(b)
			go io.Copy(io.Discard, a)
			go func() {
				a.Write(rawBlock(100, make([]byte, 10)))
				synctest.Wait()
				a.Write(frame)
			}()
			time.AfterFunc(time.Minute, func() { r.Abort(nil) })
			if n, err := r.WriteTo(io.Discard); n != 10 || !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		})
	}
}

func TestReceiverTakesBlocksInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReceiver(ReceiverOptions{Offset: 100})
		a, b := net.Pipe()
		r.Add(b)
		go io.Copy(io.Discard, a)
		go func() {
			for _, frame := range [][]byte{
				rawBlock(203, []byte("end")), endAt(206), zstdBlock(103, 100, make([]byte, 100)), rawBlock(100, []byte("abc")),
			} {
				a.Write(frame)
			}
			synctest.Wait()
			a.Close()
		}()
		var got bytes.Buffer
		if n, err := r.WriteTo(&got); n != 106 || err != nil || got.String() != "abc"+string(make([]byte, 100))+"end" {
			t.Errorf("%d %q %v", n, got.String(), err)
		}
	})
}

func TestSenderRejectsMalformedAcknowledgements(t *testing.T) {
	for name, a := range map[string]ack{
		"taken before the beginning": {taken: 50, arrived: 100},
		"arrived more than sent":     {taken: 100, arrived: 1 << 40},
		"taken more than arrived":    {taken: 120, arrived: 110},
		"done too early":             {taken: 100, arrived: 100, state: stateDone},
		"unknown state":              {taken: 100, arrived: 100, state: 9},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := NewSender(SenderOptions{Offset: 100, Compression: None})
			x, y := net.Pipe()
			s.Add(x)
			go io.Copy(io.Discard, y)
			s.Write(make([]byte, 2*blockSize))
			synctest.Wait()
			b := make([]byte, ackLength)
			a.put(b)
			y.Write(b)
			if err := s.Close(); !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrBroken) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestReceiverMemoryIsBoundedWhateverIsSent(t *testing.T) {
	for _, size := range []int{1, 1000, blockSize/2 + 1, blockSize, maxBlock} {
		before := heap()
		r := NewReceiver(ReceiverOptions{})
		a, b := socketpair(t)
		r.Add(b)
		go io.Copy(io.Discard, a)
		data := make([]byte, size)
		for at := uint64(1); ; at += uint64(size) { // never the head
			if _, err := a.Write(rawBlock(at, data)); err != nil {
				break
			}
			if at > 2*maxAhead {
				t.Fatalf("blocks of %d up to %d taken", size, at)
			}
		}
		if grown := int64(heap()) - int64(before); grown > maxAhead*3/2 {
			t.Errorf("blocks of %d took %d bytes", size, grown)
		}
		if _, err := r.WriteTo(io.Discard); !errors.Is(err, ErrMalformed) {
			t.Errorf("blocks of %d: %v", size, err)
		}
	}
}

func TestSenderStopsForAReceiverThatDoesNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := NewSender(SenderOptions{Compression: None}), NewReceiver(ReceiverOptions{})
		for range 4 {
			a, b := (&line{delay: time.Millisecond}).connect()
			s.Add(a)
			r.Add(b)
		}
		var wrote int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				n, err := s.Write(make([]byte, 10000))
				if wrote += n; err != nil {
					return
				}
			}
		}()
		time.Sleep(time.Hour)
		s.Abort(nil)
		r.Abort(nil)
		<-done
		if wrote > minWindow+8*blockSize {
			t.Errorf("%d bytes written that nobody takes", wrote)
		}
	})
}

func FuzzReceiver(f *testing.F) {
	f.Add(bytes.Join([][]byte{rawBlock(3, []byte("def")), rawBlock(0, []byte("abc")), endAt(6)}, nil))
	f.Add(bytes.Join([][]byte{zstdBlock(0, 1000, make([]byte, 1000)), endAt(1000)}, nil))
	f.Add(endAt(0))
	f.Fuzz(func(t *testing.T, frames []byte) {
		hang := time.AfterFunc(5*time.Minute, func() { panic("hang") })
		defer hang.Stop()
		r := NewReceiver(ReceiverOptions{})
		a, b := net.Pipe()
		r.Add(b)
		go io.Copy(io.Discard, a)
		go func() {
			a.Write(frames)
			a.Close()
		}()
		var got bytes.Buffer
		n, err := r.WriteTo(&got)
		if n != int64(got.Len()) {
			t.Errorf("count %d of %d", n, got.Len())
		}
		if err != nil && !errors.Is(err, ErrBroken) {
			t.Error(err)
		}
	})
}
