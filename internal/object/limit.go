package object

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"
)

// Limit gives a bucket in which no more bytes a second are stored, on average, than a limiter lets; with a nil one, b itself.
func Limit(b Bucket, to *rate.Limiter) Bucket {
	if to == nil {
		return b
	}
	return limited{b, to}
}

type limited struct {
	Bucket
	to *rate.Limiter
}

// Put waits before it stores an object, for as long as that may take.
func (l limited) Put(ctx context.Context, key string, content []byte, o PutOptions) error {
	for rest := len(content); rest > 0; rest -= l.to.Burst() {
		if err := l.to.WaitN(ctx, min(rest, l.to.Burst())); err != nil {
			return fmt.Errorf("storing %s of %s: %w", key, l, context.Cause(ctx))
		}
	}
	return l.Bucket.Put(ctx, key, content, o)
}
