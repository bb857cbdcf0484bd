package transport

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// NewLimiter gives a limiter of bytes per second.
func NewLimiter(limit rate.Limit) *rate.Limiter {
	const burst = 64 << 10
	return rate.NewLimiter(limit, burst)
}

// Limit gives a writer that writes to w no faster than the limiter lets it; with a nil one, w itself. Waiting ends with ctx.
func Limit(ctx context.Context, w io.Writer, limiter *rate.Limiter) io.Writer {
	if limiter == nil {
		return w
	}
	return &limitedWriter{ctx, w, limiter}
}

type limitedWriter struct {
	ctx     context.Context
	w       io.Writer
	limiter *rate.Limiter
}

func (l *limitedWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), l.limiter.Burst())]
		if err := l.limiter.WaitN(l.ctx, len(part)); err != nil {
			return written, err
		}
		n, err := l.w.Write(part)
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}
