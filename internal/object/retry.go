package object

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7"
)

// An operation is what is done with a server, and the permission for it.
type operation struct{ doing, action string }

const (
	shortest  = 200 * time.Millisecond // of the pauses between attempts
	longest   = 30 * time.Second
	unnoticed = 5 * time.Second // is what goes wrong for no longer
	// firstPatience is that with a server that has not answered yet: more likely its name is wrong, or it is down.
	firstPatience = 20 * time.Second
)

// try does something with an object, or with "" with the bucket, and again while that may help. An attempt during which the server
// answered well begins the time anew.
func (s *S3) try(ctx context.Context, op operation, key string, attempt func(context.Context, *minio.Core) error) error {
	began, pause, moves, told := time.Now(), shortest, 0, false
	for n := 1; ; n++ {
		client, err := s.inRegion()
		if err != nil {
			return err
		}
		a := &answer{}
		err = attempt(context.WithValue(ctx, answerKey{}, a), client)
		if a.header != nil {
			s.reached.Store(true)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return s.named(op, key, context.Cause(ctx))
		}
		if region, wrong := s.wrongRegion(ctx, err, a, client); wrong && moves < 3 && s.move(region, client) {
			moves++
			continue
		}
		if a.good > 0 {
			began, pause = time.Now(), shortest
		}
		wait := max(pause/2+rand.N(pause), retryAfter(a)) // #nosec G404: nothing depends on who guesses it
		if !again(err, n) || time.Since(began)+wait > s.patience() {
			return s.named(op, key, s.cause(op, key, err, a))
		}
		s.o.Log.Debug(fmt.Sprintf("%v: trying again in %s", s.named(op, key, err), wait.Round(time.Millisecond)))
		if time.Since(began) > unnoticed && !told {
			s.o.Log.Warn(fmt.Sprintf("%v: trying again for up to %s", s.named(op, key, s.cause(op, key, err, a)), s.patience()))
			told = true
		}
		if err := sleep(ctx, wait); err != nil {
			return s.named(op, key, err)
		}
		pause = min(2*pause, longest)
	}
}

func (s *S3) patience() time.Duration {
	if s.reached.Load() {
		return s.o.Patience
	}
	return min(s.o.Patience, firstPatience)
}

// retryAfter is what a server wants to be left alone for.
func retryAfter(a *answer) time.Duration {
	text := a.header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return time.Until(date)
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// named says what could not be done with what.
func (s *S3) named(op operation, key string, err error) error {
	if err == nil {
		return nil
	}
	if key == "" {
		return fmt.Errorf("%s %s: %w", op.doing, s, err)
	}
	return fmt.Errorf("%s %s of %s: %w", op.doing, key, s, err)
}
