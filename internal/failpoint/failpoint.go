// Package failpoint names the steps at which a killed program, or a power failure, must leave nothing wrong: those that change a
// disk. It does nothing but for tests, which end the program there.
package failpoint

var reached = func(step string) {}

// Reach tells that a step is done.
func Reach(step string) { reached(step) }

// OnReach makes each step call f from now on. Only tests call it, before the first step.
func OnReach(f func(step string)) { reached = f }
