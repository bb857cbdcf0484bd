package wire

import (
	"fmt"
	"io"
	"testing"
)

func BenchmarkStripes(b *testing.B) {
	data := testStream(3, 16<<20)
	for _, conns := range []int{1, 4} {
		for _, mode := range []Compression{None, Zstd, Auto} {
			b.Run(fmt.Sprintf("%d/%v", conns, mode), func(b *testing.B) {
				s, r := NewSender(SenderOptions{Compression: mode}), NewReceiver(ReceiverOptions{})
				for range conns {
					x, y := socketpair(b)
					s.Add(x)
					r.Add(y)
				}
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				done := make(chan error, 1)
				go func() {
					_, err := r.WriteTo(io.Discard)
					done <- err
				}()
				for b.Loop() {
					if _, err := s.Write(data); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
