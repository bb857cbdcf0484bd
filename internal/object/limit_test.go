package object

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

func TestNoMoreIsStoredThanTheLimitLets(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, err := OpenFolder(dir, "store:x")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, began := Limit(f, rate.NewLimiter(1<<20, 64<<10)), time.Now()
		for _, key := range []string{"a", "b", "c"} {
			if err := b.Put(t.Context(), key, make([]byte, 2<<20), PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 5900*time.Millisecond || took > 6100*time.Millisecond {
			t.Errorf("6 MiB at 1 MiB a second took %s", took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("no more of that")
		cancel(cause)
		if err := b.Put(ctx, "d", make([]byte, 1<<20), PutOptions{}); !errors.Is(err, cause) {
			t.Errorf("it ended with %v", err)
		}
	})
}
