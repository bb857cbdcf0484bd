// Package failpoint names the steps at which a killed program, or a power failure, must leave nothing wrong: those that change a
// disk. It does nothing but for tests, which end the program there, spoil the streams that
// the kernel makes, or have less patience.
package failpoint

import (
	"io"
	"time"
)

var (
	reached  = func(step string) {}
	stream   = func(r io.Reader) io.Reader { return r }
	patience = time.Duration(0)
)

// Reach tells that a step is done.
func Reach(step string) { reached(step) }

// OnReach makes each step call f from now on. Only tests call it, before the first step.
func OnReach(f func(step string)) { reached = f }

// Stream gives the stream to a destination that the kernel makes.
func Stream(r io.Reader) io.Reader { return stream(r) }

// OnStream gives what f makes of each stream in its place from now on. Only tests call it, before the first stream.
func OnStream(f func(r io.Reader) io.Reader) { stream = f }

// Patience gives how long a server that does not answer is waited for, which is usual unless a test wants less.
func Patience(usual time.Duration) time.Duration {
	if patience != 0 {
		return patience
	}
	return usual
}

// SetPatience sets it. Only tests call it, before a server is used.
func SetPatience(d time.Duration) { patience = d }
