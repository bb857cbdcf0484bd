package btrfstest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// recorder stands in for a test that is expected to fail or skip.
type recorder struct {
	testing.TB
	failed, skipped bool
	output          strings.Builder
	cleanups        []func()
}

// record runs body as a test of its own, with its cleanups.
func record(t *testing.T, body func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	r.await(func() { body(r) })
	for _, cleanup := range slices.Backward(r.cleanups) {
		r.await(cleanup)
	}
	return r
}

// await lets Fatal and Skip end f alone.
func (r *recorder) await(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (r *recorder) Helper()                   {}
func (r *recorder) Failed() bool              { return r.failed }
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(f string, a ...any)   { fmt.Fprintf(&r.output, f+"\n", a...) }
func (r *recorder) Errorf(f string, a ...any) { r.failed = true; r.Logf(f, a...) }
func (r *recorder) Fatalf(f string, a ...any) { r.Errorf(f, a...); runtime.Goexit() }
func (r *recorder) Fatal(a ...any)            { r.Fatalf("%s", fmt.Sprint(a...)) }
func (r *recorder) Skip(...any)               { r.skipped = true; runtime.Goexit() }
