package protocol

import "time"

// Freed does what the method of host.Space does.
var Freed = verb[FreedCall, []int64, Nothing]("freed", Owner, repeatable)

type FreedCall struct {
	Dir
	Groups [][]string
	Within time.Duration
}
