package picture

import (
	"io"
	"testing"
)

func BenchmarkKept(b *testing.B) {
	for _, policy := range []string{"", "14d 8w 12m", "365d"} {
		b.Run("kept "+policy, func(b *testing.B) {
			for b.Loop() {
				kept("/mnt/usb", policy, 200)
			}
		})
	}
	p := large(5, 200, "14d 8w 12m *y")
	all := large(5, 200, "")
	b.Run("html policy", func(b *testing.B) {
		for b.Loop() {
			_ = p.WriteHTML(io.Discard)
		}
	})
	b.Run("html all", func(b *testing.B) {
		for b.Loop() {
			_ = all.WriteHTML(io.Discard)
		}
	})
}
